"""The picture that goes out where there is no frame: dark, with the product's name and a line of text.

OpenCV is imported with this module, before any thread: while it is imported it takes itself out of sys.modules, and a
second thread that imports it at that moment fails.
"""

from __future__ import annotations

import cv2
import numpy as np

from engines.contract import Image

GROUND_BGR, INK_BGR = (40, 34, 30), (222, 214, 208)


def slate(size: tuple[int, int], text: str) -> Image:
    """`size` is (width, height) in pixels, from 2x2 on."""
    width, height = size
    image = np.full((height, width, 3), GROUND_BGR, dtype=np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    for words, widest, tallest, baseline in (
        ("OccluFix Camera", 0.6, 1 / 240, 0.48),
        (text, 0.8, 1 / 480, 0.62),
    ):
        if words:
            (width_px, _), _ = cv2.getTextSize(words, font, 1.0, 1)
            scale = min(width * widest / width_px, height * tallest)
            corner = (int((width - width_px * scale) / 2), int(height * baseline))
            cv2.putText(image, words, corner, font, scale, INK_BGR, 1 + int(scale), cv2.LINE_AA)
    return image
