"""Placeholder frame for when there is no other: dark, with the product's name and a line of text. Also the mark on a
frozen frame.

OpenCV is imported with this module, before any thread starts: during its import it removes itself from sys.modules, and
a second thread that imports it at that moment fails.
"""

from __future__ import annotations

import cv2
import numpy as np

from engines.contract import Image

GROUND_BGR, INK_BGR = (40, 34, 30), (222, 214, 208)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def placeholder(size: tuple[int, int], text: str) -> Image:
    """Placeholder frame; `size` is (width, height) in pixels, at least 2x2."""
    width, height = size
    image = np.full((height, width, 3), GROUND_BGR, dtype=np.uint8)
    _write(image, "OccluFix Camera", 0.6, 1 / 240, 0.48)
    _write(image, text, 0.8, 1 / 480, 0.62)
    return image


def marked(image: Image, text: str) -> Image:
    """Copy of `image` with `text` on a dark bar at its bottom edge."""
    copy = image.copy()
    copy[int(len(copy) * 0.88) :] = GROUND_BGR
    _write(copy, text, 0.8, 1 / 480, 0.96)
    return copy


def _write(image: Image, words: str, widest: float, tallest: float, baseline: float) -> None:
    """Writes one centred line; its width, height and position are shares of the image."""
    if not words:
        return
    height, width = image.shape[:2]
    (width_px, _), _ = cv2.getTextSize(words, FONT, 1.0, 1)
    scale = min(width * widest / width_px, height * tallest)
    corner = (int((width - width_px * scale) / 2), int(height * baseline))
    cv2.putText(image, words, corner, FONT, scale, INK_BGR, 1 + int(scale), cv2.LINE_AA)
