"""A reference in the light of the crop, as the product gives it to the restorer.

The arithmetic of occlufix_vcam/stages/reference.py, which training does not import; tests/train/test_relighting.py
holds both to the same results.
"""

from __future__ import annotations

import cv2
import numpy as np

from engines.contract import CROP_PX, HIDDEN, Image
from train.data.product_mask import face_area

#: Light is compared in cells of so many pixels, at most MOST_CHANGE grey levels, and spread over REACH cells.
CELL_PX, MOST_CHANGE, REACH = 8, 60, 4.0
#: Left out at a photograph's edge, where pixels are mixed.
RIM_PX = 3


def without_rim(valid: Image) -> Image:
    """`valid` without RIM_PX at its edges."""
    side = 2 * RIM_PX + 1
    return np.asarray(cv2.erode(valid, np.ones((side, side), np.uint8)), np.uint8)


def relit(image: Image, valid: Image, crop: Image, hole: Image) -> Image:
    """A photograph of the same person in the light of `crop`, told from what of the face both show around the hole."""
    both = valid & ~hole & face_area()
    side = (CROP_PX // CELL_PX, CROP_PX // CELL_PX)
    share = (cv2.resize(both, side, interpolation=cv2.INTER_AREA) / HIDDEN).astype(np.float32)[..., None]
    now, then = (
        cv2.resize(cv2.bitwise_and(picture, picture, mask=both), side, interpolation=cv2.INTER_AREA).astype(np.float32)
        for picture in (crop, image)
    )
    change = np.clip((now - then) / np.maximum(share, 0.05), -MOST_CHANGE, MOST_CHANGE)
    light = cv2.resize(_spread(change, share), (CROP_PX, CROP_PX), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.add(image, light, dtype=cv2.CV_8U), np.uint8)


def _spread(change: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The change of cells smoothed over REACH cells, each counted by its share; far from any, their mean."""
    weighted = change * share
    mean = weighted.sum(axis=(0, 1)) / (share.sum() + 1e-3)
    near = cv2.GaussianBlur(weighted, (0, 0), REACH, borderType=cv2.BORDER_CONSTANT)
    weight = cv2.GaussianBlur(share, (0, 0), REACH, borderType=cv2.BORDER_CONSTANT)[..., None]
    return np.asarray((near + 0.02 * mean) / (weight + 0.02), np.float32)
