"""Measures what a camera really delivers, whatever its driver reports: its rate, and whether frames change."""

from __future__ import annotations

import zlib
from collections import deque

from engines.contract import Image

#: Frames over which a rate is measured; this many, and this long, before a decision relies on it.
_MOST, _FEWEST, _SURE_PICTURES, _SURE_S = 60, 10, 20, 1.5
#: An identical frame for this long is no scene, because a sensor's noise never repeats.
FROZEN_S = 3.0
#: A covered lens may deliver identical black frames: pixels must differ this much for a frame to count.
_FLAT = 24
_EVERY_NTH_PIXEL = 8


class RateMeter:
    """Measured frames per second. `rate` is 0 until there are enough."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_MOST)
        self._began = 0.0
        self._counted = 0
        self.rate = 0.0

    @property
    def is_sure(self) -> bool:
        """Whether a decision can rely on `rate`."""
        return self._counted >= _SURE_PICTURES and self._times[-1] - self._began >= _SURE_S

    def note(self, captured_at: float) -> None:
        if not self._counted:
            self._began = captured_at
        self._counted += 1
        self._times.append(captured_at)
        if len(self._times) >= _FEWEST and captured_at > self._times[0]:
            self.rate = (len(self._times) - 1) / (captured_at - self._times[0])

    def forget(self) -> None:
        """Restarts the measurement for another format."""
        self._times.clear()
        self._counted = 0


class Frozen:
    """Detects a camera that delivered changing frames and then repeats one frame forever.

    A camera that never changed is accepted: reopening it would change nothing.
    """

    def __init__(self) -> None:
        self._print = -1
        self._since = 0.0
        self._moved = False

    def note(self, image: Image, captured_at: float) -> bool:
        """Notes a frame; returns whether the camera is frozen."""
        sample = image[::_EVERY_NTH_PIXEL, ::_EVERY_NTH_PIXEL]
        fingerprint = zlib.crc32(sample.tobytes())
        if fingerprint != self._print:
            self._moved = self._moved or self._print >= 0
            self._print, self._since = fingerprint, captured_at
            return False
        return self._moved and captured_at - self._since > FROZEN_S and int(sample.max()) - int(sample.min()) > _FLAT
