"""The command as a person meets it: what it prints, how it exits, and one whole life of a real daemon."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

import cv2
import numpy as np
import pytest

from engines import manifest
from engines.installing import install_extra
from occlufix_vcam.cli import app, machine, render
from occlufix_vcam.core.errors import CameraBusy
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.state import StateFolder
from occlufix_vcam.core.status import Status
from occlufix_vcam.runtime.daemon import Daemon
from tests.harness.films import make_film

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "start",
    "stop",
    "status",
    "toggle",
    "preview",
    "setup",
    "process",
    "enroll",
    "devices",
    "doctor",
    "build-engine",
    "bench",
    "config",
    "tray",
    "autostart",
)


@dataclass
class Answer:
    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder and a settings file of this test's own."""
    monkeypatch.setenv("OCCLUFIX_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("OCCLUFIX_CONFIG", str(tmp_path / "settings.toml"))
    monkeypatch.setenv("OCCLUFIX_FACES_DIR", str(tmp_path / "faces"))
    return tmp_path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process, which no worker of another test's daemon may end."""
    monkeypatch.setattr(app, "WORKERS", set[str]())

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["occlufix-vcam", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            app.main()
        told = capsys.readouterr()
        return Answer(ended.value.code, told.out, told.err)  # type: ignore[arg-type]

    return run


def test_help_lists_the_commands_that_there_are(command: Command) -> None:
    listed = re.findall(r"^  ([a-z-]+) {2,}\w", command("--help").out.split("Commands:")[1], re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("arguments", [["stop"], ["status"], ["toggle"], ["toggle", "off"], ["preview"]])
def test_nothing_running_is_said_with_what_to_do(command: Command, arguments: list[str]) -> None:
    answer = command(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "error: OccluFix Camera is not running\n  start it with `occlufix-vcam start`\n"


def test_the_status_of_nothing_is_json_too(command: Command) -> None:
    answer = command("status", "--json")
    assert answer.code == 2 and json.loads(answer.out) == {"state": "stopped"}


def test_a_second_start_is_refused(command: Command) -> None:
    with StateFolder().hold():
        StateFolder().publish(1)
        answer = command("start", "--source", "demo")
    assert answer.code == 2
    assert f"already running (process {os.getpid()})" in answer.err and "occlufix-vcam stop" in answer.err


@pytest.mark.parametrize(
    "arguments",
    [["strat"], ["start", "--sauce", "demo"], ["toggle", "perhaps"], ["bench", "--frames", "0"], ["process"]],
)
def test_wrong_usage_exits_with_2(command: Command, arguments: list[str]) -> None:
    assert command(*arguments).code == 2


def test_settings_are_shown_found_and_set(command: Command, home: Path) -> None:
    assert command("config", "path").out.strip() == str(home / "settings.toml")
    assert command("config", "set", "rate", "25").code == 0
    assert "rate = 25.0  # frames per second requested from the camera\n" in command("config", "show").out
    answer = command("config", "set", "rat", "25")
    assert answer.code == 2 and "did you mean `rate`?" in answer.err
    assert command("config", "set", "rate").code == 2


def test_a_typo_in_the_settings_file_stops_the_start(command: Command, home: Path) -> None:
    (home / "settings.toml").write_text("widht = 640\n")
    answer = command("start", "--source", "demo")
    assert answer.code == 2
    assert answer.err == f"error: {home / 'settings.toml'}: `widht` is not a setting\n  did you mean `width`?\n"


def fail(error: Exception) -> Callable[..., None]:
    def raise_it(*_: object) -> None:
        raise error

    return raise_it


def test_an_error_is_two_lines_and_its_exit_code(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "load_settings", fail(CameraBusy("held by zoom (process 7)", "close it")))
    answer = command("config", "show")
    assert (answer.code, answer.err) == (3, "error: held by zoom (process 7)\n  close it\n")


def test_our_own_fault_is_said_and_traced_only_with_debug(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "load_settings", fail(ZeroDivisionError("oh")))
    answer = command("config", "show")
    assert answer.code == 1 and "Traceback" not in answer.err and "ZeroDivisionError('oh')" in answer.err
    answer = command("config", "show", "--debug")
    assert answer.code == 1 and "Traceback" in answer.err


def test_a_tray_icon_without_its_extra_names_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PySide6", None)
    for name in [name for name in sys.modules if name.startswith("occlufix_vcam.desktop.tray")]:
        monkeypatch.delitem(sys.modules, name)
    answer = command("tray")
    assert answer.code == 1 and "PySide6" in answer.err and install_extra("tray") in answer.err


def test_devices_and_doctor_answer_in_json(command: Command) -> None:
    assert set(json.loads(command("devices", "--json").out)) == {
        "cameras",
        "virtual_cameras",
        "backends",
        "engines",
    }
    answer = command("doctor", "--json")
    findings = json.loads(answer.out)
    assert {"python", "settings", "state", "engine", "model"} <= {finding["what"] for finding in findings}
    assert answer.code == int(any(finding["verdict"] == "error" for finding in findings))


def test_doctor_says_how_to_mend_the_settings(command: Command, home: Path) -> None:
    (home / "settings.toml").write_text("widht = 640\n")
    answer = command("doctor")
    assert answer.code == 1 and re.search(r"error +settings: .*`widht`.*\n +did you mean `width`", answer.out)


def test_process_writes_a_report_and_leaves_out_what_is_no_picture(command: Command, home: Path) -> None:
    (home / "in").mkdir()
    assert cv2.imwrite(str(home / "in" / "grey.png"), np.full((64, 64, 3), 90, np.uint8))
    (home / "in" / "broken.png").write_bytes(b"no picture")
    answer = command("process", home / "in", home / "out", "--report", home / "report.json")
    assert answer.code == 3 and "broken.png" in answer.err
    assert (home / "out" / "grey.png").read_bytes() == (home / "in" / "grey.png").read_bytes()
    assert [one["file"] for one in json.loads((home / "report.json").read_text())["files"]] == [
        "broken.png",
        "grey.png",
    ]


def test_process_does_films_and_pictures_of_a_folder_and_says_what_it_skipped(command: Command, home: Path) -> None:
    (home / "in").mkdir()
    assert cv2.imwrite(str(home / "in" / "grey.png"), np.full((64, 64, 3), 90, np.uint8))
    make_film(home / "in" / "talk.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 3, [0, 40, 80, 120])
    (home / "in" / "notes.txt").write_text("neither")
    answer = command("process", home / "in", home / "out")
    assert answer.code == 0 and "2 of 2 files written" in answer.out and "1 other files skipped" in answer.out
    assert (home / "out" / "talk.mp4").read_bytes() == (home / "in" / "talk.mp4").read_bytes()


def test_a_report_on_an_input_is_wrong_usage(command: Command, home: Path) -> None:
    assert cv2.imwrite(str(home / "in.png"), np.full((64, 64, 3), 90, np.uint8))
    before = (home / "in.png").read_bytes()
    assert command("process", home / "in.png", home / "out.png", "--report", home / "in.png").code == 2
    assert (home / "in.png").read_bytes() == before and not (home / "out.png").exists()


@pytest.mark.parametrize(("place", "code"), [("absent/call.mp4", 3), ("call.gif", 2)])
def test_a_recording_that_cannot_be_written_is_refused_where_it_is_set(
    command: Command, home: Path, place: str, code: int
) -> None:
    assert command("config", "set", "record", home / place).code == code
    assert command("start", "--foreground", "--sink", "null", "--record", home / place).code == code
    assert not (home / "settings.toml").exists()


def test_an_altered_model_is_named_with_the_way_to_restore_it(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Path(shutil.copytree(manifest.MODELS, home / "engines" / "models"))
    next(models.glob("restore*fp32.onnx")).write_bytes(b"altered")
    next(models.glob("restore*fp16.onnx")).unlink()  # that alone is no fault: FP32 does what FP16 does
    monkeypatch.setattr(manifest, "MODELS", models)
    assert cv2.imwrite(str(home / "in.png"), np.zeros((64, 64, 3), np.uint8))
    answer = command("process", home / "in.png", home / "out.png")
    assert answer.code == 4 and re.match(r"error: .*restore.*\n  .+\n$", answer.err)
    answer = command("doctor")
    assert answer.code == 1 and len(re.findall(r"error +model: .*restore", answer.out)) == 1


# ---- a real daemon, with engines that need no time ----


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    words = [sys.executable, "-m", "occlufix_vcam", *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=90)


def start(*arguments: object) -> subprocess.CompletedProcess[str]:
    return call("start", "--source", "demo", "--sink", "null", "--backend", "fake", *arguments)


@pytest.fixture
def cleared_up() -> Iterator[None]:
    yield
    call("stop")


def test_what_is_wrong_is_said_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    status = Daemon(Settings()).status()
    status["trouble"] = {"OccluFix Camera (PipeWire)": "the desktop refuses cameras to firefox", "capture": "asleep"}
    status["left_out"] = {"v4l2": "the kernel module v4l2loopback is not loaded"}
    status["hints"] = {"v4l2": "`occlufix-vcam setup`", "OccluFix Camera (PipeWire)": "allow it"}
    render.print_running(status, "http://127.0.0.1:1")
    assert capsys.readouterr().out.splitlines()[-6:] == [
        "  trouble  OccluFix Camera (PipeWire): the desktop refuses cameras to firefox",
        "           allow it",
        "  trouble  capture: asleep",
        "  left out v4l2: the kernel module v4l2loopback is not loaded",
        "           `occlufix-vcam setup`",
        "  control  http://127.0.0.1:1",
    ]


@pytest.mark.usefixtures("cleared_up")
def test_a_life_in_the_background(home: Path) -> None:
    started = start("--record", home / "film.mp4")
    assert started.returncode == 0, started.stderr
    running, frames, page = started.stdout.splitlines()
    assert "is running" in running and frames.startswith("frames go to null")
    assert re.fullmatch(r"control page http://127\.0\.0\.1:\d+: open it with `occlufix-vcam preview`", page)
    assert "fake on none" in call("status").stdout
    told = json.loads(call("status", "--json").stdout)
    assert set(told) == set(get_type_hints(Status))
    assert told["state"] == "running" and told["frames"] > 0 and told["size"] == [1280, 720]
    assert "restores yes" in call("status").stdout
    assert [call("toggle").stdout, call("toggle", "on").stdout] == ["off\n", "on\n"]
    second = start()
    assert second.returncode == 2 and f"process {told['pid']}" in second.stderr
    stopped = call("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
    assert call("stop").returncode == 2
    film = cv2.VideoCapture(str(home / "film.mp4"))
    assert film.read()[1].shape == (720, 1280, 3)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.usefixtures("cleared_up")
def test_a_killed_daemon_is_taken_over() -> None:
    assert start().returncode == 0
    os.kill(json.loads(call("status", "--json").stdout)["pid"], signal.SIGKILL)
    assert StateFolder().wait_until_free(20)
    assert call("status").returncode == 2
    assert start().returncode == 0
    assert call("status").returncode == 0


def test_a_start_that_fails_says_why_and_exits_as_the_daemon_did() -> None:
    started = call("start", "--source", "no such clip.mp4", "--sink", "null", "--backend", "fake")
    assert started.returncode == 3
    assert started.stderr.startswith("error: there is no clip") and "Traceback" not in started.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)])
def test_signals_end_it_cleanly_in_the_foreground(number: signal.Signals) -> None:
    words = [sys.executable, "-m", "occlufix_vcam", "start", "--foreground"]
    words += ["--source", "demo", "--sink", "null", "--backend", "fake"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None and "is running" in daemon.stdout.readline()
        daemon.send_signal(number)
        rest = daemon.communicate(timeout=30)[0]
    assert daemon.returncode == 0 and re.search(r"stopped after \d+ frames", rest)
    assert not (StateFolder().path / "control.json").exists()


def test_it_stops_by_itself_after_the_given_time() -> None:
    ended = start("--foreground", "--seconds", "1")
    assert ended.returncode == 0 and "stopped after" in ended.stdout
