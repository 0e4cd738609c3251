"""Demand for the camera: it is open while a program reads, and a moment longer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: A program that changes its settings closes the camera and reopens it at once.
LINGER_S = 2.0
#: Demand is checked several times per second. After a longer gap the whole process was suspended, as by sleep.
STOOD_STILL_S = 1.0


class Demand:
    """Demand, safe for many threads: the output reports readers, the capture thread waits for them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._until = float("-inf")
        self._asked_at = clock()
        self._holders = 0

    @property
    def now(self) -> bool:
        with self._changed:
            return self._is_there()

    def note(self) -> None:
        """Notes a reader at this moment."""
        with self._changed:
            self._until = max(self._until, self._clock() + LINGER_S)
            self._changed.notify_all()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Demand during the block: a preview, an enrollment."""
        with self._changed:
            self._holders += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._holders -= 1
                self._until = max(self._until, self._clock() + LINGER_S)

    def wait(self, timeout: float) -> bool:
        """Whether there is demand, now or within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(self._is_there, timeout)

    def _is_there(self) -> bool:
        now = self._clock()
        if now - self._asked_at > STOOD_STILL_S:  # no reader can have read in that time, so it does not count
            self._until += now - self._asked_at
        self._asked_at = now
        return self._holders > 0 or now < self._until
