"""Selects each output frame: the newest one, or what stands in for it.

A reader never sees an error, nor a frame that stands still without a sign: after half a second without a new frame it
is a placeholder with the reason, or the last frame with a mark, as `on_failure` says. While restoring is on, `hold` and
`blank` never show a frame that the pipeline has not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.output_transform import OutputTransform
from occlufix_vcam.core.placeholder import marked, placeholder
from occlufix_vcam.core.settings import Settings

#: How long the last picture may stand for the next one.
LAST_PICTURE_S = 0.5
#: Pictures of a slow source that may be missing before it counts as silent.
MISSED_PICTURES = 2.5


@dataclass(frozen=True, slots=True)
class FinishedFrame:
    """A frame on its way out. `processed`: it went through the pipeline, whether or not that changed it."""

    frame: Frame
    processed: bool


class FrameSelector:
    """The frames of one output of `size` (width, height). Used by one thread."""

    def __init__(self, size: tuple[int, int], clock: Callable[[], float]) -> None:
        self.size = size
        self._clock = clock
        self._last: FinishedFrame | None = None
        self._held: Frame | None = None  # the last one that the pipeline saw since it was switched on
        self._arrived_at = float("-inf")
        self._stand_in: tuple[tuple[Frame | None, str], Frame] | None = None
        self._finished: tuple[tuple[Frame, str, bool], Frame] | None = None

    def take(self, finished: FinishedFrame) -> bool:
        """Takes a new frame; whether it is newer than the last one."""
        # A frame that was under way when the switch was thrown may arrive after a newer untouched one.
        if self._last is not None and finished.frame.captured_at <= self._last.frame.captured_at:
            return False
        self._last = finished
        self._held = finished.frame if finished.processed else self._held
        self._arrived_at = self._clock()
        self._stand_in = None
        return True

    def resume(self) -> None:
        """The output was opened again: the last frame counts as new, so that nobody sees the break."""
        self._arrived_at = self._clock()

    def forget(self) -> None:
        """Nobody looks any more; the next one who does must not see what was before the camera then."""
        self._last, self._held, self._arrived_at = None, None, float("-inf")

    def now(self, rate: float, reason: str, settings: Settings, *, camera_gone: bool) -> Frame:
        """What goes out now; `reason` is said where no picture came at `rate` for too long."""
        patience = max(LAST_PICTURE_S, MISSED_PICTURES / rate)
        if not settings.enabled:
            self._held = None  # what was restored before does not come back when restoring is switched on again
        is_fresh = self._clock() - self._arrived_at <= patience and not camera_gone
        if self._last is not None and is_fresh and self._may_show(self._last, settings):
            return self._last.frame
        held = self._held if settings.enabled else self._last.frame if self._last else None
        return self._stand_in_for(None if camera_gone or settings.on_failure != "hold" else held, reason)

    @staticmethod
    def _may_show(last: FinishedFrame, settings: Settings) -> bool:
        return last.processed or not settings.enabled or settings.on_failure == "passthrough"

    def _stand_in_for(self, held: Frame | None, reason: str) -> Frame:
        """The held frame with a mark, else a placeholder; the very same object until that changes."""
        key = (held, reason)
        if self._stand_in is None or self._stand_in[0] != key:
            image = marked(held.image, reason) if held is not None else placeholder(self.size, reason)
            self._stand_in = key, Frame(image, index=-1, captured_at=-1.0)
        return self._stand_in[1]

    def finished(self, frame: Frame, settings: Settings) -> Frame:
        """`frame` fitted and mirrored as the settings say; what has no picture of a camera stays as it is."""
        if frame.index < 0:
            return frame
        key = (frame, settings.fit, settings.mirror)
        if self._finished is None or self._finished[0] != key:
            image = OutputTransform(self.size, settings.fit, settings.mirror)(frame.image)
            done = frame if image is frame.image else Frame(image, frame.index, frame.captured_at)
            self._finished = key, done
        return self._finished[1]
