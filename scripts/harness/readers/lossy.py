"""A relay between the two ends of a call that loses and delays their packets, as a network does."""

from __future__ import annotations

import heapq
import random
import re
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field

LOOPBACK = "127.0.0.1"
LONGEST_PACKET = 65_536
#: Of a host's UDP address: what stands before it, the address, and the port.
_CANDIDATE = re.compile(r"^(a=candidate:\S+ 1 udp \d+) (\S+) (\d+)( typ host.*)$", re.IGNORECASE | re.MULTILINE)

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Network:
    """`loss` is the share of packets that are lost, 0..1; `delay_s` is added each way."""

    loss: float = 0.0
    delay_s: float = 0.0


@dataclass(order=True)
class _Packet:
    due: float
    data: bytes = field(compare=False)
    way: int = field(compare=False)


class Relay(threading.Thread):
    """Stands for each end at the other: `offer` and `answer` replace their addresses in the session descriptions."""

    def __init__(self, network: Network, seed: int = 0) -> None:
        super().__init__(name="relay", daemon=True)
        self._network, self._chance = network, random.Random(seed)
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for each in self._sockets:
            each.bind((LOOPBACK, 0))
        #: Real addresses of the ends: what arrives at a socket came from the other one's.
        self._ends: list[Address | None] = [None, None]
        self._ended = threading.Event()
        self._late: list[_Packet] = []

    def offer(self, description: str) -> str:
        """Session description of the first end, with our address for its own. Raises ValueError if it has none."""
        return self._replaced(description, 0)

    def answer(self, description: str) -> str:
        """The same for the second end."""
        return self._replaced(description, 1)

    def _replaced(self, description: str, end: int) -> str:
        found = [one for one in _CANDIDATE.finditer(description) if ":" not in one[2]]
        if not found:
            raise ValueError("the description names no address")
        self._ends[end] = (found[0][2], int(found[0][3]))
        ours = f"{found[0][1]} {LOOPBACK} {self._sockets[end].getsockname()[1]} typ host"
        kept = [line for line in description.splitlines() if not line.startswith("a=candidate:")]
        at = next(number for number, line in enumerate(kept) if line.startswith("a=ice-ufrag"))
        return "\r\n".join([*kept[:at], ours, *kept[at:], ""])

    def run(self) -> None:
        with selectors.DefaultSelector() as ready:
            for way, each in enumerate(self._sockets):
                ready.register(each, selectors.EVENT_READ, way)
            while not self._ended.is_set():
                wait = max(0.0, self._late[0].due - time.monotonic()) if self._late else 0.05
                for key, _ in ready.select(min(wait, 0.05)):
                    self._take(key.data)
                self._send_due()
        for each in self._sockets:
            each.close()

    def close(self) -> None:
        self._ended.set()
        self.join()

    def _take(self, way: int) -> None:
        data = self._sockets[way].recv(LONGEST_PACKET)
        if self._chance.random() >= self._network.loss:
            heapq.heappush(self._late, _Packet(time.monotonic() + self._network.delay_s, data, way))

    def _send_due(self) -> None:
        """What came in at one end's stand-in goes to that end, from the other's."""
        while self._late and self._late[0].due <= time.monotonic():
            packet = heapq.heappop(self._late)
            to = self._ends[packet.way]
            if to is not None:
                self._sockets[1 - packet.way].sendto(packet.data, to)
