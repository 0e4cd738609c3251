"""Geometry of frame and face template: affine matrices, boxes, and the area that a face fills."""

from __future__ import annotations

import functools
from typing import TypeVar

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from engines.contract import CROP_PX, HIDDEN, WIDE_OFFSET, WIDE_PX, Affine, Image, Points, transform_points
from engines.faces_maps import averaged

_Value = TypeVar("_Value", np.uint8, np.float32)


def _square(side: int) -> Points:
    return np.array([[0, 0], [side, 0], [side, side], [0, side]], dtype=np.float32) - 0.5


#: Corners of the template and of the wide field, in crop pixels.
TEMPLATE_CORNERS: Points = _square(CROP_PX)
WIDE_CORNERS: Points = _square(WIDE_PX) - np.array(WIDE_OFFSET, np.float32)


@functools.cache
def face_area(growth: float = 1.0) -> Image:
    """Ellipse of the template that a face fills, hairline to chin, scaled by `growth`: 256x256 uint8, 255 inside."""
    area = np.zeros((CROP_PX, CROP_PX), dtype=np.uint8)
    axes = round(80 * growth), round(108 * growth)
    cv2.ellipse(area, (128, 127), axes, 0, 0, 360, HIDDEN, cv2.FILLED)
    area.flags.writeable = False
    return area


@functools.cache
def face_weight() -> Image:
    """255 on the face and its rim, where a fill that is not sure yields to the template: 256x256 uint8, soft."""
    return np.asarray(cv2.GaussianBlur(face_area(1.06), (0, 0), 8), np.uint8)


def face_share(part: MatLike) -> float:
    """Share of the face's area where `part` (256x256 uint8) is not 0, 0..1."""
    area = face_area()
    return cv2.countNonZero(cv2.bitwise_and(part, area)) / cv2.countNonZero(area)


def warp_mask(mask: Image, matrix: Affine, least: int = HIDDEN, side: int = CROP_PX) -> Image:
    """`mask` warped by `matrix` into a square: uint8, 255 where it is at least `least`, 0 elsewhere."""
    moved = np.empty((side, side), np.uint8)
    cv2.warpAffine(mask, matrix, (side, side), dst=moved, borderMode=cv2.BORDER_CONSTANT)
    cv2.threshold(moved, least - 1, HIDDEN, cv2.THRESH_BINARY, dst=moved)
    return moved


def warp_colours(image: Image, matrix: Affine, size: tuple[int, int], flags: int = cv2.INTER_LINEAR) -> Image:
    """A colour image warped by `matrix` into `size` (width, height); its edge is repeated beyond it.

    Linearly, OpenCV warps four channels in half the time of three.
    """
    if flags & cv2.INTER_CUBIC:
        return np.asarray(cv2.warpAffine(image, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)
    four = cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)
    warped = cv2.warpAffine(four, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.cvtColor(warped, cv2.COLOR_BGRA2BGR), np.uint8)


def box_in_frame(corners: NDArray[np.float32], to_crop: Affine, image: Image) -> tuple[int, int, int, int]:
    """x, y, width, height in `image` of the part between `corners` of the crop, with a margin of a pixel."""
    points = transform_points(corners, inverse(to_crop))
    height, width = image.shape[:2]
    left, top = np.floor(points.min(axis=0)) - 1
    right, bottom = np.ceil(points.max(axis=0)) + 2
    x, y = max(int(left), 0), max(int(top), 0)
    return x, y, min(int(right), width) - x, min(int(bottom), height) - y


def reduced(image: Image, factor: int) -> tuple[Image, Affine]:
    """`image` averaged down by about `factor`, and the matrix from its pixels to those of the result."""
    height, width = image.shape[:2]
    small_height, small_width = max(height // factor, 1), max(width // factor, 1)
    small = averaged(image, (small_width, small_height))
    x, y = small_width / width, small_height / height
    return small, np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]], dtype=np.float32)


def scale_of(matrix: Affine) -> float:
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def to_cells(side: int) -> Affine:
    """Matrix from pixels to cells of `side` x `side` pixels."""
    scale = 1 / side
    return np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]], dtype=np.float32)


def from_cells(values: NDArray[_Value], matrix: Affine, size: tuple[int, int]) -> NDArray[_Value]:
    """Values of cells for each pixel of an image of this `size` (width, height); `matrix` takes its pixels to cells.

    They are smooth: the image is warped at half a cell's resolution and enlarged, which is several times faster.
    """
    step = int(np.clip(0.5 / scale_of(matrix), 1, 8))
    coarse = -(-size[0] // step), -(-size[1] // step)
    every = np.array([[step, 0, (step - 1) / 2], [0, step, (step - 1) / 2]], dtype=np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(values, compose(matrix, every), coarse, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    if step > 1:
        warped = cv2.resize(warped, (coarse[0] * step, coarse[1] * step), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(warped[: size[1], : size[0]], values.dtype)


def translation(x: float, y: float) -> Affine:
    return np.array([[1, 0, x], [0, 1, y]], dtype=np.float32)


def to_wide_field(to_crop: Affine) -> Affine:
    """Matrix to the wide field, from one to the crop."""
    return compose(translation(*WIDE_OFFSET), to_crop)


def compose(second: Affine, first: Affine) -> Affine:
    """Matrix that applies `first`, then `second`."""
    both = second[:, :2] @ first
    both[:, 2] += second[:, 2]
    return both.astype(np.float32, copy=False)


def inverse(matrix: Affine) -> Affine:
    return cv2.invertAffineTransform(matrix).astype(np.float32)
