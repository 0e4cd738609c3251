"""Connections are bounded and none is held for long: a crowd of others does not keep an honest client out."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from occlufix_vcam.control import connection, guard, lobby
from occlufix_vcam.control.connection import Connection
from occlufix_vcam.control.lobby import Lobby
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.runtime.daemon import Daemon
from tests.harness.control import Served, serving
from tests.harness.fakes import WAIT_S

Connect = Callable[..., socket.socket]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(Daemon(Settings()), tmp_path) as served:
        yield served


@pytest.fixture
def connect(served: Served) -> Iterator[Connect]:
    """Makes connections that say something, and closes them at the end."""
    with contextlib.ExitStack() as opened:

        def new(said: bytes = b"") -> socket.socket:
            peer = opened.enter_context(socket.create_connection(("127.0.0.1", served.address.port), timeout=WAIT_S))
            peer.sendall(said)
            return peer

        yield new


def request(served: Served, path: str = "/v1/status", token: str | None = None, method: str = "GET") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{served.address.port}\r\n"
    return f"{head}Authorization: Bearer {token or served.address.token}\r\n\r\n".encode()


def rest(peer: socket.socket) -> bytes:
    """What still comes until the connection is closed, which fails after WAIT_S."""
    told = b""
    with contextlib.suppress(ConnectionError):
        while part := peer.recv(65536):
            told += part
    return told


def answer(peer: socket.socket) -> bytes:
    """The head of an answer on a connection that stays open, of which the whole answer is read."""
    told = more(peer)
    while b"\r\n\r\n" not in told:
        told += more(peer)
    head, _, body = told.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += more(peer)
    return head


def more(peer: socket.socket) -> bytes:
    part = peer.recv(65536)
    assert part, "the connection was closed"
    return part


def test_of_a_crowd_that_does_not_ask_only_so_many_are_kept_and_others_are_served(
    served: Served, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lobby, "HEAD_S", 3600.0)
    crowd = [connect(b"G") for _ in range(lobby.MOST_WAITING + 100)]
    assert served.ask().status_code == 200  # it came last, so all before it were looked at
    dismissed = crowd[: len(crowd) - lobby.MOST_WAITING]
    assert [rest(peer) for peer in dismissed] == [b""] * len(dismissed)
    late = crowd[-1]
    late.sendall(request(served)[1:])
    assert answer(late).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost:"])
def test_who_does_not_ask_is_closed(connect: Connect, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(lobby, "HEAD_S", 0.05)
    assert [rest(peer) for peer in [connect(said) for _ in range(20)]] == [b""] * 20


@pytest.mark.parametrize("half", [b"G", b"GET /v1/sta", b"GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
def test_a_second_request_that_does_not_end_is_closed(
    served: Served, connect: Connect, monkeypatch: pytest.MonkeyPatch, half: bytes
) -> None:
    monkeypatch.setattr(connection, "STALLED_S", 0.3)
    peer = connect(request(served))
    assert answer(peer).startswith(b"HTTP/1.1 200")
    peer.sendall(half)
    assert rest(peer) == b""


def test_a_request_that_comes_in_pieces_is_answered(served: Served, connect: Connect) -> None:
    peer = connect()
    for byte in request(served):
        peer.sendall(bytes([byte]))
    assert answer(peer).startswith(b"HTTP/1.1 200")
    peer.sendall(request(served) * 2)
    assert answer(peer).startswith(b"HTTP/1.1 200")


def test_nobody_honest_waits_behind_those_who_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "REFUSED_A_SECOND", 1e-6)
    monkeypatch.setattr(connection, "LONGEST_DELAY_S", 3600.0)
    monkeypatch.setattr(lobby, "PLACE_S", 3600.0)
    hostile = connection.BURST + 2 * lobby.MOST_STRANGERS
    with serving(Daemon(Settings()), tmp_path) as served, contextlib.ExitStack() as opened:
        address = ("127.0.0.1", served.address.port)
        refused = [opened.enter_context(socket.create_connection(address, WAIT_S)) for _ in range(hostile)]
        for peer in refused:
            peer.sendall(request(served, token="wrong"))
        for _ in range(20):
            assert served.ask("POST", "/v1/toggle").status_code == 200
        assert sum(map(is_waiting, refused)) >= 2 * lobby.MOST_STRANGERS


def test_a_crowd_is_looked_at_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, look = [], Lobby._look

    def counted(self: Lobby) -> None:
        looks.append(look(self))

    monkeypatch.setattr(Lobby, "_look", counted)
    with serving(Daemon(Settings()), tmp_path) as served, contextlib.ExitStack() as opened:
        address = ("127.0.0.1", served.address.port)
        known, *others = (opened.enter_context(socket.create_connection(address, WAIT_S)) for _ in range(21))
        known.sendall(request(served))
        assert answer(known).startswith(b"HTTP/1.1 200")
        monkeypatch.setattr(lobby, "REST_S", 3600.0)
        before = len(looks)
        for peer in others:
            peer.sendall(request(served, token="wrong"))
            known.sendall(request(served))
            answer(known)  # so the server came by again
        assert len(looks) - before <= 2  # the one that was due, and that for the first of them


def is_waiting(peer: socket.socket) -> bool:
    """Whether it was neither answered nor closed."""
    peer.setblocking(False)
    try:
        peer.recv(1)
    except BlockingIOError:
        return True
    return False


def test_hostile_requests_are_refused_or_dropped_and_show_nothing(served: Served, connect: Connect) -> None:
    told: list[bytes] = []

    def attack(path: str) -> None:
        for _ in range(20):
            with contextlib.suppress(ConnectionError):
                told.append(rest(connect(request(served, path, token="wrong"))))

    paths = ("/v1/status", "/v1/snapshot", "/open?key=x", "/page/app.js", "/")
    attackers = [threading.Thread(target=attack, args=(path,)) for path in paths]
    for attacker in attackers:
        attacker.start()
    for _ in range(20):
        assert served.ask().status_code == 200
    for attacker in attackers:
        attacker.join()
    assert any(told) and {one.split()[1] for one in told if one} == {b"401"}


def test_where_too_many_are_let_in_at_once_the_next_one_is_closed(
    served: Served, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lobby, "MOST_KNOWN", 2)
    streams = [connect(request(served, "/v1/events")) for _ in range(2)]
    assert all(stream.recv(12) == b"HTTP/1.1 200" for stream in streams)
    assert rest(connect(request(served))) == b""
    assert all(stream.recv(1) for stream in streams)


def test_who_takes_nothing_of_an_answer_is_dropped(
    served: Served, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "UNTAKEN_S", 0.1)
    lost = threading.Event()
    plain = Connection.connection_lost

    def connection_lost(self: Connection, exc: Exception | None) -> None:
        plain(self, exc)
        lost.set()

    monkeypatch.setattr(Connection, "connection_lost", connection_lost)
    noise = np.random.default_rng(1).integers(0, 256, (2160, 3840, 3), np.uint8)
    served.daemon.broadcast.show(Frame(noise, 1, 1.0))
    connect(request(served, "/v1/snapshot?format=png"))
    assert lost.wait(WAIT_S)
