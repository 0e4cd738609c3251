"""The lobby: new connections wait here until they have asked, at almost no cost, and only some are served.

Whose a connection is shows only in the head of its request, so an honest one must not wait behind a crowd of
others. A client that is let in is served at once. Those that would be refused wait for one of a few places, so that a
flood of them takes no time from the frames. If too many wait, the oldest goes: an honest client has asked by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

MOST_WAITING = 256
MOST_KNOWN, MOST_STRANGERS = 128, 16  # that are served at once
HEAD_S = 4.0  # after which a connection that has not asked, or found no place, is closed
LONGEST_HEAD = 16 * 1024
ACCEPTED_AT_ONCE = 32  # before those that were accepted are looked at
OUT_OF_FILES_S = 0.1

#: Makes the protocol that serves a connection, from what it said and what to call once it is lost.
Serve = Callable[[bytes, Callable[[], None]], asyncio.Protocol]


@dataclass(slots=True, eq=False)
class Visitor:
    socket: socket.socket
    came: float
    said: bytes = b""


class Lobby:
    """Accepts connections and hands them over. Everything runs in the event loop's thread."""

    def __init__(self, listener: socket.socket, is_known: Callable[[bytes], bool], serve: Serve) -> None:
        """`is_known`: whether the request with this head would be let in."""
        self._listener, self._is_known, self._serve = listener, is_known, serve
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Visitor, None] = {}  # in the order in which they came
        self._strangers: deque[Visitor] = deque()  # those of them that have asked
        self._served = {True: 0, False: 0}  # known, strangers
        self._handing_over: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        self._open()

    def close(self) -> None:
        self._loop.remove_reader(self._listener)
        for visitor in list(self._waiting):
            self._dismiss(visitor)
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _open(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no more files can be opened: those who wait make room
                self._loop.remove_reader(self._listener)
                for visitor in list(self._waiting):
                    self._dismiss(visitor)
                self._loop.call_later(OUT_OF_FILES_S, self._open)
                return
            self._let_wait(connection)

    def _let_wait(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        if len(self._waiting) >= MOST_WAITING:
            self._dismiss(next(iter(self._waiting)))
        visitor = Visitor(connection, self._loop.time())
        self._waiting[visitor] = None
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(HEAD_S, self._sweep)
        self._loop.add_reader(connection, self._listen, visitor)
        self._listen(visitor)

    def _listen(self, visitor: Visitor) -> None:
        try:
            said = visitor.socket.recv(LONGEST_HEAD)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            said = b""
        visitor.said += said
        if not said:
            self._dismiss(visitor)
        elif b"\r\n\r\n" in visitor.said or len(visitor.said) >= LONGEST_HEAD:
            self._place(visitor)

    def _place(self, visitor: Visitor) -> None:
        self._loop.remove_reader(visitor.socket)
        if not self._is_known(visitor.said):
            self._strangers.append(visitor)
            self._serve_strangers()
        elif self._served[True] < MOST_KNOWN:
            self._hand_over(visitor, known=True)
        else:
            self._dismiss(visitor)

    def _serve_strangers(self) -> None:
        while self._strangers and self._served[False] < MOST_STRANGERS:
            visitor = self._strangers.popleft()
            if visitor in self._waiting:
                self._hand_over(visitor, known=False)

    def _hand_over(self, visitor: Visitor, known: bool) -> None:
        del self._waiting[visitor]
        self._served[known] += 1

        def lost() -> None:
            self._served[known] -= 1
            self._serve_strangers()

        task = self._loop.create_task(self._connect(visitor, lost))
        self._handing_over.add(task)
        task.add_done_callback(self._handing_over.discard)

    async def _connect(self, visitor: Visitor, lost: Callable[[], None]) -> None:
        protocol = self._serve(visitor.said, lost)
        with contextlib.suppress(OSError):  # it is gone, and the protocol knows
            await self._loop.connect_accepted_socket(lambda: protocol, visitor.socket)

    def _dismiss(self, visitor: Visitor) -> None:
        self._waiting.pop(visitor, None)
        self._loop.remove_reader(visitor.socket)
        visitor.socket.close()

    def _sweep(self) -> None:
        """Closes those that came too long ago; comes again when the next one is due."""
        now = self._loop.time()
        for visitor in list(self._waiting):
            if visitor.came + HEAD_S > now:
                self._sweeping = self._loop.call_later(visitor.came + HEAD_S - now, self._sweep)
                return
            self._dismiss(visitor)
        self._sweeping = None
