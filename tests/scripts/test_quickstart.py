"""The quick start's choices, with a product that answers from a script: what it runs, falls back to, and says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


bootstrap = load("bootstrap")
quickstart = load("quickstart")

STATUS = {
    "fps": 29.9,
    "latency": {"p50_ms": 20.0, "p95_ms": 30.0},
    "faces": 1,
    "restored": 77,
    "frames": 400,
    "uptime_s": 15.0,
    "camera": "demo",
    "engine": {"restore": {"backend": "openvino", "precision": "bf16"}},
}


class Scripted:
    """Answers like the command line and notes what it was asked."""

    def __init__(self, cameras: list[Any], virtual: list[Any], refuse: str | None = None, code: int = 3) -> None:
        self.devices = {"cameras": cameras, "virtual_cameras": virtual}
        self.refuse, self.code = refuse, code
        self.calls: list[tuple[str, ...]] = []

    def run(self, *arguments: str) -> str:
        self.calls.append(arguments)
        if arguments[0] == "start" and f"--source={self.refuse}" in arguments:
            raise quickstart.CommandError(self.code, "error: the camera is held by zoom")
        for argument in arguments:
            if argument.startswith("--record="):
                Path(argument.removeprefix("--record=")).write_bytes(b"video")
        return ""

    def ask(self, *arguments: str) -> Any:
        return self.devices if arguments[0] == "devices" else STATUS

    def starts(self) -> list[tuple[str, ...]]:
        return [call[1:] for call in self.calls if call[0] == "start"]


@pytest.fixture(autouse=True)
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(quickstart, "RECORDINGS", tmp_path / "output")
    return tmp_path / "output"


READY = {"name": "OccluFix Camera", "problem": ""}
CAMERA = {"index": 0, "name": "Webcam"}


def test_nothing_there_still_ends_well(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    product = Scripted([], [])
    assert quickstart.run(product, 0.01) == 0
    (start,) = product.starts()
    assert start[:2] == ("--source=demo", "--sink=null")
    (recording,) = recordings.iterdir()
    printed = capsys.readouterr().out
    assert str(recording) in printed
    assert "no camera" in printed
    assert "no virtual camera" in printed
    assert "77 faces" in printed
    assert product.calls[-1] == ("stop",)


def test_camera_and_virtual_camera_are_used(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    product = Scripted([CAMERA], [READY])
    assert quickstart.run(product, 0.01) == 0
    assert product.starts() == [("--source=auto", "--sink=auto", "--always-on")]
    assert not recordings.exists()
    assert "missing" not in capsys.readouterr().out


def test_a_busy_camera_gives_way_to_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    product = Scripted([CAMERA], [READY], refuse="auto")
    assert quickstart.run(product, 0.01) == 0
    assert [start[0] for start in product.starts()] == ["--source=auto", "--source=demo"]
    assert "held by zoom" in capsys.readouterr().out


def test_any_other_error_is_not_hidden() -> None:
    with pytest.raises(quickstart.CommandError):
        quickstart.run(Scripted([CAMERA], [READY], refuse="auto", code=4), 0.01)
    with pytest.raises(quickstart.CommandError):
        quickstart.run(Scripted([], [READY], refuse="demo"), 0.01)


def test_old_python_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    with pytest.raises(bootstrap.SetupError, match=r"3\.9 is too old"):
        bootstrap.prepare(["-e", "."])


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """An environment folder whose commands are noted and succeed."""
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / "installed.txt")
    ran: list[list[str]] = []
    monkeypatch.setattr(bootstrap, "_works", lambda python: True)
    monkeypatch.setattr(bootstrap, "_step", lambda title, command, hint: ran.append(command))
    return ran


def test_a_second_run_installs_nothing(venv: list[list[str]]) -> None:
    bootstrap.prepare(["-e", ".[train]"], before=["torch"])
    assert [command[-1] for command in venv] == ["torch", ".[train]"]
    venv.clear()
    bootstrap.prepare(["-e", ".[train]"], before=["torch"])
    assert not venv
    bootstrap.prepare(["-e", ".[tray]"])
    assert [command[-1] for command in venv] == [".[tray]"]


def test_what_is_optional_may_fail(
    venv: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def step(title: str, command: list[str], hint: str) -> None:
        venv.append(command)
        if command[-1] == "not-on-this-system":
            raise bootstrap.SetupError(f"{title} failed\n  what to do: {hint}")

    monkeypatch.setattr(bootstrap, "_step", step)
    bootstrap.prepare(["-e", ".[train]"], optional=[["not-on-this-system"]])

    assert [command[-1] for command in venv] == [".[train]", "not-on-this-system"]
    assert "installing not-on-this-system failed" in capsys.readouterr().err


def test_changed_dependencies_are_installed_again(venv: list[list[str]], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text("one")
    bootstrap.prepare(["-e", "."])
    (tmp_path / "pyproject.toml").write_text("two")
    bootstrap.prepare(["-e", "."])
    assert len(venv) == 2


@pytest.mark.parametrize(("system", "place"), [("posix", "v/bin/python"), ("nt", "v/Scripts/python.exe")])
def test_interpreter_of_each_system(system: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    venv = Path("v")
    monkeypatch.setattr(bootstrap.os, "name", system)
    assert bootstrap.venv_python(venv).as_posix() == place
