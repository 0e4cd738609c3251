"""`toggle` without a wait: what it does by itself, and what it leaves to the whole command line."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from occlufix_vcam.client.fast_toggle import DEADLINE_HEADER, quick_toggle, state_folder
from occlufix_vcam.control.api import serve
from occlufix_vcam.core import deadline
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
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with state.hold():
        assert quick_toggle(["toggle"]) is None
        state.publish(port)
        assert quick_toggle(["toggle"]) is None
    daemon = Daemon(Settings())
    with state.hold(), serve(daemon, state) as address:
        state.publish(address.port)
        assert quick_toggle(["toggle"]) is None and daemon.settings.enabled


@contextmanager
def listener(state: StateFolder, answer: Callable[[socket.socket], None]) -> Iterator[list[socket.socket]]:
    """Another program on the port that control.json names, and whom it met."""
    met: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        state.prepare()
        state.publish(server.getsockname()[1])

        def work() -> None:
            with contextlib.suppress(OSError):
                peer = server.accept()[0]
                met.append(peer)
                with peer:
                    peer.recv(4096)
                    answer(peer)

        peer = threading.Thread(target=work)
        peer.start()
        yield met
        server.shutdown(socket.SHUT_RDWR)
        peer.join()


def say(body: bytes) -> Callable[[socket.socket], None]:
    """Answers, then reads the rest of the request: closing on unread bytes would reset the connection instead."""

    def answer(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(4096):
            pass

    return answer


def trickle(peer: socket.socket) -> None:
    """An answer that never ends, a byte at a time, always in time for the next read."""
    while True:
        peer.sendall(b"H")
        threading.Event().wait(0.01)


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_who_listens_on_a_killed_daemons_port_is_not_asked(state: StateFolder) -> None:
    with listener(state, say(b'{"enabled": true}')) as met:
        assert quick_toggle(["toggle", "off"]) is None and met == []


@pytest.mark.parametrize(
    "answer", [reset, trickle, say(b'{"enabled": true}'), say(b'{"enabled": "off"}'), say(b"[]"), say(b"hello")]
)
def test_who_takes_the_question_and_does_not_answer_it_is_not_asked_again(
    state: StateFolder, monkeypatch: pytest.MonkeyPatch, answer: Callable[[socket.socket], None]
) -> None:
    monkeypatch.setattr("occlufix_vcam.client.fast_toggle.TIMEOUT_S", 0.2)
    monkeypatch.setattr("occlufix_vcam.client.fast_toggle.LONGEST_ANSWER", 100_000)
    with state.hold(), listener(state, answer), pytest.raises(OccluFixError, match="does not answer"):
        quick_toggle(["toggle", "off"])


def test_both_name_the_deadline_alike() -> None:
    assert deadline.HEADER == DEADLINE_HEADER


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
    assert Path(state_folder()) == StateFolder().path
