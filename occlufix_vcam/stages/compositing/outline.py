"""Outline of a thing in the frame's own pixels: how far each pixel is to be replaced.

The segmenter's mask is accurate to a few crop pixels. Along its outline, a guided filter moves it to the edges that the
frame shows. Where the frame shows none, the doubtful pixels are taken along, so that no rim of the thing stays.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import HIDDEN, Affine, Image
from occlufix_vcam.core.frame import Box, Patch
from occlufix_vcam.stages.geometry import compose, from_cells, scale_of, to_cells, to_wide_field, translation
from occlufix_vcam.stages.hidden import GROWTH_PX
from occlufix_vcam.stages.motion import difference

Plane = NDArray[np.float32]

#: The guided filter's model is computed in cells of this many crop pixels, in windows that reach so many cells.
CELL_PX, REACH_CELLS = 4, 3
#: Variance of a colour (1.0 = white) below which it counts as noise.
NOISE = 0.03**2
#: A pixel belongs to the thing from the second value on, and not at all below the first.
DOUBTFUL, SURE = 0.2, 0.5
#: Soft edges go too: the outline is extended by this much, and fades over it, in crop pixels.
FADE_PX = 0.5
#: This far inside the segmenter's outline, in crop pixels, and in parts that are thinner, colours are the thing's;
#: those of a cell nearer to it count this little.
INSIDE_PX, UNSURE = 5, 0.003
#: A pixel is what is to be seen behind the thing if that has such colours this near, in crop pixels.
BEHIND_PX = 2.0
#: A remembered view is off by a little: from the second of these differences in grey levels on, a pixel is the thing's.
FAR = 20, 40
#: The outline lies at most this far, in crop pixels, from the segmenter's.
BAND_PX = 5
#: Larger boxes are refined at a lower resolution.
MOST_PIXELS = 250_000
#: Steps of a crop pixel in which the distance to the mask's rim is kept.
_STEPS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """How far each pixel of a box is replaced: `weight` uint8, 255 = wholly, 0 outside the patch's mask.

    What is `within` (like `weight`) is replaced whatever it looks like, and what lies `outside` of the mask is not;
    both None if `weight` is all there is to say. `px` is the size of a crop pixel in pixels of the frame.
    """

    weight: Image
    within: Image | None
    outside: Image | None
    px: float

    def against(self, image: Image, restored: Image, remembered: Image | None = None) -> Image:
        """The weight without pixels of `image` that look as `restored` does about there.

        Where `restored` is `remembered` (uint8, 255 = wholly), what is far from it inside the mask is the thing's too,
        whatever the colours along its outline say.
        """
        if self.within is None or self.outside is None:
            return self.weight
        differs = difference(image, restored, max(round(BEHIND_PX * self.px), 1))
        weight = cv2.min(self.weight, cv2.max(differs.weight(), self.within))
        if remembered is not None:
            missed = cv2.min(differs.weight(FAR), cv2.subtract(remembered, self.outside))
            weight = cv2.max(weight, missed)
        return np.asarray(weight, np.uint8)


def outline(frame: Image, patch: Patch, box: Box) -> Outline:
    """The outline of a patch's thing in `box` of the frame."""
    x, y, width, height = box
    to_wide = compose(to_wide_field(patch.crop.to_crop), translation(x, y))
    px = 1 / scale_of(to_wide)
    if patch.exact:
        # With its rim, or the pixels along it would show half of the thing.
        given = np.asarray(cv2.dilate(patch.wide_mask, np.ones((3, 3), np.uint8)), np.uint8)
        return Outline(_warped(given, to_wide, (width, height)), None, None, px)
    step = int(np.ceil(np.sqrt(width * height / MOST_PIXELS)))
    small = frame[y : y + height : step, x : x + width : step]
    every = np.array([[step, 0, 0], [0, step, 0]], np.float32)
    planes = _refined(np.ascontiguousarray(small), patch, compose(to_wide, every))
    if step > 1:
        weight, within, outside = (
            np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8) for plane in planes
        )
        return Outline(weight, within, outside, px)
    return Outline(*planes, px)


