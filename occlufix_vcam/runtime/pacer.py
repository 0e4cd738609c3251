"""Paces output frames: at the camera's steady rate, in phase with its frames.

A fixed grid would delay every frame by half a frame interval on average. So a frame may go out a little early or late,
and the grid drifts towards the camera's frames; without any, the grid continues alone.
"""

from __future__ import annotations

from collections.abc import Callable

#: Shares of a frame interval: how early a frame may go out, and how long a late one is waited for.
EARLY, LATE = 0.25, 0.5
#: How far one off-grid frame shifts the grid.
LEANING = 0.1
#: Delay in frames (a blocked sink, a suspended machine) after which the grid restarts and does not catch up.
LOST = 3.0


class FramePacer:
    """Output ticks at `rate` per second. Used by one thread."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._period = 1.0 / rate
        self._clock = clock
        self._due = clock()

    def until_early(self) -> float:
        """Seconds until a frame may go out."""
        return max(0.0, self._due - EARLY * self._period - self._clock())

    def until_late(self) -> float:
        """Seconds for which a frame may still be waited for; then the last one is repeated."""
        return max(0.0, self._due + LATE * self._period - self._clock())

    def next(self, fresh: bool) -> None:
        """Advances to the next tick; a `fresh` frame shifts the grid towards it."""
        off = self._clock() - self._due
        if abs(off) > LOST * self._period:
            self._due += off
        elif fresh:
            self._due += LEANING * off
        self._due += self._period
