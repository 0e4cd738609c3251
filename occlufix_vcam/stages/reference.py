"""Views of an unhidden face: kept, found again in a crop behind an occluder, and matched to its position and light."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from engines.contract import CROP_PX, HIDDEN, TEMPLATE_PART, Affine, Image
from occlufix_vcam.core.frame import FineDetail, HiddenCrop
from occlufix_vcam.stages.fine import moved
from occlufix_vcam.stages.geometry import compose, face_area, face_share, inverse, warp_colours, warp_mask
from occlufix_vcam.stages.motion import FLOW_PX, MotionFeatures, motion, motion_features
from occlufix_vcam.stages.timing import FRAME_S, eased

#: Margin, in crop pixels, left out around an occluder or the image's edge, where pixels are mixed.
MARGIN_PX = 3

FEWEST_FEATURES = 20
LIGHT_RANGE = (30.0, 225.0)
#: A view of a smaller share of the face's area is not worth keeping.
LEAST_SHARE = 0.01
#: Share of the corners that must follow for a view to count as found in the crop, and for it to be taken although an
#: older one might fit better: a newer one has the current light and expression.
FOUND, WELL_FOUND = 0.45, 0.65
#: Share of the way from the position that the motion since the last frame predicts to the one measured, in a thirtieth
#: of a second: the first is steady, the second does not drift.
PULL = 0.15
#: Mean difference between the view and the visible pixels around the hole, in grey levels, up to which a view has full
#: confidence, and from which on it has none.
FULL_CONFIDENCE_BELOW, NO_CONFIDENCE_ABOVE = 12.0, 22.0
#: Light and confidence are computed in cells of this many crop pixels.
CELL_PX = 8
_CELLS = CROP_PX // CELL_PX
#: Share of the way to the newest light and confidence in a thirtieth of a second.
EASE = 0.35


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The person's own face in the template: `image` 256x256x3 uint8 BGR, `mask` 256x256 uint8, 255 = valid.

    `confidence` (256x256 uint8, or None for zero) says how far it may be shown directly; `motion` takes the pixels of
    the same face's last crop to this one's, and is None if unknown. `fine` is detail that the image is too small for,
    where it may be shown directly. `aligned` takes the crop's pixels to the template in which the unhidden face lay,
    None if unknown: behind an occluder, the landmarks that placed the crop may be off by a third of the eyes' distance.
    """

    image: Image
    mask: Image
    confidence: Image | None = None
    motion: Affine | None = None
    fine: FineDetail | None = None
    aligned: Affine | None = None


WHOLE: Image = np.full((CROP_PX, CROP_PX), HIDDEN, np.uint8)
WHOLE.flags.writeable = False
NO_REFERENCE = Reference(np.zeros((CROP_PX, CROP_PX, 3), np.uint8), np.zeros((CROP_PX, CROP_PX), np.uint8))


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceView:
    """One view of the unhidden face: the crop, where it is valid (255), its features for motion, and its detail."""

    image: Image
    mask: Image
    features: MotionFeatures
    sharpness: float
    fine: FineDetail | None = None

    def is_good(self) -> bool:
        """Whether it is neither too dark nor too bright, and has enough features to track."""
        light = float(self.features.grey.mean())
        return LIGHT_RANGE[0] < light < LIGHT_RANGE[1] and len(self.features.corners) >= FEWEST_FEATURES


class TrackedReference:
    """View that is being shown: its position in the crop, and the correction of its light."""

    def __init__(self, view: ReferenceView, matrix: Affine, share: float) -> None:
        self.view = view
        self.share = share
        self._matrix = matrix
        self._seconds = FRAME_S
        self._light: NDArray[np.float32] | None = None
        self._confidence: NDArray[np.float32] | None = None

    def is_found(self) -> bool:
        """Whether the view was found in the last crop."""
        return self.share >= FOUND

    def follow(self, now: MotionFeatures, known: Image, step: Affine | None, seconds: float = FRAME_S) -> None:
        """Tracks the face into a new crop, `seconds` after the last one."""
        self._seconds = seconds
        expected = compose(step, self._matrix) if step is not None else self._matrix
        seen = motion(self.view.features, now, known, expected)
        if seen is not None:
            expected = (expected + eased(PULL, seconds) * (seen.matrix - expected)).astype(np.float32)
        self._matrix = expected
        self.share = seen.share if seen is not None else 0.0

    def reference(self, hidden: HiddenCrop, known: Image) -> Reference:
        """The view as it looks in this crop."""
        size = (CROP_PX, CROP_PX)
        mask = warp_mask(self.view.mask, self._matrix)
        image = warp_colours(self.view.image, self._matrix, size)
        light, fit = _compared(image, mask, hidden.crop.image, known)
        ease = eased(EASE, self._seconds)
        self._light = light if self._light is None else self._light + ease * (light - self._light)
        self._confidence = fit if self._confidence is None else self._confidence + ease * (fit - self._confidence)
        cv2.add(image, cv2.resize(self._light, size, interpolation=cv2.INTER_LINEAR), dst=image, dtype=cv2.CV_8U)
        confidence = cv2.resize(
            self._confidence * (HIDDEN if self.is_found() else 0), size, interpolation=cv2.INTER_LINEAR
        )
        shown = confidence.astype(np.uint8) & mask
        fine = moved(self.view.fine, self._matrix, shown.copy()) if self.view.fine is not None else None
        return Reference(image, mask, shown, fine=fine, aligned=inverse(self._matrix) if self.is_found() else None)


