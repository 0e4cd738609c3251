"""Fine detail of a face: what the template's 256 pixels lose of it where the frame shows it larger."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from engines.contract import CROP_PX, Affine, Image
from occlufix_vcam.core.frame import Crop, FineDetail
from occlufix_vcam.stages.geometry import TEMPLATE_CORNERS, box_in_frame, compose, inverse, scale_of, translation

#: Frame pixels in a crop pixel from which on the template loses detail, and up to which it is kept.
SCALES = (1.2, 3.0)


def moved(fine: FineDetail, motion: Affine, weight: Image) -> FineDetail:
    """The detail in another crop of the face, to be shown by `weight`; `motion` takes pixels of its own crop there."""
    return replace(fine, matrix=compose(fine.matrix, inverse(motion)), weight=weight)


def fine_detail(crop: Crop) -> FineDetail | None:
    """Detail of the frame that the crop lost; None if it lost none, or its frame is unknown."""
    scale = min(1 / scale_of(crop.to_crop), SCALES[1])
    if crop.frame is None or scale < SCALES[0]:
        return None
    side = round(CROP_PX * scale)
    to_fine = _to_fine(side)
    x, y, width, height = box_in_frame(TEMPLATE_CORNERS, crop.to_crop, crop.frame)
    seen = cv2.cvtColor(crop.frame[y : y + height, x : x + width], cv2.COLOR_BGR2GRAY)
    matrix = compose(to_fine, compose(crop.to_crop, translation(x, y)))
    luma = cv2.warpAffine(seen, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return FineDetail(np.asarray(luma, np.uint8), to_fine)


def detail_of(luma: Image | None) -> FineDetail | None:
    """Detail of a kept view, whose template `luma` (square uint8) shows larger."""
    return FineDetail(luma, _to_fine(luma.shape[0])) if luma is not None else None


def _to_fine(side: int) -> Affine:
    """Matrix from crop pixels to those of a square picture of the template with this side."""
    scale = side / CROP_PX
    return np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]], np.float32)
