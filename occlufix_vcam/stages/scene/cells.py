"""The coarse grid over a frame on which the scene's motion, light and trust are computed: blocks of its pixels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from engines.contract import HIDDEN, WIDE_PX, Affine, Image, Points
from occlufix_vcam.core.frame import HiddenCrop, in_wide
from occlufix_vcam.stages.geometry import WIDE_CORNERS, compose, face_area, inverse, scale_of, to_cells, to_wide_field
from occlufix_vcam.stages.hidden import FACE_REACH

Levels: TypeAlias = NDArray[np.float32]

#: Number of blocks along the frame's longer side, about.
BLOCKS = 128
#: Radius, in blocks, around a thing that counts as hidden: its shadow and motion blur.
RIM = 1
#: A view reaches this far beyond the wide field, in crop pixels, left, above, right and below: arms come from there.
AROUND: Points = WIDE_CORNERS + np.array([[-240, -60], [240, -60], [240, 700], [-240, 700]], np.float32)
_WHOLE: Image = np.full((WIDE_PX, WIDE_PX), HIDDEN, np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class SceneFrame:
    """A frame and what of it is known, in blocks of `block` px: the last three are uint8, 255 or 0.

    `visible` and `hidden` lie where the segmenter of a face has looked, in its wide field or template; `outside` is the
    rest. None if nothing is hidden. `faces` holds the way to the template of each face by the number of its person.
    """

    image: Image
    at: float
    block: int
    faces: dict[int, Affine]
    visible: Image | None
    hidden: Image | None
    outside: Image | None


def scene_frame(
    image: Image,
    at: float,
    faces: Sequence[HiddenCrop],
    people: Sequence[int],
    heads: Sequence[Affine] | None = None,
) -> SceneFrame:
    """What a frame of time `at` (seconds) shows of the scene around `faces`; `people` says whose they are.

    `heads` are the ways to their templates, those of the crops if None.
    """
    block = block_px(image)
    ways = dict(zip(people, heads or [face.crop.to_crop for face in faces], strict=True))
    if not any(face.wide_mask.any() for face in faces):
        return SceneFrame(image, at, block, ways, None, None, None)
    size = image.shape[1] // block, image.shape[0] // block
    visible, hidden = np.zeros(size[::-1], np.uint8), np.zeros(size[::-1], np.uint8)
    for face in faces:
        from_wide = compose(to_cells(block), inverse(to_wide_field(face.crop.to_crop)))
        cv2.max(visible, cv2.warpAffine(_WHOLE if face.is_wide else _template(), from_wide, size), dst=visible)
        if face.wide_mask.any():
            # A block is wider than many a strap: what is thin must not fall between its samples.
            reach = max(round(block * scale_of(face.crop.to_crop)), 1)
            grown = cv2.dilate(face.wide_mask, np.ones((reach, reach), np.uint8))
            cv2.max(hidden, cv2.warpAffine(grown, from_wide, size), dst=hidden)
    cv2.threshold(hidden, 30, HIDDEN, cv2.THRESH_BINARY, dst=hidden)
    cv2.dilate(hidden, np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8), dst=hidden)
    outside = np.where(visible < HIDDEN, np.uint8(HIDDEN), np.uint8(0))
    visible[(hidden != 0) | (outside != 0)] = 0
    return SceneFrame(image, at, block, ways, visible, hidden, outside)


@functools.cache
def _template() -> Image:
    """What a segmenter of the template marks, in the wide field: 255."""
    return in_wide(face_area(FACE_REACH))


def block_px(image: Image) -> int:
    longer: int = max(image.shape[0], image.shape[1])
    return max(round(longer / BLOCKS), 1)


@functools.lru_cache(maxsize=8)
def grid(shape: tuple[int, int]) -> Levels:
    """x and y of each point of a grid: rows x columns x 2."""
    points = np.empty((*shape, 2), np.float32)
    points[..., 0] = np.arange(shape[1])
    points[..., 1] = np.arange(shape[0])[:, None]
    points.flags.writeable = False
    return points


def reduced_by(image: MatLike, factor: int) -> Image:
    """`image`, whose sides are multiples of `factor`, averaged down."""
    size = image.shape[1] // factor, image.shape[0] // factor
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def warped(values: MatLike, flow: Levels, border: int = cv2.BORDER_REPLICATE) -> MatLike:
    """`values` taken from where `flow` leads from each point of the grid."""
    return cv2.remap(values, grid(flow.shape[:2]) + flow, None, cv2.INTER_LINEAR, borderMode=border)  # type: ignore[call-overload, no-any-return]


def spread(values: Levels, weight: Levels) -> Levels:
    """`values` (rows x columns x n) where their weight is high, continued smoothly elsewhere: pull-push.

    Source: S. Gortler et al., "The Lumigraph", SIGGRAPH 1996.
    """
    return _pushed(values * weight[..., None], weight)


def _pushed(weighted: Levels, weight: Levels) -> Levels:
    height, width = weight.shape
    if min(height, width) <= 3:
        mean = weighted.sum(axis=(0, 1)) / (weight.sum() + 1e-6)
        return np.broadcast_to(mean, weighted.shape).astype(np.float32)
    half = (width + 1) // 2, (height + 1) // 2
    small = np.asarray(cv2.resize(weighted, half, interpolation=cv2.INTER_LINEAR), np.float32)
    small_weight = np.asarray(cv2.resize(weight, half, interpolation=cv2.INTER_LINEAR), np.float32)
    coarse = _pushed(small.reshape(half[1], half[0], -1), small_weight)
    behind = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(weighted.shape)
    return np.asarray((weighted + np.float32(0.05) * behind) / (weight[..., None] + np.float32(0.05)), np.float32)
