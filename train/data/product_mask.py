"""The product's mask arithmetic for single pictures: from the segmenter's probability to the hole to restore.

Training does not import the product (occlufix_vcam/stages/hidden.py); tests/train/test_product_mask.py holds both to
the same results.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from engines.contract import CROP_PX, HIDDEN, Image

#: From this probability x 255 on a pixel is hidden.
HIDDEN_FROM = 128
#: Smaller spots are dropped; the mask grows by GROWTH_PX, after what is farther from the face than FACE_REACH of its
#: area's axes was left out; a face of which less than LEAST_COVERAGE is hidden stays as it is.
SPECK_PX, GROWTH_PX, FACE_REACH, LEAST_COVERAGE = 80, 6, 1.4, 0.02


@lru_cache(maxsize=4)
def face_area(growth: float = 1.0) -> Image:
    """The ellipse of the template that a face fills, hairline to chin, `growth` times as large: 255 inside."""
    area = np.zeros((CROP_PX, CROP_PX), np.uint8)
    cv2.ellipse(area, (128, 127), (round(80 * growth), round(108 * growth)), 0, 0, 360, HIDDEN, cv2.FILLED)
    area.flags.writeable = False
    return area


def covered_share(mask: Image) -> float:
    """The share of the face's area that a mask hides, 0..1."""
    return cv2.countNonZero(mask & face_area()) / cv2.countNonZero(face_area())


def is_hidden(probability: Image) -> Image:
    """255 where the segmenter's probability (x 255) says hidden."""
    return np.asarray(cv2.compare(probability, HIDDEN_FROM, cv2.CMP_GE), np.uint8)


def without_specks(mask: Image) -> Image:
    """A mask without spots of less than SPECK_PX."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    specks = [outline for outline in outlines if cv2.contourArea(outline) < SPECK_PX]
    return np.asarray(cv2.drawContours(mask.copy(), specks, -1, 0, cv2.FILLED) if specks else mask, np.uint8)


def grown(mask: Image) -> Image:
    """A mask grown by GROWTH_PX."""
    return np.asarray(cv2.dilate(mask, disc(GROWTH_PX)), np.uint8)


def hidden_mask(probability: Image) -> Image:
    """The mask that the restorer gets from the segmenter's probability (x 255), all 256x256 uint8."""
    mask = without_specks(is_hidden(probability))
    if covered_share(mask) < LEAST_COVERAGE:
        return np.zeros_like(mask)
    return grown(mask & face_area(FACE_REACH))


@lru_cache(maxsize=8)
def disc(reach_px: int) -> Image:
    """A round structuring element that reaches so many pixels from its middle."""
    side = 2 * reach_px + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)
