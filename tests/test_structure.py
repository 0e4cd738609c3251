"""The shape of the project: no import circles, no crowded folder, no file that holds two ideas."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import grimp
import pytest

from tests.conftest import ROOT

PACKAGES = ("occlufix_vcam", "engines", "train")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MOST_FILES, MOST_LINES = 14, 400
#: What takes longer to import than the daemon takes to answer.
HEAVY = {"numpy", "cv2", "pydantic", "typer", "rich", "fastapi", "uvicorn", "keyring", "onnxruntime", "openvino"}


def circles(imports: dict[str, set[str]]) -> list[str]:
    """The modules on a circle or on the way to one: what is left once those that import none of the rest are gone."""
    left = dict(imports)
    while free := [module for module, imported in left.items() if not imported & left.keys()]:
        for module in free:
            del left[module]
    return sorted(left)


def test_a_circle_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


def test_no_module_imports_itself_through_others() -> None:
    """Also not inside a function, or for types only."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) >= len(FILES)
    assert circles(imports) == []


def test_the_architecture_page_names_every_module() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = page.partition("## Rooms")[2].split("```")[1]
    named = set(re.findall(r"\w+", rooms))
    own_folder = {"tray", "hotkey", "demo"}  # the page names these rooms alone
    stems = {path.stem for path in FILES if path.parent.name not in own_folder and not path.stem.startswith("__")}
    assert len(stems) > 100 and sorted(stems - named) == []


def test_a_folder_holds_one_room() -> None:
    crowded = {folder: count for folder, count in Counter(path.parent for path in FILES).items() if count > MOST_FILES}
    assert crowded == {}


def test_a_file_holds_one_idea() -> None:
    assert [path for path in FILES if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES] == []


def test_every_room_says_what_it_is() -> None:
    doors = [path for path in FILES if path.name == "__init__.py"]
    assert [path for path in doors if not path.read_text(encoding="utf-8").startswith('"""')] == []


@pytest.mark.parametrize(
    "module", ["occlufix_vcam", *(f"occlufix_vcam.client.{name}" for name in ("client", "fast_toggle", "launch"))]
)
def test_the_client_imports_nothing_heavy(module: str) -> None:
    look = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert HEAVY & set(loaded.split()) == set()
