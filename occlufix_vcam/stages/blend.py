"""Puts restored parts of faces into the frame: `Blender`.

Only the face's own region is touched, and a pixel that no restored part covers keeps its value bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from engines.contract import CROP_PX, HIDDEN, Affine, Image
from occlufix_vcam.core.frame import Patch
from occlufix_vcam.stages.geometry import box_in_frame, compose, reduced, scale_of, translation

Levels: TypeAlias = NDArray[np.floating]
Wide: TypeAlias = NDArray[np.int16]

#: Colours across the hole's rim are compared in cells of this many crop pixels a side.
CELL_PX = 4
#: A step this high at the rim is an edge of the scene, or a rest of the occluder, but no wrong shade: grey levels.
MATCH_EDGE = 25.0


class Blender:
    """Puts patches into a picture. Used by one thread: its buffers are kept from call to call."""

    def __init__(self, fade_px: int) -> None:
        """`fade_px` is how deep inside a mask, in crop pixels, the restored picture has fully taken over."""
        self._fade_px = fade_px
        self._scratch = _Scratch(0)

    def __call__(self, image: Image, patches: Sequence[Patch]) -> Image:
        """A new picture with all patches in place, or `image` itself where there is nothing to put in."""
        result = image
        for patch in patches:
            x, y, width, height = _around_hole(patch.mask)
            corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)
            box = box_in_frame(corners - 0.5, patch.crop.to_crop, image)
            if not width or box[2] < 1 or box[3] < 1:
                continue
            part = slice(y, y + height), slice(x, x + width)
            mask = patch.mask[part]
            alpha = feather(mask, self._fade_px)
            if not cv2.countNonZero(alpha):
                continue
            restored = match_colours(patch.crop.image[part], patch.image[part], mask)
            if result is image:
                result = image.copy()
            self._put(result, box, restored, alpha, compose(translation(-x, -y), patch.crop.to_crop))
        return result

    def _put(
        self, image: Image, box: tuple[int, int, int, int], restored: Image, alpha: Image, to_restored: Affine
    ) -> None:
        """Writes into `image` inside `box` (x, y, width, height): known + (restored - known) x alpha."""
        x, y, width, height = box
        matrix = compose(to_restored, translation(x, y))
        scale = scale_of(matrix)
        if scale >= 2:
            restored, to_reduced = reduced(restored, round(scale))
            alpha, _ = reduced(alpha, round(scale))
            matrix = compose(to_reduced, matrix)
        if self._scratch.pixels < width * height:
            self._scratch = _Scratch(image.shape[0] * image.shape[1])
        warped, weight, weight_16, weights, change = self._scratch.views(width, height)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = (width, height)
        cv2.warpAffine(restored, matrix, size, dst=warped, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        cv2.warpAffine(alpha, matrix, size, dst=weight, flags=flags, borderMode=cv2.BORDER_CONSTANT)
        np.copyto(weight_16, weight)  # the multiplication is many times faster in one type
        cv2.merge([weight_16, weight_16, weight_16], dst=weights)
        known = image[y : y + height, x : x + width]
        cv2.subtract(warped, known, dst=change, dtype=cv2.CV_16S)
        cv2.multiply(change, weights, dst=change, scale=1 / 255, dtype=cv2.CV_16S)
        cv2.add(known, change, dst=known, dtype=cv2.CV_8U)


class _Scratch:
    """Room for the blending of up to `pixels` pixels."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self._warped = np.empty(pixels * 3, np.uint8)
        self._weight = np.empty(pixels, np.uint8)
        self._weight_16 = np.empty(pixels, np.int16)
        self._weights = np.empty(pixels * 3, np.int16)
        self._change = np.empty(pixels * 3, np.int16)

    def views(self, width: int, height: int) -> tuple[Image, Image, Wide, Wide, Wide]:
        """Restored picture, its weight twice, the weight for each channel, and the change: uninitialised."""
        pixels, shape = width * height, (height, width, 3)
        return (
            self._warped[: pixels * 3].reshape(shape),
            self._weight[:pixels].reshape(height, width),
            self._weight_16[:pixels].reshape(height, width),
            self._weights[: pixels * 3].reshape(shape),
            self._change[: pixels * 3].reshape(shape),
        )


