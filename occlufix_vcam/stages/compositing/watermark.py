"""Small mark in a corner of the frame, which says that a face was restored."""

from __future__ import annotations

import functools
from typing import Literal, TypeAlias

import cv2
import numpy as np

from engines.contract import Image

Corner: TypeAlias = Literal["bottom-left", "bottom-right", "top-left", "top-right"]

WORD = "restored"
#: Height of the mark's letters, and its distance from the corner, as shares of the frame's height.
LETTERS, DISTANCE = 0.022, 0.02
GROUND_BGR, INK_BGR = (40, 34, 30), (232, 226, 222)


def put_mark(image: Image, corner: Corner = "bottom-left") -> None:
    """Writes the mark into a corner of `image`, in place; an image too small for it gets none."""
    height, width = image.shape[:2]
    mark = _mark(height)
    rows, columns = mark.shape[:2]
    distance = round(height * DISTANCE)
    if distance + rows > height or distance + columns > width:
        return
    top = distance if corner.startswith("top") else height - distance - rows
    left = distance if corner.endswith("left") else width - distance - columns
    place = image[top : top + rows, left : left + columns]
    cv2.addWeighted(mark, 0.75, place, 0.25, 0, dst=place)


@functools.lru_cache(maxsize=4)
def _mark(height: int) -> Image:
    """Mark for images this many pixels high."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    (wide, tall), _ = cv2.getTextSize(WORD, font, 1.0, 2)
    scale = max(height * LETTERS / tall, 0.3)
    pad = round(tall * scale * 0.7)
    size = round(tall * scale) + 2 * pad, round(wide * scale) + 2 * pad
    mark = np.full((*size, 3), GROUND_BGR, np.uint8)
    cv2.putText(mark, WORD, (pad, size[0] - pad), font, scale, INK_BGR, max(1, round(2 * scale)), cv2.LINE_AA)
    return mark
