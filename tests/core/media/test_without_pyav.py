"""Without the extra `films`: films and recordings say what is missing, everything else works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX
from engines.installing import install_extra
from occlufix_vcam.cli import app
from occlufix_vcam.diagnostics import doctor
from tests.conftest import ROOT

MISSING = "films and recordings need PyAV"
HINT = f"install it: {install_extra('films')}"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_pyav: None) -> Path:
    """A folder with a picture and what may be a film."""
    monkeypatch.setenv("OCCLUFIX_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("OCCLUFIX_CONFIG", str(tmp_path / "settings.toml"))
    monkeypatch.setenv("OCCLUFIX_BACKEND", "fake")
    home = tmp_path / "in"
    home.mkdir()
    cv2.imwrite(str(home / "face.png"), np.zeros((CROP_PX, CROP_PX, 3), np.uint8))
    (home / "film.mp4").write_bytes(b"a film")
    return home


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    """Exit code of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["occlufix-vcam", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        app.main()
    return ended.value.code


@pytest.mark.parametrize(
    "arguments",
    [
        ("process", "{home}/film.mp4", "{home}/out.mp4"),
        ("bench", "--source", "{home}/film.mp4"),
        ("start", "--foreground", "--sink", "null", "--record", "{home}/call.mp4"),
        ("config", "set", "record", "{home}/call.mp4"),
    ],
)
def test_a_command_says_what_is_missing_and_how_to_install_it(
    home: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *(word.format(home=home) for word in arguments)) == 2
    what, todo = capsys.readouterr().err.splitlines()
    assert what.startswith(f"error: {MISSING}") and todo.strip() == HINT
    assert sorted(path.name for path in home.iterdir()) == ["face.png", "film.mp4"]


def test_a_camera_that_is_a_film_says_so_from_the_background(home: Path) -> None:
    (home / "av.py").write_text("raise ModuleNotFoundError('No module named av')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(home), str(ROOT)])}
    command = [sys.executable, "-m", "occlufix_vcam", "start", "--sink", "null", "--source", str(home / "film.mp4")]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and MISSING in done.stderr and "[films]" in done.stderr


def test_pictures_are_processed_beside_films_that_are_left_out(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "process", "--aligned", home / "face.png", home.parent / "alone.png") == 0
    assert run(monkeypatch, "process", "--aligned", home, home.parent / "out") == 3
    assert [path.name for path in (home.parent / "out").iterdir()] == ["face.png"]
    told = capsys.readouterr().err
    assert f"left out: film.mp4: {MISSING}" in told and HINT in told


def test_the_doctor_names_it() -> None:
    [found] = doctor._films()
    assert (found.verdict, found.hint) == ("warning", HINT) and MISSING in found.found
