"""Memory of the scene around the faces: learns what is unhidden, recalls what something hides."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import Image
from occlufix_vcam.core.frame import Box, Fill, Frame, HiddenCrop
from occlufix_vcam.stages.geometry import box_in_frame
from occlufix_vcam.stages.scene.cells import AROUND, SceneFrame, block_px, scene_frame
from occlufix_vcam.stages.scene.view import NEAR, SceneView

#: A view is taken every so many seconds, and kept if it stayed unhidden for a while after it: a thing is noticed late.
VIEW_EVERY_S, KEPT_AFTER_S = 0.25, 0.5
MOST_VIEWS = 2
#: An older view is kept only if it shows this share more.
WORTH = 0.005
#: A second view is looked for if it shows this share of what is hidden where the first has less than half of the trust.
LACKING = 0.05
#: A second view is shown where its trust exceeds that of the first by this much, of 255.
BETTER = 15
#: After a pause this long, in seconds, anything may have changed.
PAUSE_S = 1.0
#: A frame of which half the parts change by this many grey levels, apart from its light, is another scene.
CUT = 10.0
_THUMB = (32, 18)


class SceneMemory:
    """Keeps the last unhidden views of what surrounds the faces. Used by one thread; nothing is written to disk.

    Bounded: MOST_VIEWS views, and those of the last KEPT_AFTER_S seconds, each of the box around all faces and no
    larger than the frame: at most 14 MB at 1280x720, 32 MB at 1920x1080.
    """

    def __init__(self) -> None:
        self._optical_flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._optical_flow.setFinestScale(0)
        self._views: list[SceneView] = []
        self._waiting: list[SceneView] = []
        self._taken_at = self._last_at = -np.inf
        self._continuity = _FrameContinuity()

    def __call__(self, frame: Frame, faces: Sequence[HiddenCrop], people: Sequence[int]) -> Fill | None:
        """Learns from a frame, and recalls what its hidden part looks like; None if nothing is hidden, or known.

        `people` holds the number of each face's person: a new number is somebody else, of whom nothing is known.
        """
        paused = not 0 <= frame.captured_at - self._last_at <= PAUSE_S
        self._last_at = frame.captured_at
        if self._continuity.broken(frame.image) or paused:
            self.forget()
        if not faces:
            return None
        now = scene_frame(frame.image, frame.captured_at, faces, people)
        self._learn(now, faces)
        if now.hidden is None or not now.hidden.any():
            for view in self._views:
                view.rest()
            return None
        return self._recall(now)

    @property
    def image_bytes(self) -> int:
        """Size of all kept images."""
        return sum(3 * view.box[2] * view.box[3] for view in (*self._views, *self._waiting))

    def forget(self) -> None:
        """Forgets the scene."""
        self._views, self._waiting, self._taken_at = [], [], -np.inf

    def _learn(self, now: SceneFrame, faces: Sequence[HiddenCrop]) -> None:
        for view in self._waiting:
            view.hide(now)
        while self._waiting and self._waiting[0].at <= now.at - KEPT_AFTER_S:
            self._views = _worth_keeping([*self._views, self._waiting.pop(0)])
        if now.at - self._taken_at >= VIEW_EVERY_S:
            self._taken_at = now.at
            box = _box_around(now.image, faces)
            if box[2] > 0 and box[3] > 0:
                self._waiting.append(SceneView(now, box))

    def _recall(self, now: SceneFrame) -> Fill | None:
        """What the views show of what is hidden: the one that shows most of it, others where it shows less."""
        assert now.hidden is not None
        found: list[SceneView] = []
        hidden = np.asarray(cv2.dilate(now.hidden, NEAR), np.uint8)
        lacking: NDArray[np.bool_] = now.hidden != 0
        least = LACKING * np.count_nonzero(lacking)
        for view in sorted(reversed(self._views), key=lambda view: -_shown_of(view, lacking)):
            if _shown_of(view, lacking) <= least:
                view.rest()
            elif view.find(now, self._optical_flow):
                found.append(view)
                view.part(lacking)[view.trust >= 0.5] = False
                part = view.part(hidden)
                cv2.max(part, cv2.dilate(view.thing, np.ones((5, 5), np.uint8)), dst=part)
            else:
                self.forget()
                return None
        fills = [fill for view in found if (fill := view.rendered(hidden, now.image)) is not None]
        return _composed(fills) if fills else None


class _FrameContinuity:
    """Detects a cut: a frame that differs from the last one nearly everywhere."""

    def __init__(self) -> None:
        self._thumb: NDArray[np.float32] | None = None

    def broken(self, image: Image) -> bool:
        few = cv2.resize(image, (8 * _THUMB[0], 8 * _THUMB[1]), interpolation=cv2.INTER_NEAREST)
        thumb = cv2.resize(few, _THUMB, interpolation=cv2.INTER_AREA).astype(np.float32)
        last, self._thumb = self._thumb, thumb
        if last is None:
            return False
        change = thumb - last
        change -= np.median(change, axis=(0, 1))
        return bool(np.median(np.abs(change).mean(axis=2)) > CUT)


def _worth_keeping(views: list[SceneView]) -> list[SceneView]:
    """The newest of `views`, and those older ones without which less would be shown."""
    while len(views) > 1:
        without = [_shown(views[:number] + views[number + 1 :]) for number in range(len(views) - 1)]
        least = int(np.argmax(without))
        if len(views) <= MOST_VIEWS and without[least] < (1 - WORTH) * _shown(views):
            break
        views = views[:least] + views[least + 1 :]
    return views


def _shown(views: Sequence[SceneView]) -> int:
    """Number of the frame's blocks that any of the views shows."""
    columns, rows = (max(view.blocks[axis] + view.blocks[axis + 2] for view in views) for axis in (0, 1))
    shown = np.zeros((rows, columns), np.uint8)
    for view in views:
        view.part(shown)[view.valid > 0] = 1
    return cv2.countNonZero(shown)