def feather(mask: Image, fade_px: int) -> Image:
    """Weights of the restored picture: 0 outside the hole, rising to 255 over `fade_px` inwards from its rim.

    They never reach outwards: there the restored picture is the input's own, only softer. The picture's edge counts
    as a rim, else a hole that is cut off by it would end in a line.
    """
    reach = fade_px // 2
    side = 2 * reach + 1
    weights = np.empty(mask.shape, np.uint8)
    cv2.erode(mask, np.ones((side, side), np.uint8), dst=weights, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    # Two box filters that together reach as far as the erosion: a smooth slope that ends at the rim.
    for part in (reach // 2, reach - reach // 2):
        cv2.blur(weights, (2 * part + 1, 2 * part + 1), dst=weights, borderType=cv2.BORDER_CONSTANT)
    return weights


def match_colours(known: Image, restored: Image, mask: Image) -> Image:
    """`restored` with its shade bent to that of the `known` pixels around the hole; all of one size.

    Measured is the step in colour from the last hidden to the first known pixel, all along the rim. Steps that
    are edges are left out; the others are spread smoothly into the hole, where their mean is what remains far
    from the rim. Only valid inside the hole.
    """
    square = np.ones((3, 3), np.uint8)
    first_known = cv2.subtract(cv2.dilate(mask, square), mask)
    last_hidden = cv2.subtract(mask, cv2.erode(mask, square))
    known_colours, known_share = _cell_colours(known, first_known)
    restored_colours, restored_share = _cell_colours(restored, last_hidden)
    step = known_colours - restored_colours
    no_edge = cv2.inRange(step, (-MATCH_EDGE,) * 3, (MATCH_EDGE,) * 3)
    confidence = np.minimum(known_share, restored_share)
    confidence *= (confidence > 0.04) & (no_edge != 0)
    weighted = step * confidence[..., None]
    mean = np.array(cv2.sumElems(weighted)[:3], np.float32) / (confidence.sum() + 1)
    near = cv2.GaussianBlur(weighted, (0, 0), 4, borderType=cv2.BORDER_CONSTANT)
    weight = cv2.GaussianBlur(confidence, (0, 0), 4, borderType=cv2.BORDER_CONSTANT)
    bend = ((near + 0.01 * mean) / (weight[..., None] + 0.01)).astype(np.int16)
    bend_full = cv2.resize(bend, (mask.shape[1], mask.shape[0]), interpolation=cv2.INTER_LINEAR)
    matched = np.empty_like(restored)
    cv2.add(restored, bend_full, dst=matched, dtype=cv2.CV_8U)
    return matched


def _cell_colours(image: Image, where: MatLike) -> tuple[Levels, Levels]:
    """For each cell the mean colour of its pixels that lie `where` (255), and their share of the cell."""
    cells = image.shape[1] // CELL_PX, image.shape[0] // CELL_PX
    only = cv2.bitwise_and(image, image, mask=where)
    sums = cv2.resize(only, cells, interpolation=cv2.INTER_AREA).astype(np.float32)
    share = cv2.resize(where, cells, interpolation=cv2.INTER_AREA).astype(np.float32) / HIDDEN
    return sums / (share[..., None] + 1e-3), share


def _around_hole(mask: Image) -> tuple[int, int, int, int]:
    """x, y, width, height of the part of a crop that holds all of the hole and its rim, in whole cells."""
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return 0, 0, 0, 0
    x, y = max(left - 1, 0) // CELL_PX * CELL_PX, max(top - 1, 0) // CELL_PX * CELL_PX
    right, bottom = min(left + width + CELL_PX, CROP_PX), min(top + height + CELL_PX, CROP_PX)
    return x, y, -(-(right - x) // CELL_PX) * CELL_PX, -(-(bottom - y) // CELL_PX) * CELL_PX
