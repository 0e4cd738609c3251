"""Takes out colours that what surrounds a hole does not have: spill of the thing that hid it.

The network paints the background beside a face less well than the face: streaks in the colour of a mask, or in its
complement. Chroma stays within the range of what is visible nearby. Lips and eyes may be hidden, so these are let be.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from engines.contract import CROP_PX, HIDDEN, TEMPLATE_PART, WIDE_PX, Image
from occlufix_vcam.core.frame import Patch, in_wide
from occlufix_vcam.stages.geometry import face_area

Cells = NDArray[np.bool_]

#: The range is that of the cells (crop pixels a side) in a square that reaches so many cells.
CELL_PX, REACH_CELLS = 4, 8
#: Joined with that of the visible face, without this share at either end, in percent: a cheek may be near nothing but
#: the wall. With fewer cells of the face visible nothing is known of the skin, and nothing is done.
OUTLIERS, FEWEST_CELLS = 10, 60
#: The range is wider by so many levels of chroma, and by more at eyes and mouth (middle, half axes); the transition is
#: soft.
MARGIN, MORE, SOFT_PX = 6, 60, 8
FEATURES = (((128, 110), (58, 20)), ((128, 190), (38, 22)))
_CELLS = WIDE_PX // CELL_PX
_NEAR = np.ones((2 * REACH_CELLS + 1, 2 * REACH_CELLS + 1), np.uint8)


def without_spill(patch: Patch, restored: Image) -> Image:
    """`restored` (256x256x3 BGR) with no chroma beyond that of what is visible around the hole.

    A remembered view is true, and stays as it is.
    """
    around = cv2.cvtColor(_by_cell(patch.crop.wide), cv2.COLOR_BGR2YCrCb)
    visible = _by_cell(~patch.wide_mask & patch.crop.in_frame) == HIDDEN
    skin = visible & _face_cells()
    if np.count_nonzero(skin) < FEWEST_CELLS:
        return restored
    slack = _slack() if patch.remembered is None else cv2.max(_slack(), patch.remembered)
    x, y, width, height = cv2.boundingRect(patch.mask)
    hole = np.s_[y : y + height, x : x + width]
    luma, *chroma = cv2.split(cv2.cvtColor(restored[hole], cv2.COLOR_BGR2YCrCb))
    ranges = [_range(near, visible, skin) for near in cv2.split(around)[1:]]
    within = [
        cv2.min(cv2.max(plane, cv2.subtract(least[hole], slack[hole])), cv2.add(most[hole], slack[hole]))
        for plane, (least, most) in zip(chroma, ranges, strict=True)
    ]
    spilt = cv2.bitwise_or(*(cv2.absdiff(plane, kept) for plane, kept in zip(chroma, within, strict=True)))
    if not cv2.countNonZero(spilt):
        return restored
    # Only there: the way to another colour space and back is not exact.
    clean = restored.copy()
    cv2.copyTo(cv2.cvtColor(cv2.merge([luma, *within]), cv2.COLOR_YCrCb2BGR), spilt, clean[hole])
    return clean


def _range(around: MatLike, visible: Cells, skin: Cells) -> tuple[Image, Image]:
    """Least and most of what is `visible` nearby in `around` (by cell) or `skin`, in the template."""
    low = cv2.erode(np.where(visible, around, HIDDEN).astype(np.uint8), _NEAR)
    high = cv2.dilate(np.where(visible, around, 0).astype(np.uint8), _NEAR)
    skin_low, skin_high = np.percentile(np.asarray(around)[skin], (OUTLIERS, 100 - OUTLIERS))
    return _full(np.minimum(low, np.uint8(skin_low))), _full(np.maximum(high, np.uint8(skin_high)))


def _full(cells: MatLike) -> Image:
    """Values of cells, smooth, in the template."""
    rows, columns = (slice(part.start // CELL_PX - 1, part.stop // CELL_PX + 1) for part in TEMPLATE_PART)
    side = CROP_PX + 2 * CELL_PX
    smooth = cv2.resize(cv2.blur(cells, (5, 5))[rows, columns], (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(smooth[CELL_PX:-CELL_PX, CELL_PX:-CELL_PX], np.uint8)


@functools.cache
def _face_cells() -> Cells:
    return np.equal(_by_cell(in_wide(face_area())), HIDDEN)


@functools.cache
def _slack() -> Image:
    """By how much the range is wider, 256x256 uint8."""
    features = np.full((CROP_PX, CROP_PX), MARGIN, np.uint8)
    for middle, axes in FEATURES:
        cv2.ellipse(features, middle, axes, 0, 0, 360, MORE, cv2.FILLED)
    return np.asarray(cv2.GaussianBlur(features, (0, 0), SOFT_PX), np.uint8)


def _by_cell(image: Image) -> Image:
    return np.asarray(cv2.resize(image, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA), np.uint8)
