"""A crowd of connections without the token, in a process of its own: python -m scripts.harness.crowd PORT IDLE HOSTILE.

Says "ready" once so many were made and "done" once the requests were; when its input ends, a line of JSON: how long a
connection was held at most, and what came of the requests.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

WORKERS = 32
AT_ONCE, PAUSE_S = 50, 0.05  # so many connections are made before those that were closed are looked at


class Idle:
    """Connections that send nothing; each that is closed is opened again."""

    def __init__(self, port: int, how_many: int) -> None:
        self._port, self._missing, self._how_many = port, how_many, how_many
        self._selector = selectors.DefaultSelector()
        self.longest_s, self.made, self.stand = 0.0, 0, threading.Event()

    def keep(self, stop: threading.Event) -> None:
        while not stop.is_set():
            for _ in range(min(self._missing, AT_ONCE)):
                self._connect()
            for key, _ in self._selector.select(timeout=PAUSE_S):
                self._selector.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]
                self.longest_s = max(self.longest_s, time.monotonic() - key.data)
                self._missing += 1
        # Those that still stand count as well.
        standing = [key.data for key in self._selector.get_map().values()]
        self.longest_s = max([self.longest_s, *(time.monotonic() - began for began in standing)])

    def _connect(self) -> None:
        with contextlib.suppress(OSError):
            peer = socket.create_connection(("127.0.0.1", self._port), timeout=60)
            self._selector.register(peer, selectors.EVENT_READ, time.monotonic())
            self._missing -= 1
            self.made += 1
        if self.made >= self._how_many:
            self.stand.set()


def attack(port: int, left: list[int], told: Counter[str]) -> None:
    """Asks without the token for what there is to see, until all requests are made."""
    head = f"GET /v1/snapshot HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer wrong\r\n\r\n".encode()
    while True:
        try:
            left.pop()
        except IndexError:
            return
        answer = b""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=60) as peer:
            peer.sendall(head)
            answer = peer.recv(64)
        told[answer[9:12].decode() or "closed"] += 1


@contextlib.contextmanager
def crowd(port: int, idle: int, hostile: int) -> Iterator[tuple[Callable[[], bool], dict[str, float]]]:
    """A crowd in a process of its own. Yields whether all requests were made, and figures that are there at the end."""
    told: dict[str, float] = {}
    command = [sys.executable, "-m", __name__, str(port), str(idle), str(hostile)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdin is not None
        assert child.stdout.readline() == b"ready\n"
        yield lambda: bool(select.select([child.stdout], [], [], 0)[0]), told
        child.stdin.close()
        assert child.stdout.readline() == b"done\n"
        told |= json.loads(child.stdout.readline())


def main(port: int, idle: int, hostile: int) -> None:
    os.nice(19)  # its own cost is not the daemon's
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    peers, stop, told = Idle(port, idle), threading.Event(), Counter[str]()
    left = [0] * hostile
    keeper = threading.Thread(target=peers.keep, args=(stop,))
    keeper.start()
    peers.stand.wait()
    print("ready", flush=True)
    workers = [threading.Thread(target=attack, args=(port, left, told)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print("done", flush=True)
    sys.stdin.read()
    stop.set()
    keeper.join()
    figures = {"held_at_most_s": round(peers.longest_s, 1), "idle_made": peers.made, "hostile": sum(told.values())}
    print(json.dumps({**figures, **{f"hostile_{what}": count for what, count in told.items()}}), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
