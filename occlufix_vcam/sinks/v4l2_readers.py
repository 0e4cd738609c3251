"""Readers of a v4l2loopback node: cheap enough for every frame, scanned only after a program opened or closed it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Callable
from typing import Protocol

from occlufix_vcam.system import v4l2

_OPENED, _CLOSED = 0x20, 0x08 | 0x10

#: Programs that only list cameras open and close the node in less time.
SETTLED_S = 0.15
#: Interval of scans: a notice may be lost; without notices, the only scans.
LOOK_READ_S, LOOK_UNREAD_S, LOOK_BLIND_S = 2.0, 10.0, 1.0


class Signs(Protocol):
    """Notices that a program opened or closed a file."""

    def seen(self) -> bool | None:
        """Whether one did since the last call; None if this system does not report it."""
        ...

    def close(self) -> None: ...


class OpenSigns:
    """Linux' inotify on one file."""

    def __init__(self, path: str) -> None:
        self._file = -1
        with contextlib.suppress(OSError, AttributeError):  # no such system call: `seen` reports it
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
    """Programs that read a node."""

    def now(self, usage: int | None) -> list[str]:
        """Current readers. `usage` is the module's own count of them, if it reports one."""
        ...

    def close(self) -> None: ...


class Readers:
    """Programs that hold a node open, except this one. Used by one thread."""

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
