"""Selects each output frame: the newest one, or a substitute for it.

A reader never sees an error, nor an unmarked frozen frame: after half a second without a new frame it gets a
placeholder with the reason, or the last frame with a mark, as `on_failure` says. Where the pipeline is slow, the last
frame stands longer: the rate falls, and no frame goes out untouched for that. While restoring is on, `hold` and `blank`
never show a frame that the pipeline has not processed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from occlufix_vcam.core.frame import Frame, Origin
from occlufix_vcam.core.output_transform import OutputTransform
from occlufix_vcam.core.placeholder import marked, placeholder
from occlufix_vcam.core.settings import Settings

#: How long the last frame may be repeated; and where the pipeline takes longer than that for a frame.
LAST_PICTURE_S, SLOW_PICTURE_S = 0.5, 2.0
#: Frames of a slow source that may be missing before it counts as silent.
MISSED_PICTURES = 2.5


@dataclass(frozen=True, slots=True)
class FinishedFrame:
    """Frame on its way out since `at` (seconds). `processed`: it passed through the pipeline, changed or not."""

    frame: Frame
    processed: bool
    at: float


class FrameSelector:
    """Frames of one output of `size` (width, height). Used by one thread."""

    def __init__(self, size: tuple[int, int], clock: Callable[[], float]) -> None:
        self.size = size
        self._clock = clock
        self._last: FinishedFrame | None = None
        self._held: Frame | None = None  # last one that the pipeline processed since restoring was switched on
        self._arrived_at = float("-inf")
        self._stand_in: tuple[tuple[Frame | None, str], Frame] | None = None
        self._finished: tuple[tuple[Frame, str, bool, bool], Frame] | None = None

    def take(self, finished: FinishedFrame) -> bool:
        """Takes a new frame; returns whether it is newer than the last one."""
        # A frame in progress at the moment of a switch may arrive after a newer untouched one.
        if self._last is not None and finished.frame.captured_at <= self._last.frame.captured_at:
            return False
        self._last = finished
        self._held = finished.frame if finished.processed else self._held
        self._arrived_at = self._clock()
        self._stand_in = None
        return True

    def resume(self) -> None:
        """Resumes after the output reopened: the last frame counts as new, so that no reader sees the gap."""
        self._arrived_at = self._clock()

    def forget(self) -> None:
        """Forgets the last frame when no program reads, so that the next reader does not see the past."""
        self._last, self._held, self._arrived_at = None, None, float("-inf")

    def now(self, rate: float, reason: str, settings: Settings, *, camera_gone: bool, slow: bool = False) -> Frame:
        """Current output frame; shows `reason` if no frame came at `rate` for too long. `slow`: the pipeline is."""
        patience = max(SLOW_PICTURE_S if slow else LAST_PICTURE_S, MISSED_PICTURES / rate)
        if not settings.enabled:
            self._held = None  # earlier restored frames do not return when restoring is switched on again
        is_fresh = self._clock() - self._arrived_at <= patience and not camera_gone
        if self._last is not None and is_fresh and self._may_show(self._last, settings):
            return self._last.frame
        held = self._held if settings.enabled else self._last.frame if self._last else None
        may_hold = settings.on_failure == "hold" or (slow and settings.on_failure == "passthrough")
        return self._stand_in_for(held if may_hold and not camera_gone else None, reason)

    @staticmethod
    def _may_show(last: FinishedFrame, settings: Settings) -> bool:
        return last.processed or not settings.enabled or settings.on_failure == "passthrough"

    def _stand_in_for(self, held: Frame | None, reason: str) -> Frame:
        """The held frame with a mark, or a placeholder; the very same object until that changes."""
        key = (held, reason)
        if self._stand_in is None or self._stand_in[0] != key:
            image = marked(held.image, reason) if held is not None else placeholder(self.size, reason)
            self._stand_in = key, Frame(image, index=-1, captured_at=-1.0)
        return self._stand_in[1]

    def finished(self, frame: Frame, settings: Settings) -> Frame:
        """`frame` fitted and mirrored as in the settings; a placeholder stays as it is."""
        if frame.index < 0:
            return frame
        beside = settings.record is not None and settings.record_before
        key = (frame, settings.fit, settings.mirror, beside)
        if self._finished is None or self._finished[0] != key:
            self._finished = key, _transformed(frame, OutputTransform(self.size, settings.fit, settings.mirror), beside)
        return self._finished[1]


def _transformed(frame: Frame, transform: OutputTransform, beside: bool) -> Frame:
    """`frame` as it goes out; `beside`: with the picture before restoring, transformed the same way."""
    image, origin = transform(frame.image), frame.restored_from
    if image is frame.image:
        return frame
    before = Origin(transform(origin.image), ()) if beside and origin is not None else None
    return replace(frame, image=image, restored_from=before)
