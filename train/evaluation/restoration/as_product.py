"""What the product makes of a crop before it restores: the mask that it sees, and the reference in the crop's light.

The arithmetic of single pictures in occlufix_vcam/stages/hidden.py and views.py, which training does not import;
tests/train/test_as_product.py holds both alike.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from engines.contract import CROP_PX, HIDDEN, Image

#: From this probability (0..1) on a pixel is hidden; spots smaller than SPECK_PX are dropped; the mask grows by
#: GROWTH_PX, after what is farther from the face than FACE_REACH of its area's axes was left out; a face of which less
#: than LEAST_COVERAGE is hidden stays as it is.
HIDDEN_FROM, SPECK_PX, GROWTH_PX, FACE_REACH, LEAST_COVERAGE = 0.5, 80, 6, 1.4, 0.02
#: Light is compared in cells of so many pixels, at most MOST_CHANGE grey levels, and spread over REACH cells.
CELL_PX, MOST_CHANGE, REACH = 8, 60, 4.0
#: Left out at a photograph's edge, where pixels are mixed.
RIM_PX = 3


@lru_cache(maxsize=4)
def face_area(growth: float = 1.0) -> Image:
    """The ellipse of the template that a face fills, hairline to chin, `growth` times."""
    area = np.zeros((CROP_PX, CROP_PX), np.uint8)
    cv2.ellipse(area, (128, 127), (round(80 * growth), round(108 * growth)), 0, 0, 360, HIDDEN, cv2.FILLED)
    area.flags.writeable = False
    return area


def hidden_mask(probability: Image) -> Image:
    """The mask that the restorer gets from the segmenter's probability (x 255), all 256x256 uint8."""
    seen = np.where(probability >= round(HIDDEN_FROM * 255), HIDDEN, 0).astype(np.uint8)
    outlines, _ = cv2.findContours(seen, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    specks = [outline for outline in outlines if cv2.contourArea(outline) < SPECK_PX]
    cv2.drawContours(seen, specks, -1, 0, cv2.FILLED)
    if np.count_nonzero(seen & face_area()) < LEAST_COVERAGE * np.count_nonzero(face_area()):
        return np.zeros_like(seen)
    side = 2 * GROWTH_PX + 1
    growth = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.dilate(seen & face_area(FACE_REACH), growth), np.uint8)


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
