"""The restorer: what is remembered of the face where that fits, what the network paints where it does not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import cv2
import numpy as np

from engines.base import InferenceEngine
from engines.contract import CROP_PX, HIDDEN, Affine, Image
from occlufix_vcam.core.frame import HiddenCrop, Patch
from occlufix_vcam.stages.geometry import face_area
from occlufix_vcam.stages.reference import Reference

Means = Literal["auto", "network", "memory"]
WhenUnsure = Literal["restore", "passthrough", "hold", "blank"]

#: Inside the hole, memory passes into the network's picture over this much: pixels of the crop.
BLEND_PX = 9
#: Where the confidence is this high in all of the hole, the network is not asked.
WHOLLY = 250
#: With more of a face hidden than the first and nothing remembered of it, what is painted would be a stranger;
#: below the second it is painted again.
TOO_LITTLE_SEEN, ENOUGH_SEEN = 0.75, 0.65
#: Squares across a face that is not to be shown.
SQUARES = 12
#: Share of the newest picture in what is shown of a face that holds still; it rises to 1 as the face moves by
#: FAST_PX crop pixels from one frame to the next.
NEWEST, FAST_PX = 0.35, 10.0


class Restorer:
    """Paints what the mask hides. Used by one thread.

    `means`: "network" shows what the `restore` network makes of the face and its reference, "memory" what is
    remembered, as far as that is valid, and "auto" each where it fits. `when_unsure` says what becomes of a face of
    which too little is seen or remembered: restored all the same, left as it is, held as it last was, or in squares.
    """

    def __init__(self, engine: InferenceEngine, means: Means = "auto", when_unsure: WhenUnsure = "passthrough") -> None:
        self._engine = engine
        self._means = means
        self._when_unsure = when_unsure
        self._steady = TemporalSmoother()
        self._unsure: set[int] = set()

    def __call__(self, hidden: HiddenCrop, reference: Reference) -> Patch | None:
        """The hidden part restored; None where the face is to stay as it is. Raises EngineRunError."""
        if self._is_unsure(hidden, reference):
            return self._instead(hidden, reference)
        weight = self._weight(reference)
        if weight is None or not _is_whole(weight, hidden.mask):
            image = self._paint(hidden, reference)
            if weight is not None:
                _lay_over(image, reference.image, weight)
        else:
            image = reference.image
        return self._steady(Patch(hidden.crop, hidden.mask, image), reference.motion)

    def forget(self, track_ids: Iterable[int]) -> None:
        track_ids = list(track_ids)
        self._unsure.difference_update(track_ids)
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
        return Patch(hidden.crop, face_area(1.2), squares.astype(np.uint8, copy=False))

    def _weight(self, reference: Reference) -> Image | None:
        """How much of the memory is shown, 256x256 uint8; None for nothing."""
        if self._means == "network" or reference.confidence is None:
            return None
        return reference.confidence if self._means == "auto" else reference.mask

    def _paint(self, hidden: HiddenCrop, reference: Reference) -> Image:
        restored = self._engine.run(
            {
                "face": hidden.crop.image[None],
                "mask": hidden.mask[None, ..., None],
                "reference": reference.image[None],
                "reference_mask": reference.mask[None, ..., None],
            }
        )["restored"]
        # The engine reuses its outputs, and a second face's patch is made before the first one is blended.
        return restored.reshape(CROP_PX, CROP_PX, 3).astype(np.uint8)


class TemporalSmoother:
    """Holds what is restored still along the face's motion, so that it does not shimmer. Used by one thread.

    What was shown in the last frame is carried to where the face now is and mixed with the newest picture; what was
    not hidden then is new. The faster the face, the newer the picture.
    """

    def __init__(self) -> None:
        self._shown: dict[int, tuple[Image, Image]] = {}

    def __call__(self, patch: Patch, motion: Affine | None) -> Patch:
        """`motion` takes pixels of the face's last crop to this one's; None where the face was lost in between."""
        track_id = patch.crop.face.track_id
        last = self._shown.get(track_id)
        if last is not None and motion is not None:
            share = max(NEWEST, min(_shift_px(motion) / FAST_PX, 1.0))
            patch = self._mixed(patch, *last, motion, share)
        self._shown[track_id] = patch.image, patch.mask
        return patch

    def forget(self, track_ids: Iterable[int]) -> None:
        for track_id in track_ids:
            self._shown.pop(track_id, None)

    def hold(self, hidden: HiddenCrop, motion: Affine | None) -> Patch | None:
        """What was shown last, where the face now is; None where there was nothing."""
        last = self._shown.get(hidden.crop.face.track_id)
        if last is None:
            return None
        newest = Patch(hidden.crop, hidden.mask, last[0])
        patch = self._mixed(newest, *last, motion, 0.0) if motion is not None else newest
        self._shown[hidden.crop.face.track_id] = patch.image, patch.mask
        return patch

    def _mixed(self, patch: Patch, last: Image, last_mask: Image, motion: Affine, share: float) -> Patch:
        """`patch` with (1 - share) of the `last` picture, where that one was painted too."""
        x, y, width, height = cv2.boundingRect(patch.mask)
        matrix = motion.copy()
        matrix[:, 2] -= (x, y)
        size = (width, height)
        carried = cv2.warpAffine(last, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        was_hidden = cv2.warpAffine(last_mask, matrix, size, flags=cv2.INTER_NEAREST)
        part = slice(y, y + height), slice(x, x + width)
        image = patch.image.copy()
        newest = image[part]
        mixed = cv2.addWeighted(newest, share, carried, 1 - share, 0)
        cv2.copyTo(mixed, cv2.bitwise_and(was_hidden, patch.mask[part]), newest)
        return Patch(patch.crop, patch.mask, image)


def _is_whole(weight: Image, mask: Image) -> bool:
    """Whether the confidence is high in everything hidden."""
    return not bool(((weight < WHOLLY) & (mask != 0)).any())


def _lay_over(image: Image, other: Image, weight: Image) -> None:
    """Into `image`, in place, `other` by `weight` (0..255) with soft passages."""
    soft = cv2.blur(weight, (BLEND_PX, BLEND_PX)).astype(np.float32) * (1 / HIDDEN)
    cv2.blendLinear(other, image, soft, 1 - soft, dst=image)


def _shift_px(motion: Affine) -> float:
    """How far a crop's middle moves."""
    middle = np.full(2, CROP_PX / 2)
    return float(np.hypot(*(motion[:, :2] @ middle + motion[:, 2] - middle)))
