"""Desktop integration of one user: what is written where, by whom, what it starts, and that undo removes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from occlufix_vcam.cli import app
from occlufix_vcam.diagnostics import integration, setup
from occlufix_vcam.diagnostics.integration import APP_ID, desktop_entry, setup_plan, undo_plan, user_files
from occlufix_vcam.diagnostics.setup import Step
from occlufix_vcam.system import linux
from occlufix_vcam.system.linux import LinuxMachine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="freedesktop.org's folders are Linux's")


@pytest.fixture
def ada(tmp_path: Path) -> LinuxMachine:
    home = tmp_path / "home/ada"
    home.mkdir(parents=True)
    return LinuxMachine("6.1.0", "ada", home, tmp_path)


def run(step: Step) -> None:
    """Runs it as the user who runs the tests."""
    subprocess.run(step.command, input=step.text, text=True, check=True)


def test_after_it_all_is_there_and_after_undo_nothing(ada: LinuxMachine) -> None:
    for step in setup_plan(ada).steps:
        run(step)
    assert setup_plan(ada).steps == [] and len(setup_plan(ada).ready) == len(user_files(ada.home))
    assert (ada.home / f".local/share/applications/{APP_ID}.desktop").read_text() == desktop_entry()
    for step in undo_plan(ada).steps:
        run(step)
    assert not [path for path in ada.home.rglob("*") if path.is_file()]
    assert undo_plan(ada).steps == []


def test_what_another_version_wrote_is_written_anew(ada: LinuxMachine) -> None:
    for step in setup_plan(ada).steps:
        run(step)
    entry = ada.home / f".local/share/applications/{APP_ID}.desktop"
    entry.write_text("[Desktop Entry]\n")
    (step,) = setup_plan(ada).steps
    assert step.command[-1] == str(entry)


def test_no_step_is_roots(ada: LinuxMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert not setup_plan(ada).needs_root
    assert all(setup._becoming(step) == [] for step in setup_plan(ada).steps)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert all(setup._becoming(step) == ["sudo", "-u", "ada", "--"] for step in setup_plan(ada).steps)


def test_a_data_folder_of_ones_own_counts_for_oneself_only(ada: LinuxMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(ada.root / "data"))
    assert user_files(ada.home)[0].path.is_relative_to(ada.home)
    monkeypatch.setenv("HOME", str(ada.home))
    assert user_files(ada.home)[0].path.is_relative_to(ada.root / "data")


@pytest.mark.parametrize("has_tray", [True, False])
def test_the_menu_entry_is_valid(has_tray: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validator = shutil.which("desktop-file-validate")
    if validator is None:
        pytest.skip("NO DESKTOP-FILE-VALIDATE: the menu entry is NOT validated; on Debian: desktop-file-utils")
    monkeypatch.setattr(integration, "tray_is_installed", lambda: has_tray)
    monkeypatch.setenv("OCCLUFIX_STATE_DIR", '/home/ada/my "state" 100%')
    entry = tmp_path / f"{APP_ID}.desktop"
    entry.write_text(desktop_entry())
    done = subprocess.run([validator, entry], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_menu_entry_starts_this_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integration, "tray_is_installed", lambda: True)
    assert f'"{sys.executable}" "-m" "occlufix_vcam" "tray"\n' in desktop_entry()
    monkeypatch.setattr(integration, "tray_is_installed", lambda: False)
    assert '"preview"' in desktop_entry() and '"tray"' not in desktop_entry()


def test_setup_does_it_for_this_user_alone_where_asked(ada: LinuxMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Step] = []
    monkeypatch.setattr(linux, "this_machine", lambda: ada)
    monkeypatch.setattr(setup, "run_step", ran.append)
    shown = CliRunner().invoke(app.app, ["setup", "--desktop", "--dry-run"])
    assert "installs the menu entry" in shown.output and "modprobe" not in shown.output and ran == []
    CliRunner().invoke(app.app, ["setup", "--desktop", "--yes"])
    assert {step.user for step in ran} == {"ada"} and len(ran) == len(user_files(ada.home))


def test_what_a_package_has_for_all_is_not_written_for_one(ada: LinuxMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integration, "is_packaged", lambda: True)
    assert setup_plan(ada).steps == [] and "came with the package" in setup_plan(ada).ready[0]


def test_the_packages_menu_entry_starts_its_launcher() -> None:
    entry = desktop_entry(["/usr/bin/occlufix-vcam"])
    assert "\nTryExec=/usr/bin/occlufix-vcam\n" in entry and sys.executable not in entry
