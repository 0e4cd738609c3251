"""Measures whether the pipeline keeps up with the camera."""

from __future__ import annotations

from occlufix_vcam.core.frame import Frame

#: The pipeline hurries from this share of the time between two frames on, and below the second share no longer: as
#: hurrying makes it faster, the two are far apart.
HURRY_FROM, REST_BELOW = 0.9, 0.45
#: Weight of the newest frame in the mean, and the most that it counts: one slow frame is no reason.
NEWEST, MOST = 0.1, 2.0


class Load:
    """Share of the time between two frames of the camera that the pipeline takes. Used by one thread."""

    def __init__(self) -> None:
        self.hurries = False
        self._share = 0.0
        self._last: Frame | None = None

    def note(self, frame: Frame, seconds: float) -> bool:
        """Counts a frame that took so many seconds; returns whether the pipeline is to hurry."""
        last, self._last = self._last, frame
        if last is not None and frame.index > last.index and frame.captured_at > last.captured_at:
            period = (frame.captured_at - last.captured_at) / (frame.index - last.index)
            self._share += NEWEST * (min(seconds / period, MOST) - self._share)
            self.hurries = self._share > (REST_BELOW if self.hurries else HURRY_FROM)
        return self.hurries
