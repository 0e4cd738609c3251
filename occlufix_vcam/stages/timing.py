"""Times of a stream in seconds, so that no stage depends on the frame rate."""

from __future__ import annotations

#: What one frame takes where times do not tell, and the longest step that counts: a camera may pause.
FRAME_S, LONGEST_S = 1 / 30, 0.25


class Stopwatch:
    """Measures the seconds from one frame of a face to the next."""

    def __init__(self) -> None:
        self._at: float | None = None

    def step(self, at: float) -> float:
        """Seconds since the last frame; those of one frame at first, and where time stands still or goes back."""
        last, self._at = self._at, at
        return min(at - last, LONGEST_S) if last is not None and at > last else FRAME_S


def eased(share: float, seconds: float) -> float:
    """Share of the way that a low-pass filter goes in `seconds`, if it goes `share` of it in FRAME_S."""
    return float(1 - (1 - share) ** (seconds / FRAME_S))