def _shown_of(view: SceneView, blocks: NDArray[np.bool_]) -> int:
    """Number of `blocks` of the frame that the view shows."""
    return int(np.count_nonzero(view.part(blocks) & (view.valid > 0)))


def _box_around(image: Image, faces: Sequence[HiddenCrop]) -> Box:
    """Box of whole blocks around all faces, inside the frame."""
    block = block_px(image)
    boxes = [box_in_frame(AROUND, face.crop.to_crop, image) for face in faces]
    left, top = (min(box[axis] for box in boxes) // block for axis in (0, 1))
    right, bottom = (max(box[axis] + box[axis + 2] for box in boxes) for axis in (0, 1))
    right, bottom = min(-(-right // block), image.shape[1] // block), min(-(-bottom // block), image.shape[0] // block)
    return left * block, top * block, (right - left) * block, (bottom - top) * block


def _meet(one: Box, other: Box) -> Box:
    """Box that lies in both; its sides are 0 if they do not meet."""
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[0] + one[2], other[0] + other[2]), min(one[1] + one[3], other[1] + other[3])
    return (left, top, right - left, bottom - top) if right > left and bottom > top else (left, top, 0, 0)


def _composed(fills: Sequence[Fill]) -> Fill:
    """The first of `fills`, and others where their trust is clearly higher."""
    first = fills[0]
    for other in fills[1:]:
        x, y, width, height = _meet(first.box, other.box)
        own, others = (
            (slice(y - fill.box[1], y - fill.box[1] + height), slice(x - fill.box[0], x - fill.box[0] + width))
            for fill in (first, other)
        )
        gain = cv2.subtract(other.trust[others], first.trust[own])
        _, better = cv2.threshold(gain, BETTER, 255, cv2.THRESH_BINARY)
        cv2.copyTo(other.image[others], better, first.image[own])
        cv2.copyTo(other.trust[others], better, first.trust[own])
    return first
