"""Geometry of the output: frames of any size fitted into one size, and mirrored on request."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from engines.contract import Image


class OutputTransform:
    """Fits frames into `size` (width, height): `letterbox` adds black bars, `crop` cuts out the middle.

    A frame that already fits is returned as the same object; any other result is new.
    """

    def __init__(
        self, size: tuple[int, int], fit: Literal["letterbox", "crop"] = "letterbox", mirror: bool = False
    ) -> None:
        self._size = size
        self._crops = fit == "crop"
        self._mirror = mirror

    def __call__(self, image: Image) -> Image:
        image = letterboxed(cropped(image, self._size) if self._crops else image, self._size)
        return np.asarray(cv2.flip(image, 1), np.uint8) if self._mirror else image


def even_size(size: tuple[int, int]) -> tuple[int, int]:
    """Rounds `size` up to even numbers: pixel formats of video consist of 2x2 blocks."""
    return size[0] + size[0] % 2, size[1] + size[1] % 2


def cropped(image: Image, size: tuple[int, int]) -> Image:
    """Largest middle part of `image` with the shape of `size`; `image` itself if it has that shape."""
    height, width = image.shape[:2]
    columns = min(width, round(height * size[0] / size[1]))
    rows = min(height, round(width * size[1] / size[0]))
    if (columns, rows) == (width, height):
        return image
    top, left = (height - rows) // 2, (width - columns) // 2
    return np.ascontiguousarray(image[top : top + rows, left : left + columns])


def letterboxed(image: Image, size: tuple[int, int]) -> Image:
    """`image` scaled into `size` with its shape kept and black bars; `image` itself if it has that size."""
    width, height = size
    if image.shape[:2] == (height, width):
        return image
    canvas: Image = np.zeros((height, width, 3), np.uint8)
    window = canvas[_window(image, size)]
    if window.shape == image.shape:
        window[:] = image
    else:
        shrinks = window.shape[0] < image.shape[0]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        cv2.resize(image, (window.shape[1], window.shape[0]), dst=window, interpolation=method)
    return canvas


def _window(image: Image, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the canvas that the image covers."""
    (width, height), (rows, columns) = size, image.shape[:2]
    if not (0 <= width - columns < 2 and 0 <= height - rows < 2):  # one odd pixel is no reason to blur
        scale = min(width / columns, height / rows)
        rows, columns = max(1, round(rows * scale)), max(1, round(columns * scale))
    top, left = (height - rows) // 2, (width - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)
