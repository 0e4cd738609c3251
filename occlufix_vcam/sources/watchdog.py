"""What a camera really does, whatever its driver says: how fast its pictures come, and whether they are new ones."""

from __future__ import annotations

import zlib
from collections import deque

from engines.contract import Image

#: Pictures that a rate is measured over; so many, and so long, before a decision is made on it.
_MOST, _FEWEST, _SURE_PICTURES, _SURE_S = 60, 10, 20, 1.5
#: The same picture for so long is no scene, for a sensor's noise never repeats.
FROZEN_S = 3.0
#: A covered lens may well be the same black again and again: so different must a picture's pixels be to count.
_FLAT = 24
_EVERY_NTH_PIXEL = 8


class RateMeter:
    """Pictures a second, measured. `rate` is 0 until there are enough."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_MOST)
        self._began = 0.0
        self._counted = 0
        self.rate = 0.0

    @property
    def is_sure(self) -> bool:
        """Whether a decision can be made on `rate`."""
        return self._counted >= _SURE_PICTURES and self._times[-1] - self._began >= _SURE_S

    def note(self, captured_at: float) -> None:
        if not self._counted:
            self._began = captured_at
        self._counted += 1
        self._times.append(captured_at)
        if len(self._times) >= _FEWEST and captured_at > self._times[0]:
            self.rate = (len(self._times) - 1) / (captured_at - self._times[0])

    def forget(self) -> None:
        """What comes now is another format."""
        self._times.clear()
        self._counted = 0


class Frozen:
    """Notices a camera that moved and then sends one picture for ever.

    One that never moved is taken as it is: to open it again would change nothing.
    """

    def __init__(self) -> None:
        self._print = -1
        self._since = 0.0
        self._moved = False

    def note(self, image: Image, captured_at: float) -> bool:
        """Whether it is frozen."""
        sample = image[::_EVERY_NTH_PIXEL, ::_EVERY_NTH_PIXEL]
        fingerprint = zlib.crc32(sample.tobytes())
        if fingerprint != self._print:
            self._moved = self._moved or self._print >= 0
            self._print, self._since = fingerprint, captured_at
            return False
        return self._moved and captured_at - self._since > FROZEN_S and int(sample.max()) - int(sample.min()) > _FLAT
