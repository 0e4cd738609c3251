"""Who reads a v4l2loopback node: cheap enough to ask at each frame, since it looks only when somebody came or went."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Callable
from typing import Protocol

from occlufix_vcam.system import v4l2

_OPENED, _CLOSED = 0x20, 0x08 | 0x10

#: A program that only lists the cameras opens and closes the node in less.
SETTLED_S = 0.15
#: How often it looks all the same: a sign may be lost; and without signs.
LOOK_READ_S, LOOK_UNREAD_S, LOOK_BLIND_S = 2.0, 10.0, 1.0


class Signs(Protocol):
    """Tells that somebody opened or closed a file."""

    def seen(self) -> bool | None:
        """Whether somebody did since the last call; None where this system does not tell."""
        ...

    def close(self) -> None: ...


class OpenSigns:
    """Linux' inotify on one file."""

    def __init__(self, path: str) -> None:
        self._file = -1
        with contextlib.suppress(OSError, AttributeError):  # no such system call: `seen` says so
            libc = ctypes.CDLL(None, use_errno=True)
            self._file = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self._file >= 0 and libc.inotify_add_watch(self._file, os.fsencode(path), _OPENED | _CLOSED) < 0:
                self.close()

    def seen(self) -> bool | None:
        if self._file < 0:
            return None
        try:
            return bool(os.read(self._file, 65536))
        except BlockingIOError:
            return False

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class WhoReads(Protocol):
    """The programs that read a node."""

    def now(self, usage: int | None) -> list[str]:
        """`usage` is what the module itself told, if it did: so many programs take pictures, whoever runs them."""
        ...

    def close(self) -> None: ...


class Readers:
    """The programs that hold a node open, ourselves left out. Used by one thread."""

    def __init__(
        self,
        path: str,
        *,
        holders: Callable[[str], list[str]] = v4l2.holders,
        signs: Callable[[str], Signs] = OpenSigns,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._holders, self._clock = path, holders, clock
        self._signs = signs(path)
        self._since: dict[str, float] = {}
        self._streaming = 0
        self._look_at = clock()

    def now(self, usage: int | None) -> list[str]:
        now, seen = self._clock(), self._signs.seen()
        if usage is not None:
            self._streaming = usage
        if seen or usage is not None or now >= self._look_at:
            self._look(now, blind=seen is None)
        settled = [name for name, since in self._since.items() if now - since >= SETTLED_S]
        return settled or ["a program"] * min(self._streaming, 1)

    def close(self) -> None:
        self._signs.close()

    def _look(self, now: float, blind: bool) -> None:
        self._since = {name: self._since.get(name, now) for name in self._holders(self._path)}
        if any(now - since < SETTLED_S for since in self._since.values()):
            self._look_at = now + SETTLED_S
        elif blind:
            self._look_at = now + LOOK_BLIND_S
        else:
            self._look_at = now + (LOOK_READ_S if self._since else LOOK_UNREAD_S)
