"""Libraries that would report home are imported in one way only, and what got past it is told."""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from engines import offline
from tests.conftest import ROOT

REPORTERS = {"onnxruntime", "openvino", "openvino_telemetry", "insightface", "albumentations"}
BY_NAME = {"import_module", "__import__", "importorskip"}
ROOMS = ("engines", "occlufix_vcam", "train", "scripts", "tests", "docs")


def sources() -> Iterator[tuple[Path, str]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path, path.read_text(encoding="utf-8")
        for path in sorted((ROOT / room).rglob("*.ipynb")):
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            yield path, "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def imported(source: str) -> set[str]:
    """The packages that a program imports, by a statement or by name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module or "")
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            names |= {str(node.args[0].value)} if called in BY_NAME else set()
    return {name.partition(".")[0] for name in names}


def test_nothing_imports_a_library_that_reports_home_by_itself() -> None:
    found = {str(path.relative_to(ROOT)): names for path, text in sources() if (names := imported(text) & REPORTERS)}
    assert found == {}, "call engines.offline.import_offline instead"


@pytest.mark.parametrize(
    "source",
    [
        "import onnxruntime.capi as ort",
        "def f():\n    from onnxruntime import InferenceSession",
        "x = importlib.import_module('onnxruntime')",
        "pytest.importorskip('onnxruntime')",
    ],
)
def test_each_way_to_import_is_noticed(source: str) -> None:
    assert imported(source) == {"onnxruntime"}


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which none of the libraries was imported yet."""
    monkeypatch.setattr(offline, "_imported_before", set())
    for name in ("ORT_DISABLE_TELEMETRY", "NO_ALBUMENTATIONS_UPDATE"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    for name in ("onnxruntime", "openvino", "openvino_telemetry"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.delitem(sys.modules, name)


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def test_both_are_silenced_before_they_are_imported(
    fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "openvino.py").write_text(
        "import os\n"
        "asked = os.environ.get('ORT_DISABLE_TELEMETRY')\n"
        "try:\n    import openvino_telemetry as reporter\nexcept ImportError:\n    reporter = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = offline.import_offline("openvino")
    assert module.asked == "1" and module.reporter is None
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
    assert offline.reporting() == []


def test_onnx_runtime_is_told_once_more_where_it_can_be(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    stand_in(monkeypatch, "onnxruntime").disable_telemetry_events = lambda: told.append(True)  # type: ignore[attr-defined]
    offline.import_offline("onnxruntime")
    assert told == [True] and offline.reporting() == []


def test_a_library_that_was_there_before_is_told(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "onnxruntime")
    offline.import_offline("onnxruntime")
    (found,) = offline.reporting()
    assert "ONNX Runtime" in found and "imported before" in found


def test_a_switch_that_was_taken_away_is_told(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    stand_in(monkeypatch, "onnxruntime")
    offline.import_offline("onnxruntime")
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    (found,) = offline.reporting()
    assert "ORT_DISABLE_TELEMETRY" in found


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "open"])
def test_openvinos_reporter_is_told(fresh: None, monkeypatch: pytest.MonkeyPatch, loaded: bool) -> None:
    stand_in(monkeypatch, "openvino")
    if loaded:
        stand_in(monkeypatch, "openvino_telemetry")
    (found,) = offline.reporting()
    assert "OpenVINO" in found and "openvino_telemetry" in found
