"""The lobby: new connections wait here until they have asked, at almost no cost, and only some are served.

Whose a connection is shows only in the head of its request, so an honest one must not wait behind a crowd of
others. A client that is let in is served at once. Those that would be refused wait for one of a few places, and not for
long. If too many wait, the oldest goes: an honest client has asked by then.

While anybody waits, the lobby looks at all of them at once, and rests in between: each time that this thread wakes, it
takes the interpreter's lock from those who make the pictures.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass

MOST_WAITING = 256
MOST_KNOWN, MOST_STRANGERS = 128, 4  # that are served at once
HEAD_S = 3.0  # after which a connection that has not asked is closed
PLACE_S = 0.5  # after which a stranger that has asked, and found no place, is closed
LONGEST_HEAD = 16 * 1024
REST_S = 0.02
ACCEPTED_AT_ONCE = 64  # between two rests
OUT_OF_FILES_S = 0.1

#: Makes the protocol that serves a connection, from what it said and what to call once it is lost.
Serve = Callable[[bytes, Callable[[], None]], asyncio.Protocol]


@dataclass(slots=True, eq=False)
class Visitor:
    socket: socket.socket
    until: float
    said: bytes = b""


class Lobby:
    """Accepts connections and hands them over. Everything runs in the event loop's thread."""

    def __init__(self, listener: socket.socket, is_known: Callable[[bytes], bool], serve: Serve) -> None:
        """`is_known`: whether the request with this head would be let in."""
        self._listener, self._is_known, self._serve = listener, is_known, serve
        self._loop = asyncio.get_running_loop()
        self._silent: dict[Visitor, None] = {}  # those that have not asked, in the order in which they came
        self._strangers: dict[Visitor, None] = {}  # those that have, and would be refused
        self._ears = selectors.DefaultSelector()
        self._served = {True: 0, False: 0}  # known, strangers
        self._handing_over: set[asyncio.Task[None]] = set()
        self._resting: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        self._loop.add_reader(listener, self._look)

    def close(self) -> None:
        self._loop.remove_reader(self._listener)
        if self._resting is not None:
            self._resting.cancel()
        self._clear()
        self._ears.close()

    def _look(self) -> None:
        """Accepts, hears and dismisses whoever is due; again after a rest while anybody waits."""
        try:
            came, rest = self._accept(), REST_S
        except OSError:  # no more files can be opened: those who wait make room
            self._clear()
            came, rest = True, OUT_OF_FILES_S
        self._hear()
        self._dismiss_late()
        self._serve_strangers()
        self._loop.remove_reader(self._listener)
        if came or self._silent or self._strangers:
            self._resting = self._loop.call_later(rest, self._look)
        elif self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._look)

    def _accept(self) -> bool:
        """Whether anybody came. Raises OSError."""
        for number in range(ACCEPTED_AT_ONCE):
            try:
                connection, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return number > 0
            self._let_wait(connection)
        return True

    def _let_wait(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        if len(self._silent) + len(self._strangers) >= MOST_WAITING:
            self._dismiss(next(iter(self._strangers or self._silent)))
        visitor = Visitor(connection, self._loop.time() + HEAD_S)
        self._silent[visitor] = None
        self._listen(visitor)
        if visitor in self._silent:
            self._ears.register(connection, selectors.EVENT_READ, visitor)

    def _hear(self) -> None:
        if self._silent:
            for key, _ in self._ears.select(0):
                self._listen(key.data)

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
        if not self._is_known(visitor.said):
            self._leave(visitor)
            visitor.until = self._loop.time() + PLACE_S
            self._strangers[visitor] = None
        elif self._served[True] < MOST_KNOWN:
            self._hand_over(visitor, known=True)
        else:
            self._dismiss(visitor)

    def _serve_strangers(self) -> None:
        while self._strangers and self._served[False] < MOST_STRANGERS:
            self._hand_over(next(iter(self._strangers)), known=False)

    def _hand_over(self, visitor: Visitor, known: bool) -> None:
        self._leave(visitor)
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

    def _dismiss_late(self) -> None:
        now = self._loop.time()
        for waiting in (self._silent, self._strangers):
            while waiting and (first := next(iter(waiting))).until <= now:
                self._dismiss(first)

    def _clear(self) -> None:
        for visitor in (*self._silent, *self._strangers):
            self._dismiss(visitor)

    def _dismiss(self, visitor: Visitor) -> None:
        self._leave(visitor)
        visitor.socket.close()

    def _leave(self, visitor: Visitor) -> None:
        """Takes a visitor out of those who wait."""
        self._strangers.pop(visitor, None)
        if visitor in self._silent:
            del self._silent[visitor]
            with contextlib.suppress(KeyError):  # it spoke as it came
                self._ears.unregister(visitor.socket)
