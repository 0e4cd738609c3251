"""How fast somebody is answered who asks too often."""

from __future__ import annotations

import time
from collections.abc import Callable

#: So many may come in one go, as they do where a page opens.
BURST = 30
LONGEST_DELAY_S = 0.25


class Throttle:
    """Answers at once while no more than `rate` a second are asked, and BURST at first; delays the rest."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._period, self._clock = 1.0 / rate, clock
        self._due = clock() - BURST * self._period

    def delay(self) -> float:
        """Seconds by which this one is to wait."""
        now = self._clock()
        self._due = min(max(self._due, now - BURST * self._period) + self._period, now + LONGEST_DELAY_S)
        return max(0.0, self._due - now)
