"""What goes out at each tick: the newest picture, or what stands for it when there is none.

A reader never sees an error or a picture that stands still without a sign: after half a second without a new picture
it is a placeholder frame with the reason, or the last picture with a mark, as `on_failure` says.
"""

from __future__ import annotations

from collections.abc import Callable

from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.output_transform import OutputTransform
from occlufix_vcam.core.placeholder import marked, placeholder
from occlufix_vcam.core.settings import Settings

#: How long the last picture may stand for the next one.
LAST_PICTURE_S = 0.5
#: Pictures of a slow source that may be missing before it counts as silent.
MISSED_PICTURES = 2.5


class FrameSelector:
    """The picture of one output of `size` (width, height). Used by one thread."""

    def __init__(self, size: tuple[int, int], clock: Callable[[], float]) -> None:
        self._size = size
        self._clock = clock
        self._last: Frame | None = None
        self._arrived_at = float("-inf")
        self._stand_in: tuple[str, Frame] | None = None
        self._finished: tuple[tuple[Frame, str, bool], Frame] | None = None

    def take(self, frame: Frame) -> bool:
        """Takes a new picture; whether it is newer than the last one."""
        # A frame that was under way when the switch was thrown may arrive after a newer untouched one.
        if self._last is not None and frame.captured_at <= self._last.captured_at:
            return False
        self._last = frame
        self._arrived_at = self._clock()
        self._stand_in = None
        return True

    def forget(self) -> None:
        """Nobody looks any more; the next one who does must not see what was before the camera then."""
        self._last, self._arrived_at = None, float("-inf")

    def now(self, rate: float, reason: str, settings: Settings, *, camera_gone: bool) -> Frame:
        """What goes out now; `reason` is said where no picture came at `rate` for too long."""
        patience = max(LAST_PICTURE_S, MISSED_PICTURES / rate)
        if self._last is not None and self._clock() - self._arrived_at <= patience and not camera_gone:
            return self._last
        holds = self._last is not None and settings.on_failure == "hold" and not camera_gone
        key = f"{holds} {reason}"
        if self._stand_in is None or self._stand_in[0] != key:
            image = marked(self._last.image, reason) if holds and self._last else placeholder(self._size, reason)
            self._stand_in = key, Frame(image, index=-1, captured_at=-1.0)
        return self._stand_in[1]

    def finished(self, frame: Frame, settings: Settings) -> Frame:
        """`frame` fitted and mirrored as the settings say; what has no picture of a camera stays as it is."""
        if frame.index < 0:
            return frame
        key = (frame, settings.fit, settings.mirror)
        if self._finished is None or self._finished[0] != key:
            image = OutputTransform(self._size, settings.fit, settings.mirror)(frame.image)
            done = frame if image is frame.image else Frame(image, frame.index, frame.captured_at)
            self._finished = key, done
        return self._finished[1]
