"""Clients that load the control API, in processes that yield to the daemon."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx

from scripts.harness.control_api.bench import Bench


def viewers(bench: Bench, how_many: int) -> contextlib.AbstractContextManager[None]:
    """Processes that read the preview, as browsers do."""
    return _readers(bench, "/v1/preview", how_many)


def listeners(bench: Bench, how_many: int) -> contextlib.AbstractContextManager[None]:
    """Processes that listen to the events as often as the page does."""
    return _readers(bench, "/v1/events?every=0.5", how_many)


@contextlib.contextmanager
def _readers(bench: Bench, path: str, how_many: int) -> Iterator[None]:
    stop = threading.Event()

    def look() -> None:
        url = f"{bench.address.url}{path}"
        with httpx.stream("GET", url, headers=bench.headers, trust_env=False, timeout=30) as response:
            for _ in response.iter_raw():
                pass

    yield from _in_processes(look, how_many, stop)


@contextlib.contextmanager
def nuisances(bench: Bench, how_many: int) -> Iterator[None]:
    """A fifth of each: silent, stalled while reading, flooding with and without the token, sending garbage."""
    stop = threading.Event()
    kinds = [_silent, _stalled, _flood_known, _flood_unknown, _rubbish]

    def annoy(number: int) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError, httpx.HTTPError):
                kinds[number % len(kinds)](bench, stop)

    yield from _in_processes(annoy, how_many, stop, numbered=True)


def _connect(bench: Bench) -> socket.socket:
    return socket.create_connection(("127.0.0.1", bench.address.port), timeout=5)


def _silent(bench: Bench, stop: threading.Event) -> None:
    with _connect(bench) as connection:
        connection.sendall(b"GET /v1/status HTTP/1.1\r\nHost:")
        stop.wait(30)


def _stalled(bench: Bench, stop: threading.Event) -> None:
    with _connect(bench) as connection:
        head = f"GET /v1/preview HTTP/1.1\r\nHost: 127.0.0.1:{bench.address.port}\r\n"
        connection.sendall(f"{head}Authorization: {bench.headers['Authorization']}\r\n\r\n".encode())
        stop.wait(30)


def _flood_known(bench: Bench, stop: threading.Event) -> None:
    with httpx.Client(base_url=bench.address.url, headers=bench.headers, trust_env=False, timeout=30) as http:
        while not stop.is_set():
            http.get("/v1/status")


def _flood_unknown(bench: Bench, stop: threading.Event) -> None:
    with httpx.Client(base_url=bench.address.url, trust_env=False, timeout=30) as http:
        while not stop.is_set():
            http.get("/v1/status")


def _rubbish(bench: Bench, stop: threading.Event) -> None:
    while not stop.is_set():
        with _connect(bench) as connection:
            connection.sendall(b"\x16\x03\x01rubbish\r\n\r\n" * 20)
            connection.recv(1024)


def _in_processes(
    work: Callable[..., None], how_many: int, stop: threading.Event, numbered: bool = False
) -> Iterator[None]:
    """Runs `work` in child processes with this many threads, which yield to the daemon."""
    child = os.fork()
    if child == 0:
        os.nice(19)
        workers = [
            threading.Thread(target=work, args=(number,) if numbered else (), daemon=True) for number in range(how_many)
        ]
        for worker in workers:
            worker.start()
        while os.getppid() != 1:
            time.sleep(0.2)
        os._exit(0)
    try:
        yield
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
