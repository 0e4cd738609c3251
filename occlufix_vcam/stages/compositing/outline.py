"""Outline of a thing in the frame's own pixels: how far each pixel is to be replaced.

The segmenter's mask is accurate to a few crop pixels. Along its outline, a guided filter moves it to the edges that the
frame shows. Where the frame shows none, the doubtful pixels are taken along, so that no rim of the thing stays.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import HIDDEN, Affine, Image
from occlufix_vcam.core.frame import Box, Patch
from occlufix_vcam.stages.geometry import compose, from_cells, scale_of, to_cells, to_wide_field, translation
from occlufix_vcam.stages.hidden import GROWTH_PX

Plane = NDArray[np.float32]

#: The guided filter's model is computed in cells of this many crop pixels, in windows that reach so many cells.
CELL_PX, REACH_CELLS = 4, 3
#: Variance of a colour (1.0 = white) below which it counts as noise.
NOISE = 0.03**2
#: A pixel belongs to the thing from the second value on, and not at all below the first.
DOUBTFUL, SURE = 0.2, 0.5
#: The refined outline is extended by this much, and fades to both sides of that over this much, in crop pixels.
EXTENT_PX, FADE_PX = 1.5, 1.0
#: The outline lies at most this far, in crop pixels, from the segmenter's.
BAND_PX = 5
#: Larger boxes are refined at a lower resolution.
MOST_PIXELS = 250_000
#: Steps of a crop pixel in which the distance to the mask's rim is kept.
_STEPS = 12


def outline(frame: Image, patch: Patch, box: Box) -> Image:
    """Weight of the restored image in `box` of the frame: uint8, 255 = replaced, 0 outside the patch's mask."""
    x, y, width, height = box
    to_wide = compose(to_wide_field(patch.crop.to_crop), translation(x, y))
    if patch.exact:
        # With its rim, or the pixels along it would show half of the thing.
        return _warped(np.asarray(cv2.dilate(patch.wide_mask, _square(1)), np.uint8), to_wide, (width, height))
    step = int(np.ceil(np.sqrt(width * height / MOST_PIXELS)))
    small = frame[y : y + height : step, x : x + width : step]
    every = np.array([[step, 0, 0], [0, step, 0]], np.float32)
    alpha = _refined(np.ascontiguousarray(small), patch, compose(to_wide, every))
    if step > 1:
        alpha = np.asarray(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return alpha


def _refined(image: Image, patch: Patch, to_wide: Affine) -> Image:
    size = image.shape[1], image.shape[0]
    depth = _warped(_depth(patch.wide_mask), to_wide, size)
    alpha = _extended(thing_share(image, patch, to_wide), 1 / scale_of(to_wide))
    cv2.min(alpha, cv2.LUT(depth, _rise(0, 2)), dst=alpha)
    # Deep inside, the thing's own pattern is no outline.
    return np.asarray(cv2.max(alpha, cv2.LUT(depth, _rise(GROWTH_PX + BAND_PX, 2)), dst=alpha), np.uint8)


def thing_share(image: Image, patch: Patch, to_wide: Affine) -> Plane:
    """How far each pixel of `image` belongs to the thing, about 0..1; `to_wide` takes its pixels to the wide field.

    A guided filter whose coefficients are computed at a lower resolution, in the wide field. Source: K. He, J. Sun,
    X. Tang, "Guided Image Filtering", 2013, for colours, and "Fast Guided Filter", 2015.
    """
    left, top, right, bottom = _part(patch.wide_mask)
    guide = _cells(patch.crop.wide[top:bottom, left:right])
    thing = np.asarray(cv2.erode(patch.wide_mask[top:bottom, left:right], _disc(GROWTH_PX)), np.uint8)
    model = colour_model(guide, _cells(thing))
    to_part = compose(to_cells(CELL_PX), compose(translation(-left, -top), to_wide))
    planes = cv2.split(from_cells(model, to_part, (image.shape[1], image.shape[0])))
    share = planes[3]
    for slope, colour in zip(planes[:3], cv2.split(image.astype(np.float32)), strict=True):
        share += cv2.multiply(slope, colour, scale=1 / HIDDEN)
    return np.asarray(share, np.float32)


def colour_model(guide: Plane, target: Plane) -> Plane:
    """Local linear model of `target` (h x w) in the colours of `guide` (h x w x 3), 0..1: h x w x 4, three slopes and
    an offset.
    """
    blue, green, red = np.moveaxis(guide, 2, 0)
    products = np.dstack([blue * blue, blue * green, blue * red, green * green, green * red, red * red])
    mean = _mean(np.dstack([guide, target[..., None]]))
    mean_target = mean[..., 3:]
    with_target = _mean(guide * target[..., None]) - mean[..., :3] * mean_target
    b, g, r = np.moveaxis(mean[..., :3], 2, 0)
    bb, bg, br, gg, gr, rr = np.moveaxis(_mean(products), 2, 0)
    bb, gg, rr = bb - b * b + NOISE, gg - g * g + NOISE, rr - r * r + NOISE
    bg, br, gr = bg - b * g, br - b * r, gr - g * r
    # Inverse of the symmetric 3x3 covariance, by its cofactors.
    minors = (
        gg * rr - gr * gr,
        br * gr - bg * rr,
        bg * gr - br * gg,
        bb * rr - br * br,
        br * bg - bb * gr,
        bb * gg - bg * bg,
    )
    bb_i, bg_i, br_i, gg_i, gr_i, rr_i = minors
    scale = 1 / np.maximum(bb * bb_i + bg * bg_i + br * br_i, NOISE**3)
    tb, tg, tr = np.moveaxis(with_target, 2, 0)
    slopes = np.dstack(
        [
            (bb_i * tb + bg_i * tg + br_i * tr) * scale,
            (bg_i * tb + gg_i * tg + gr_i * tr) * scale,
            (br_i * tb + gr_i * tg + rr_i * tr) * scale,
        ]
    )
    offset = mean_target - (slopes * mean[..., :3]).sum(axis=2, keepdims=True)
    return _mean(np.dstack([slopes, offset]))


def _extended(share: Plane, px: float) -> Image:
    """The share as a weight that reaches a little beyond the outline; `px` is a crop pixel in pixels of the image."""
    slope = HIDDEN / (SURE - DOUBTFUL)
    weight = cv2.convertScaleAbs(np.clip(share, DOUBTFUL, SURE), alpha=slope, beta=-slope * DOUBTFUL)
    fade = max(round(FADE_PX * px), 1)
    weight = cv2.dilate(weight, _square(max(round(EXTENT_PX * px), 1) + fade))
    return np.asarray(cv2.blur(weight, (2 * fade + 1, 2 * fade + 1)), np.uint8)


def _depth(mask: Image) -> Image:
    """Distance to the mask's rim inside it, in _STEPS of a crop pixel: uint8."""
    left, top, width, height = cv2.boundingRect(mask)
    part = np.s_[max(top - 1, 0) : top + height + 1, max(left - 1, 0) : left + width + 1]
    depth = np.zeros_like(mask)
    depth[part] = cv2.convertScaleAbs(cv2.distanceTransform(mask[part], cv2.DIST_L2, 3), alpha=_STEPS)
    return depth


@functools.cache
def _rise(start_px: int, over_px: int) -> Image:
    """Lookup table from a depth to a weight that rises from 0 at `start_px` to 255."""
    depth = np.arange(256, dtype=np.float32) / _STEPS
    return (np.clip((depth - start_px) / over_px, 0, 1) * HIDDEN).astype(np.uint8)


def _part(mask: Image) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the wide field's part in which the model is computed, in whole cells."""
    left, top, width, height = cv2.boundingRect(mask)
    margin = 2 * REACH_CELLS * CELL_PX
    last_y, last_x = mask.shape
    left, top = max(left - margin, 0) // CELL_PX * CELL_PX, max(top - margin, 0) // CELL_PX * CELL_PX
    right, bottom = min(left + width + 2 * margin, last_x), min(top + height + 2 * margin, last_y)
    return left, top, -(-right // CELL_PX) * CELL_PX, -(-bottom // CELL_PX) * CELL_PX


def _cells(image: NDArray[np.uint8]) -> Plane:
    size = image.shape[1] // CELL_PX, image.shape[0] // CELL_PX
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32) * np.float32(1 / HIDDEN)


def _mean(planes: Plane) -> Plane:
    side = 2 * REACH_CELLS + 1
    return np.asarray(cv2.blur(planes, (side, side)), np.float32).reshape(planes.shape)


def _warped(mask: Image, to_wide: Affine, size: tuple[int, int]) -> Image:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(mask, to_wide, size, flags=flags, borderMode=cv2.BORDER_CONSTANT), np.uint8)


@functools.cache
def _square(reach: int) -> Image:
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)


@functools.cache
def _disc(reach: int) -> Image:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)), np.uint8)
