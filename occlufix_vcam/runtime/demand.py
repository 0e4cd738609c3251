"""Whether the camera has to be open: only while somebody looks, and a moment longer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: A program that changes its settings closes the camera and opens it again at once.
LINGER_S = 2.0
#: It is asked several times a second. Where nobody asked for so long all of us stood still, as in a machine that slept.
STOOD_STILL_S = 1.0


class Demand:
    """Safe for many threads: the output says what it sees, the capture thread waits for it."""

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
        """Somebody looks at this moment."""
        with self._changed:
            self._until = max(self._until, self._clock() + LINGER_S)
            self._changed.notify_all()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Somebody looks as long as the block lasts: a preview, an enrolment."""
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
        """Whether somebody looks, now or before `timeout` seconds are over."""
        with self._changed:
            return self._changed.wait_for(self._is_there, timeout)

    def _is_there(self) -> bool:
        now = self._clock()
        if now - self._asked_at > STOOD_STILL_S:  # nobody can have looked in that time, and it does not count
            self._until += now - self._asked_at
        self._asked_at = now
        return self._holders > 0 or now < self._until
