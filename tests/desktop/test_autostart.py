"""Start at log-in: what is written where on each system, that it is wholly undone, and what a moved venv is told."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import pytest

from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.desktop.autostart import (
    CAMERA,
    TRAY,
    Autostart,
    DesktopEntry,
    LaunchAgent,
    RunValue,
    SystemdUnit,
    unit_file,
)
from occlufix_vcam.diagnostics import doctor

#: As odd as a path may be.
FOLDER = 'a %h "quoted" $HOME\\folder'


class Registry:
    """winreg as far as we know it: one key, its values in a dictionary."""

    HKEY_CURRENT_USER, KEY_SET_VALUE, REG_SZ = "user", 2, 1

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Closes the key."""

    def CreateKey(self, root: str, key: str) -> Registry:  # noqa: N802  winreg's names
        assert (root, key) == ("user", r"Software\Microsoft\Windows\CurrentVersion\Run")
        return self

    def OpenKey(self, root: str, key: str, reserved: int = 0, access: int = 1) -> Registry:  # noqa: N802
        return self.CreateKey(root, key)

    def SetValueEx(self, key: Registry, name: str, reserved: int, kind: int, value: str) -> None:  # noqa: N802
        self.values[name] = value

    def QueryValueEx(self, key: Registry, name: str) -> tuple[str, int]:  # noqa: N802
        try:
            return self.values[name], self.REG_SZ
        except KeyError:
            raise FileNotFoundError(name) from None

    def DeleteValue(self, key: Registry, name: str) -> None:  # noqa: N802
        self.QueryValueEx(key, name)
        del self.values[name]


def on_linux(home: Path, python: str, reloads: list[str] | None = None) -> Autostart:
    booted = home / "systemd"
    booted.mkdir(exist_ok=True)
    told = reloads if reloads is not None else []
    folders = {"OCCLUFIX_STATE_DIR": str(home / FOLDER)}
    unit = SystemdUnit(home / "units", folders, lambda: told.append("reload"), booted)
    return Autostart(unit, DesktopEntry(home / "desktop", folders), python, "linux")


def on_macos(home: Path, python: str) -> Autostart:
    return Autostart(LaunchAgent(home, CAMERA, {}, True), LaunchAgent(home, TRAY, {}, False), python, "darwin")


REGISTRIES: dict[Path, Registry] = {}


def on_windows(home: Path, python: str) -> Autostart:
    registry = REGISTRIES.setdefault(home, Registry())
    return Autostart(RunValue(CAMERA, registry), RunValue(TRAY, registry), python, "win32")


