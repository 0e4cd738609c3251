"""The frozen programs' first code, and what their recipes name. Nobody has tried them on Windows or macOS."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from occlufix_vcam import __version__

ROOT = Path(__file__).resolve().parents[2]
FROZEN = ROOT / "scripts/frozen"


@pytest.mark.parametrize("words", [["--version"], ["-m", "occlufix_vcam", "--version"]])
def test_a_frozen_program_is_its_own_python(words: list[str]) -> None:
    command = [sys.executable, str(FROZEN / "entry.py"), *words]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"occlufix-vcam {__version__}\n"), done.stderr


def test_the_icon_starts_the_program_with_a_console(monkeypatch: pytest.MonkeyPatch) -> None:
    from scripts.frozen import entry

    ran: list[tuple[str, str, list[str]]] = []
    monkeypatch.setattr(sys, "executable", "/app/OccluFix Camera.exe")
    monkeypatch.setattr(sys, "argv", ["OccluFix Camera.exe"])
    monkeypatch.setattr("runpy.run_module", lambda name, **_: ran.append((name, sys.executable, sys.argv[1:])))
    entry.main()
    assert ran == [("occlufix_vcam", "/app/occlufix-vcam.exe", ["tray"])]


def test_the_recipes_name_the_same_programs() -> None:
    from scripts.frozen.entry import CONSOLE, ICON

    recipe, installer = ((FROZEN / name).read_text(encoding="utf-8") for name in ("occlufix.spec", "windows.iss"))
    assert re.findall(r'program\("([^"]+)"', recipe) == [CONSOLE, ICON]
    assert {f"{CONSOLE}.exe", f"{ICON}.exe"} <= set(re.findall(r"\{app\}\\([^\"\n]+\.exe)", installer))
    release = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    assert "scripts/frozen/occlufix.spec" in release and "scripts/frozen/windows.iss" in release


def test_users_read_that_nobody_has_tried_them() -> None:
    page = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    assert "### Untried installers for Windows and macOS" in page and "Nobody has installed or started either" in page
