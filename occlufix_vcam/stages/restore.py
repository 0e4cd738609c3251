"""Restores hidden parts: from memory where it fits, by the network elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from engines.base import InferenceEngine
from engines.contract import CROP_PX, HIDDEN, Affine, Image
from occlufix_vcam.core.frame import HiddenCrop, Patch, in_wide
from occlufix_vcam.stages.geometry import compose, face_area, warp_colours, warp_mask
from occlufix_vcam.stages.hidden import SPECK_PX
from occlufix_vcam.stages.motion import IDENTITY
from occlufix_vcam.stages.reference import Reference
from occlufix_vcam.stages.timing import FRAME_S, Stopwatch, eased

Means = Literal["auto", "network", "memory"]
WhenUnsure = Literal["restore", "passthrough", "hold", "blank"]

#: Width, in crop pixels, of the transition from memory to the network's image inside the hole.
BLEND_PX = 9
#: If the confidence is this high in the whole hole, the network is not run.
WHOLLY = 250
#: With more of a face hidden than the first value and no memory of it, the network would paint a stranger; below the
#: second value it paints again.
TOO_LITTLE_SEEN, ENOUGH_SEEN = 0.75, 0.65
#: Number of squares across a pixelated face.
SQUARES = 12
#: A hole that grew by no more than two crop pixels shows nothing that was not painted.
_RIM = np.ones((5, 5), np.uint8)
#: Share of the newest image in what is shown of a still face, in a thirtieth of a second; it rises to 1 as the face
#: moves by FAST_PX crop pixels in that time.
NEWEST, FAST_PX = 0.35, 10.0


class Restorer:
    """Restores what the mask hides. Used by one thread.

    `means`: "network" shows the output of the `restore` network for the face and its reference, "memory" the valid part
    of the reference, and "auto" each where it fits. `when_unsure` is the treatment of a face of which too little is
    visible or remembered: restored anyway, left as it is, held at its last restored image, or pixelated.
    """

    def __init__(self, engine: InferenceEngine, means: Means = "auto", when_unsure: WhenUnsure = "passthrough") -> None:
        self._engine = engine
        self._means = means
        self._when_unsure = when_unsure
        self._steady = TemporalSmoother()
        self._unsure: set[int] = set()
        self._painted: dict[int, _Painted] = {}

    def __call__(self, hidden: HiddenCrop, reference: Reference) -> Patch | None:
        """Restored hidden part; None if the face stays as it is. Raises EngineRunError."""
        painted = self._painted.pop(hidden.crop.face.track_id, None)
        if self._is_unsure(hidden, reference):
            return self._instead(hidden, reference)
        weight = self._weight(reference)
        if weight is None or not _is_whole(weight, hidden.mask):
            image = self._carried(painted, hidden, reference.motion)
            image = self._paint(hidden, reference) if image is None else image
            if weight is not None:
                _lay_over(image, reference.image, weight)
        else:
            image = reference.image
        patch = Patch.of_hidden(hidden, image)
        if weight is not None:
            patch = replace(patch, remembered=weight, fine=reference.fine)
        return self._steady(patch, reference.motion)

    def forget(self, track_ids: Iterable[int]) -> None:
        track_ids = list(track_ids)
        self._unsure.difference_update(track_ids)
        for track_id in track_ids:
            self._painted.pop(track_id, None)
        self._steady.forget(track_ids)

    def _is_unsure(self, hidden: HiddenCrop, reference: Reference) -> bool:
        track_id = hidden.crop.face.track_id
        limit = ENOUGH_SEEN if track_id in self._unsure else TOO_LITTLE_SEEN
        unsure = self._when_unsure != "restore" and hidden.coverage > limit and cv2.countNonZero(reference.mask) == 0
        (self._unsure.add if unsure else self._unsure.discard)(track_id)
        return unsure

    def _instead(self, hidden: HiddenCrop, reference: Reference) -> Patch | None:
        if self._when_unsure == "passthrough":
            return None
        if self._when_unsure == "hold":
            return self._steady.hold(hidden, reference.motion)
        few = cv2.resize(hidden.crop.image, (SQUARES, SQUARES), interpolation=cv2.INTER_AREA)
        squares = cv2.resize(few, (CROP_PX, CROP_PX), interpolation=cv2.INTER_NEAREST)
        area = face_area(1.2)
        return Patch(hidden.crop, area, squares.astype(np.uint8, copy=False), in_wide(area), exact=True)

    def _weight(self, reference: Reference) -> Image | None:
        """Weight of the memory, 256x256 uint8; None for zero."""
        if self._means == "network" or reference.confidence is None:
            return None
        return reference.confidence if self._means == "auto" else reference.mask

    def _carried(self, painted: _Painted | None, hidden: HiddenCrop, motion: Affine | None) -> Image | None:
        """What was painted earlier, where the face is now; None if the network has to paint."""
        if painted is None or motion is None or not hidden.may_carry:
            return None
        painted = replace(painted, motion=compose(motion, painted.motion))
        there = cv2.dilate(warp_mask(painted.mask, painted.motion, least=1), _RIM)
        if cv2.countNonZero(cv2.bitwise_and(hidden.mask, cv2.bitwise_not(there))) >= SPECK_PX:
            return None
        self._painted[hidden.crop.face.track_id] = painted
        return warp_colours(painted.image, painted.motion, (CROP_PX, CROP_PX))

    def _paint(self, hidden: HiddenCrop, reference: Reference) -> Image:
        restored = self._engine.run(
            {
                "face": hidden.crop.image[None],
                "mask": hidden.mask[None, ..., None],
                "reference": reference.image[None],
                "reference_mask": reference.mask[None, ..., None],
            }
        )["restored"]
        # The engine reuses its outputs, and a second face is restored before the first one is blended.
        image = restored.reshape(CROP_PX, CROP_PX, 3).astype(np.uint8)
        self._painted[hidden.crop.face.track_id] = _Painted(image.copy(), hidden.mask, IDENTITY)
        return image


@dataclass(frozen=True, slots=True, eq=False)
class _Painted:
    """What the network painted, in which hole, and how the face moved since, in crop pixels."""

    image: Image
    mask: Image
    motion: Affine


class TemporalSmoother:
    """Stabilises the restored part along the face's motion, so that it does not shimmer. Used by one thread.

    The last frame's result is moved to the current position of the face and mixed with the newest image; pixels that
    were not hidden before come from the newest one. The faster the face, the larger the share of the newest image.
    """

    def __init__(self) -> None:
        self._shown: dict[int, tuple[Image, Image]] = {}
        self._watches: dict[int, Stopwatch] = {}

    def __call__(self, patch: Patch, motion: Affine | None) -> Patch:
        """`motion` takes pixels of the face's last crop to this one's; None if the face was lost in between."""
        track_id = patch.crop.face.track_id
        last = self._shown.get(track_id)
        seconds = self._watches.setdefault(track_id, Stopwatch()).step(patch.crop.face.at)
        if last is not None and motion is not None:
            share = max(eased(NEWEST, seconds), min(_shift_px(motion) / FAST_PX * FRAME_S / seconds, 1.0))
            patch = self._mixed(patch, *last, motion, share)
        self._shown[track_id] = patch.image, patch.mask
        return patch

    def forget(self, track_ids: Iterable[int]) -> None:
        for track_id in track_ids:
            self._shown.pop(track_id, None)
            self._watches.pop(track_id, None)

    def hold(self, hidden: HiddenCrop, motion: Affine | None) -> Patch | None:
        """Last result, at the current position of the face; None if there is none."""
        last = self._shown.get(hidden.crop.face.track_id)
        if last is None:
            return None
        newest = Patch.of_hidden(hidden, last[0])
        patch = self._mixed(newest, *last, motion, 0.0) if motion is not None else newest
        self._shown[hidden.crop.face.track_id] = patch.image, patch.mask
        return patch

    def _mixed(self, patch: Patch, last: Image, last_mask: Image, motion: Affine, share: float) -> Patch:
        """`patch` with (1 - share) of the `last` image, where that one was restored too."""
        x, y, width, height = cv2.boundingRect(patch.mask)
        matrix = motion.copy()
        matrix[:, 2] -= (x, y)
        size = (width, height)
        carried = warp_colours(last, matrix, size)
        was_hidden = cv2.warpAffine(last_mask, matrix, size, flags=cv2.INTER_NEAREST)
        part = slice(y, y + height), slice(x, x + width)
        image = patch.image.copy()
        newest = image[part]
        mixed = cv2.addWeighted(newest, share, carried, 1 - share, 0)
        cv2.copyTo(mixed, cv2.bitwise_and(was_hidden, patch.mask[part]), newest)
        return replace(patch, image=image)


def _is_whole(weight: Image, mask: Image) -> bool:
    """Whether the confidence is high in everything hidden."""
    return not bool(((weight < WHOLLY) & (mask != 0)).any())


def _lay_over(image: Image, other: Image, weight: Image) -> None:
    """Blends `other` into `image`, in place, by `weight` (0..255) with soft transitions."""
    soft = cv2.blur(weight, (BLEND_PX, BLEND_PX)).astype(np.float32) * (1 / HIDDEN)
    cv2.blendLinear(other, image, soft, 1 - soft, dst=image)


def _shift_px(motion: Affine) -> float:
    """Displacement of a crop's middle."""
    middle = np.full(2, CROP_PX / 2)
    return float(np.hypot(*(motion[:, :2] @ middle + motion[:, 2] - middle)))