def _refined(image: Image, patch: Patch, to_wide: Affine) -> tuple[Image, Image, Image]:
    """The weight of each pixel of `image`, how far it lies within the thing, whose own pattern is no outline, and how
    far outside of the mask.
    """
    depth = _warped(_depth(patch.wide_mask), to_wide, (image.shape[1], image.shape[0]))
    within = np.asarray(cv2.LUT(depth, _rise(GROWTH_PX + BAND_PX, 2)), np.uint8)
    slope = HIDDEN / (SURE - DOUBTFUL)
    share = np.clip(thing_share(image, patch, to_wide), DOUBTFUL, SURE)
    weight = cv2.convertScaleAbs(share, alpha=slope, beta=-slope * DOUBTFUL)
    fade = max(round(FADE_PX / scale_of(to_wide)), 1)
    side = np.ones((2 * fade + 1, 2 * fade + 1), np.uint8)
    weight = cv2.blur(cv2.dilate(weight, side), side.shape)
    inside = cv2.LUT(depth, _rise(0, 2))
    cv2.min(weight, inside, dst=weight)
    return np.asarray(cv2.max(weight, within), np.uint8), within, np.asarray(cv2.bitwise_not(inside), np.uint8)


def thing_share(image: Image, patch: Patch, to_wide: Affine) -> Plane:
    """How far each pixel of `image` belongs to the thing, about 0..1; `to_wide` takes its pixels to the wide field.

    A guided filter whose coefficients are computed at a lower resolution, in the wide field. Source: K. He, J. Sun,
    X. Tang, "Guided Image Filtering", 2013, for colours, and "Fast Guided Filter", 2015.
    """
    left, top, right, bottom = _part(patch.wide_mask)
    part = np.s_[top:bottom, left:right]
    mask = patch.wide_mask[part]
    thing = np.asarray(cv2.erode(mask, _disc(GROWTH_PX)), np.uint8)
    sure = (_surely_inside(thing) | ~mask) & patch.crop.in_frame[part]
    weight = np.maximum(np.square(_cells(sure)), np.float32(UNSURE))
    model = colour_model(_cells(patch.crop.wide[part]), _cells(thing), weight)
    to_part = compose(to_cells(CELL_PX), compose(translation(-left, -top), to_wide))
    planes = cv2.split(from_cells(model, to_part, (image.shape[1], image.shape[0])))
    share = planes[3]
    for slope, colour in zip(planes[:3], cv2.split(image.astype(np.float32)), strict=True):
        share += cv2.multiply(slope, colour, scale=1 / HIDDEN)
    return np.asarray(share, np.float32)


def _surely_inside(thing: Image) -> Image:
    """Of the segmenter's `thing`, what lies INSIDE_PX inside, and what is too thin for that."""
    inside = cv2.erode(thing, _disc(INSIDE_PX))
    return np.asarray(cv2.max(inside, cv2.subtract(thing, cv2.dilate(inside, _disc(INSIDE_PX + 3)))), np.uint8)


def colour_model(guide: Plane, target: Plane, weight: Plane) -> Plane:
    """Local linear model of `target` (h x w) in the colours of `guide` (h x w x 3), 0..1: h x w x 4, three slopes and
    an offset. Each cell counts by its `weight` (h x w).
    """
    blue, green, red = (guide * weight[..., None]).transpose(2, 0, 1)
    colours = np.moveaxis(guide, 2, 0)
    products = [one * other for number, one in enumerate((blue, green, red)) for other in colours[number:]]
    weighted = np.dstack(
        [blue, green, red, weight * target, *products, blue * target, green * target, red * target, weight]
    )
    mean = _mean(weighted)
    mean = mean[..., :-1] / mean[..., -1:]
    mean_target = mean[..., 3:4]
    shared = mean[..., 10:] - mean[..., :3] * mean_target
    b, g, r = np.moveaxis(mean[..., :3], 2, 0)
    bb, bg, br, gg, gr, rr = np.moveaxis(mean[..., 4:10], 2, 0)
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
    tb, tg, tr = np.moveaxis(shared, 2, 0)
    slopes = np.dstack(
        [
            (bb_i * tb + bg_i * tg + br_i * tr) * scale,
            (bg_i * tb + gg_i * tg + gr_i * tr) * scale,
            (br_i * tb + gr_i * tg + rr_i * tr) * scale,
        ]
    )
    offset = mean_target - (slopes * mean[..., :3]).sum(axis=2, keepdims=True)
    return np.dstack([slopes, offset])


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
def _disc(reach: int) -> Image:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)), np.uint8)
