"""The rhythm of the output: steady at the camera's rate for whoever watches, in step with the pictures as they come.

A fixed grid would let every picture wait for its line, half a frame on average. So a picture may go out a little early
or late, and the grid leans towards where pictures come; where none comes, the grid goes on without it.
"""

from __future__ import annotations

from collections.abc import Callable

#: Shares of a frame's time: how early a picture may go out, how long one that is late is waited for.
EARLY, LATE = 0.25, 0.5
#: How far the grid follows one picture that is off the grid.
LEANING = 0.1
#: Frames of delay (a sink that hung, a machine that slept) after which the grid starts anew instead of catching up.
LOST = 3.0


class FramePacer:
    """One output's rhythm at `rate` beats a second. Used by one thread."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._period = 1.0 / rate
        self._clock = clock
        self._due = clock()

    def until_early(self) -> float:
        """Seconds until a picture may go out."""
        return max(0.0, self._due - EARLY * self._period - self._clock())

    def until_late(self) -> float:
        """Seconds for which a picture may still be waited for; then the last one goes out again."""
        return max(0.0, self._due + LATE * self._period - self._clock())

    def next(self, fresh: bool) -> None:
        """A picture goes out now; the grid leans towards it where it is a `fresh` one."""
        off = self._clock() - self._due
        if abs(off) > LOST * self._period:
            self._due += off
        elif fresh:
            self._due += LEANING * off
        self._due += self._period