def make_view(image: Image, mask: Image, fine: FineDetail | None = None) -> ReferenceView:
    seen = motion_features(image, cv2.bitwise_and(face_area(), mask).astype(np.uint8))
    inside = cv2.resize(face_area(), (FLOW_PX, FLOW_PX), interpolation=cv2.INTER_NEAREST) > 0
    edges = cv2.Laplacian(seen.grey, cv2.CV_32F)
    return ReferenceView(image, mask, seen, float(np.abs(edges[inside]).mean()), fine)


def most_alike(views: list[ReferenceView]) -> int:
    """The older of the two most similar views; the newest two always stay."""
    small = [
        cv2.resize(view.features.grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32) for view in views
    ]
    distances = {
        float(np.abs(small[older] - small[newer]).mean() + np.mean(views[older].mask != views[newer].mask) * 50): older
        for older in range(len(views) - 2)
        for newer in range(older + 1, len(views))
    }
    return distances[min(distances)]


def best_shown(
    views: list[ReferenceView], now: MotionFeatures, known: Image, hole: Image, least: float = FOUND
) -> TrackedReference | None:
    """Of the views that show some of the `hole`, the newest that is found well, else the one that is found best.

    None if no view is found with `least` of its corners.
    """
    best: TrackedReference | None = None
    for view in reversed(views):
        if face_share(cv2.bitwise_and(view.mask, hole)) <= LEAST_SHARE:
            continue
        found = motion(view.features, now, known, levels=3)
        if found is not None and found.share >= (best.share if best else least):
            best = TrackedReference(view, found.matrix, found.share)
            if best.share >= WELL_FOUND:
                break
    return best


def composed(references: list[Reference], step: Affine | None) -> Reference:
    """First of `references`, with the next ones where it is not valid."""
    if not references:
        return replace(NO_REFERENCE, motion=step)
    first = references[0]
    for other in references[1:]:
        fill = cv2.bitwise_and(other.mask, cv2.bitwise_not(first.mask))
        cv2.copyTo(other.image, fill, first.image)
        cv2.copyTo(other.mask, fill, first.mask)
        if first.confidence is not None and other.confidence is not None:
            cv2.copyTo(other.confidence, fill, first.confidence)
    return replace(first, motion=step)


def is_covered(view: ReferenceView, mask: Image) -> bool:
    """Whether something hides a part of the face that `view` shows."""
    return face_share(cv2.bitwise_and(view.mask, mask)) > LEAST_SHARE


def without_rim(valid: MatLike) -> Image:
    """`valid` without MARGIN_PX at its edges, where pixels are mixed."""
    side = 2 * MARGIN_PX + 1
    return np.asarray(cv2.erode(valid, np.ones((side, side), np.uint8)), np.uint8)


def valid_region(picture: Image, to_crop: Affine, hidden: Image | None = None) -> Image:
    """Where a crop shows the face: inside the `picture`, not `hidden`, with a margin to both. 255 = valid."""
    valid = warp_mask(np.full(picture.shape[:2], HIDDEN, np.uint8), to_crop)
    if hidden is not None:
        valid[hidden != 0] = 0
    return without_rim(valid)


def unseen_part(hidden: HiddenCrop) -> Image:
    """What the crop does not show of the face: hidden, or outside the picture. 256x256 uint8, 255 = unseen."""
    in_frame = hidden.crop.in_frame[TEMPLATE_PART]
    return (
        hidden.mask if in_frame.all() else np.asarray(cv2.bitwise_or(hidden.mask, cv2.bitwise_not(in_frame)), np.uint8)
    )


def known_face(mask: Image) -> Image:
    """Where the face is unhidden: 256x256 uint8."""
    return np.asarray(cv2.bitwise_and(cv2.bitwise_not(mask), face_area()), np.uint8)


def _compared(image: Image, mask: Image, crop: Image, known: Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Change of light from `image` to `crop`, and how well `image` fits it, both in cells.

    Both are measured where both images are valid and spread into the hole. The light is in grey levels per channel, the
    confidence 0..1.
    """
    both = cv2.bitwise_and(mask, known)
    cells = (_CELLS, _CELLS)
    share = (cv2.resize(both, cells, interpolation=cv2.INTER_AREA) / HIDDEN).astype(np.float32)
    step = np.stack(
        [
            cv2.resize(cv2.bitwise_and(picture, picture, mask=both), cells, interpolation=cv2.INTER_AREA)
            for picture in (crop, image)
        ]
    ).astype(np.float32)
    change = (step[0] - step[1]) / np.maximum(share, 0.05)[..., None]
    light = _spread(np.clip(change, -60, 60), share, 4.0)
    off = np.abs(change - light).mean(axis=2)
    difference = _spread(off[..., None], share, 2.0)
    confidence = np.clip((NO_CONFIDENCE_ABOVE - difference) / (NO_CONFIDENCE_ABOVE - FULL_CONFIDENCE_BELOW), 0, 1)
    return light, confidence.astype(np.float32)


def _spread(values: NDArray[np.float32], share: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    """`values` of cells smoothed over `reach` cells, weighted by their share; far from any, their mean."""
    weighted = values * share[..., None]
    mean = weighted.sum(axis=(0, 1)) / (share.sum() + 1e-3)
    near = cv2.GaussianBlur(weighted, (0, 0), reach, borderType=cv2.BORDER_CONSTANT).reshape(values.shape)
    weight = cv2.GaussianBlur(share, (0, 0), reach, borderType=cv2.BORDER_CONSTANT)[..., None]
    return np.asarray((near + 0.02 * mean) / (weight + 0.02), np.float32)