@pytest.fixture
def python(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """An interpreter in a venv with a name that its system's quoting has to live with."""
    on_windows_too = (
        request.node.callspec.params["system"] is on_windows if hasattr(request.node, "callspec") else False
    )
    venv = tmp_path / ("a %h folder" if on_windows_too else FOLDER)
    venv.mkdir()
    (venv / "python").touch()
    return venv / "python"


@pytest.mark.parametrize("system", [on_linux, on_macos, on_windows])
def test_it_is_turned_on_and_off_without_a_trace(system, tmp_path: Path, python: Path) -> None:  # type: ignore[no-untyped-def]
    home = tmp_path / "home"
    home.mkdir()
    here = system(home, str(python))
    before = sorted(home.rglob("*"))
    assert (here.status().on, here.status().where) == (False, ())
    told = here.turn_on(with_tray=True)
    assert (told.on, told.tray, told.problem, len(told.where)) == (True, True, "", 2)
    command = here.camera.read()
    assert command[:4] == [str(python), "-m", "occlufix_vcam", "start"]
    assert here.tray.read() == [str(python), "-m", "occlufix_vcam", "tray", "--wait", "60"]
    assert here.turn_on(with_tray=False).tray is False
    assert here.turn_off().where == () and here.turn_off().on is False
    left = [path for path in home.rglob("*") if path not in before and not path.is_dir()]
    assert left == [] and not REGISTRIES.get(home, Registry()).values


@pytest.mark.parametrize("system", [on_linux, on_macos, on_windows])
def test_a_moved_venv_is_said_and_can_be_mended_and_undone(system, tmp_path: Path, python: Path) -> None:  # type: ignore[no-untyped-def]
    home = tmp_path / "home"
    home.mkdir()
    system(home, str(python)).turn_on(with_tray=True)
    moved = python.parent.rename(tmp_path / "moved") / "python"
    here = system(home, str(moved))
    told = here.status()
    assert told.on and str(python) in told.problem and "gone" in told.problem and "autostart on" in told.hint
    assert here.turn_on(with_tray=True).problem == ""
    python.parent.mkdir()
    python.touch()
    assert "another installation" in system(home, str(python)).status().problem
    assert system(home, str(python)).turn_off().on is False


def test_systemd_is_told_and_the_unit_is_linked(tmp_path: Path, python: Path) -> None:
    reloads: list[str] = []
    here = on_linux(tmp_path, str(python), reloads)
    here.turn_on(with_tray=False)
    link = tmp_path / "units/default.target.wants/occlufix-vcam.service"
    assert link.resolve() == tmp_path / "units/occlufix-vcam.service" and reloads == ["reload"]
    here.turn_off()
    here.turn_off()
    assert reloads == ["reload"] * 2 and not link.parent.exists()


def test_a_system_without_systemd_is_told_what_to_do(tmp_path: Path) -> None:
    unit = SystemdUnit(tmp_path, {}, lambda: None, tmp_path / "no systemd")
    with pytest.raises(ConfigError, match="does not run systemd") as refused:
        Autostart(unit, DesktopEntry(tmp_path, {})).turn_on(with_tray=True)
    assert "occlufix-vcam start" in refused.value.hint and list(tmp_path.iterdir()) == []


def test_systemd_accepts_the_unit(tmp_path: Path, python: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("NO SYSTEMD-ANALYZE: the unit is NOT verified; on Debian: apt install systemd")
    on_linux(tmp_path, str(python)).turn_on(with_tray=False)
    unit = str(tmp_path / "units/occlufix-vcam.service")
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    words = ["systemd-analyze", "--user", "verify", unit]
    answer = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    assert (answer.returncode, [line for line in answer.stderr.splitlines() if "occlufix" in line]) == (0, [])


def test_a_camera_that_crashes_is_started_again_on_macos(tmp_path: Path) -> None:
    on_macos(tmp_path, "/python").turn_on(with_tray=True)
    camera = plistlib.loads((tmp_path / "org.occlufix.vcam.plist").read_bytes())
    assert camera["RunAtLoad"] and camera["KeepAlive"] == {"SuccessfulExit": False}
    assert "KeepAlive" not in plistlib.loads((tmp_path / "org.occlufix.vcam.tray.plist").read_bytes())


def test_windows_opens_no_console(tmp_path: Path) -> None:
    (tmp_path / "pythonw.exe").touch()
    here = on_windows(tmp_path, str(tmp_path / "python.exe"))
    here.turn_on(with_tray=False)
    assert REGISTRIES[tmp_path].values[CAMERA] == f"{tmp_path / 'pythonw.exe'} -m occlufix_vcam start"
    assert here.status().problem == ""


def test_doctor_sees_an_entry_whose_program_is_gone(
    tmp_path: Path, python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = on_linux(tmp_path, str(python))
    monkeypatch.setattr(doctor, "autostart_here", lambda: here)
    assert [finding.verdict for finding in doctor._log_in()] == ["ok"]
    here.turn_on(with_tray=False)
    assert [finding.found for finding in doctor._log_in()] == ["the camera starts"]
    python.unlink()
    (finding,) = doctor._log_in()
    assert finding.verdict == "warning" and "autostart on" in finding.hint


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(Path, "chmod"), reason="rights are elsewhere there")
def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "units").write_text("")
    with pytest.raises(ConfigError, match="cannot be turned on") as refused:
        on_linux(tmp_path, "/python").turn_on(with_tray=False)
    assert refused.value.hint


def test_the_packages_unit_is_linked_and_leaves_nothing_to_fail_once_it_is_gone(tmp_path: Path) -> None:
    packaged = tmp_path / "usr"
    packaged.mkdir()
    unit = SystemdUnit(tmp_path / "units", {}, lambda: None, tmp_path, packaged)
    command = ["/opt/python3", "-m", "occlufix_vcam", "start", "--foreground"]
    (packaged / "occlufix-vcam.service").write_text(unit_file(command, {}))
    unit.write(command)
    assert (unit.read(), unit.where) == (command, str(packaged / "occlufix-vcam.service"))
    assert not (tmp_path / "units/occlufix-vcam.service").exists()
    (packaged / "occlufix-vcam.service").unlink()
    assert unit.read() is None
    unit.remove()
    assert list((tmp_path / "units").iterdir()) == []


def test_another_command_than_the_packages_gets_a_unit_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "occlufix-vcam.service").write_text(unit_file(["/opt/python3"], {}))
    unit = SystemdUnit(tmp_path / "units", {"OCCLUFIX_CONFIG": "/a"}, lambda: None, tmp_path, tmp_path)
    unit.write(["/opt/python3"])
    assert unit.where == str(tmp_path / "units/occlufix-vcam.service") and unit.read() == ["/opt/python3"]
