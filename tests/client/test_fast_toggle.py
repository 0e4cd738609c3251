"""`toggle` without a wait: what it does by itself, and what it leaves to the whole command line."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from occlufix_vcam.client.fast_toggle import control_file, quick_toggle
from occlufix_vcam.control.api import serve
from occlufix_vcam.core.errors import OccluFixError
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.state import StateFolder
from occlufix_vcam.runtime.daemon import Daemon
from tests.conftest import ROOT

SLOW = {"numpy", "pydantic", "typer", "filelock", "asyncio", "typing", "pathlib", "dataclasses", "platformdirs"}


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateFolder:
    monkeypatch.setenv("OCCLUFIX_STATE_DIR", str(tmp_path))
    return StateFolder()


def test_it_switches_a_running_daemon(state: StateFolder) -> None:
    daemon = Daemon(Settings())
    with state.hold(), serve(daemon, state):
        assert [quick_toggle(["toggle"]), quick_toggle(["toggle"])] == ["off", "on"]
        assert [quick_toggle(["toggle", "off"]), quick_toggle(["toggle", "off"])] == ["off", "off"]
        assert daemon.settings.enabled is False


@pytest.mark.parametrize(
    "arguments", [[], ["status"], ["toggle", "perhaps"], ["toggle", "--help"], ["toggle", "on", "x"]]
)
def test_anything_else_is_left_to_the_whole_command_line(arguments: list[str]) -> None:
    assert quick_toggle(arguments) is None


def test_so_is_nobody_who_listens_and_a_token_of_an_earlier_run(state: StateFolder) -> None:
    assert quick_toggle(["toggle"]) is None
    state.prepare()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    state.publish(port)
    assert quick_toggle(["toggle"]) is None
    daemon = Daemon(Settings())
    with serve(daemon, state) as address:
        state.publish(address.port)
        assert quick_toggle(["toggle"]) is None and daemon.settings.enabled


def test_who_takes_the_question_and_does_not_answer_is_not_asked_again(state: StateFolder) -> None:
    state.prepare()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        state.publish(listener.getsockname()[1])

        def reset() -> None:
            peer = listener.accept()[0]
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.recv(1)
            peer.close()

        peer = threading.Thread(target=reset)
        peer.start()
        with pytest.raises(OccluFixError, match="does not answer"):
            quick_toggle(["toggle"])
        peer.join()


def test_it_imports_nothing_that_takes_long() -> None:
    code = "import sys, occlufix_vcam.__main__; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not SLOW & set(loaded.split())


@pytest.mark.parametrize(
    "environment", [{}, {"XDG_STATE_HOME": "/elsewhere"}, {"XDG_STATE_HOME": ""}, {"OCCLUFIX_STATE_DIR": "/there"}]
)
def test_it_looks_where_the_state_folder_is(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name in ("XDG_STATE_HOME", "OCCLUFIX_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Path(control_file()) == StateFolder().path / "control.json"
