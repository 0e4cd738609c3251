"""Plays other sources at a camera's pace."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Schedule of an endless sequence; frame 0 is due at the first call."""

    def __init__(
        self,
        rate: float,
        realtime: bool,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate, self._realtime, self._clock, self._sleep = rate, realtime, clock, sleep
        self._started: float | None = None

    def wait(self, index: int, timeout: float) -> int | None:
        """Waits until frame `index` is due and returns that index, or a later one if time has passed it.

        None if it is not due within `timeout` seconds. Without real time, every frame is due at once.
        """
        if not self._realtime:
            return index
        now = self._clock()
        if self._started is None:
            self._started = now - index / self._rate
        early = self._started + index / self._rate - now
        if early > timeout:
            self._sleep(timeout)
            return None
        if early > 0:
            self._sleep(early)
            return index
        return index + int(-early * self._rate)

    def restart(self, index: int) -> None:
        """Makes `index` due now, for a source that cannot keep up."""
        self._started = self._clock() - index / self._rate
