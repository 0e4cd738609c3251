"""Frames of any size made to fit a sink of one size, with black bars."""

from __future__ import annotations

import cv2
import numpy as np

from engines.contract import Image


class Letterbox:
    """Scales into `size` (width, height), keeping the shape. What it returns is overwritten by the next call."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._canvas: Image = np.zeros((size[1], size[0], 3), np.uint8)
        self._fits: tuple[int, ...] = ()

    def __call__(self, image: Image) -> Image:
        """`image` itself, without a copy, where it has the size already."""
        if image.shape == self._canvas.shape:
            return image
        if image.shape != self._fits:
            self._canvas[:] = 0
            self._fits = image.shape
        rows, columns = self._window(image)
        window = self._canvas[rows, columns]
        if window.shape == image.shape:
            window[:] = image
        else:
            shrinks = window.shape[0] < image.shape[0]
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            cv2.resize(image, (window.shape[1], window.shape[0]), dst=window, interpolation=method)
        return self._canvas

    def _window(self, image: Image) -> tuple[slice, slice]:
        """Rows and columns of the canvas that the picture covers."""
        (width, height), (rows, columns) = self._size, image.shape[:2]
        if not (0 <= width - columns < 2 and 0 <= height - rows < 2):  # one odd pixel is no reason to blur
            scale = min(width / columns, height / rows)
            rows, columns = max(1, round(rows * scale)), max(1, round(columns * scale))
        top, left = (height - rows) // 2, (width - columns) // 2
        return slice(top, top + rows), slice(left, left + columns)
