"""Blends restored parts of faces into the frame: `Blender`.

Only what the things hide changes, and a pixel that no restored part covers keeps its value bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from engines.contract import CROP_PX, HIDDEN, WIDE_OFFSET, Affine, Image
from occlufix_vcam.core.frame import Box, Fill, Patch
from occlufix_vcam.stages.compositing.beyond import CELL_PX as REACH_CELL_PX
from occlufix_vcam.stages.compositing.beyond import Beyond, Reach, composed_wide, painted_wide
from occlufix_vcam.stages.compositing.detail import CUBIC_BELOW, Detail
from occlufix_vcam.stages.compositing.outline import outline
from occlufix_vcam.stages.compositing.spill import without_spill
from occlufix_vcam.stages.geometry import (
    box_in_frame,
    compose,
    face_weight,
    from_cells,
    reduced,
    scale_of,
    to_cells,
    to_wide_field,
    translation,
)

#: Weight of a fill by its trust. Beside the face it is full up to an expected error of 20 levels: the only other
#: choice, a smooth continuation of what is around, is off by about 50. On the face it has none from 22 levels on.
_BESIDE: Image = np.clip(np.arange(256) * 1.45, 0, HIDDEN).astype(np.uint8)
_ON_FACE: Image = np.clip((np.arange(256) - 158) * (HIDDEN / 97), 0, HIDDEN).astype(np.uint8)

Levels: TypeAlias = NDArray[np.floating]
Wide: TypeAlias = NDArray[np.int16]

#: Colours across the hole's rim are compared in cells with sides of this many crop pixels.
CELL_PX = 4
#: A step this high at the rim, in grey levels, is an edge of the scene or a remnant of the occluder, not a colour cast.
MATCH_EDGE = 25.0


class Blender:
    """Blends patches into a frame. Used by one thread: its buffers are reused.

    Outlines are found in a second thread, meanwhile: OpenCV and NumPy leave a core idle that the networks use.
    """

    def __init__(self, beyond: Beyond = "fade", paints: bool = False) -> None:
        """`beyond`: what happens to a thing that reaches beyond what can be restored; see Reach.

        `paints`: what lies beside the face is painted in patches of what surrounds it, which takes seconds.
        """
        self._reach = Reach(beyond, paints)
        self._paints = paints
        self._detail = Detail()
        self._scratch = _Scratch(0)
        self._outliner = ThreadPoolExecutor(1, "outline")

    def __call__(self, image: Image, patches: Sequence[Patch], fill: Fill | None = None, at: float = 0.0) -> Image:
        """New image with all patches blended in, or `image` itself if there are none.

        `fill` is what the scene's memory knows of what lies behind; `at` is the frame's time in seconds.
        """
        result = image
        boxes = [(patch, box) for patch in patches if min((box := _box_of_thing(patch, image))[2:]) >= 1]
        outlines = [self._outliner.submit(outline, image, patch, box) for patch, box in boxes]
        for (patch, box), outlined in zip(boxes, outlines, strict=True):
            reach = self._reach(patch, fill, at)
            restored = self._restored(patch, box, reach is not None)
            if not patch.exact:
                self._detail(image, patch, restored, box, at)
            if fill is not None:
                self._put_fill(restored, patch, box, fill, compose(patch.crop.to_crop, translation(*box[:2])))
            x, y, width, height = box
            alpha = outlined.result().against(
                image[y : y + height, x : x + width], restored, _remembered_in(box, patch)
            )
            if reach is not None:
                cv2.multiply(alpha, _reach_in(box, patch, reach), dst=alpha, scale=1 / HIDDEN)
            if cv2.countNonZero(alpha):
                result = image.copy() if result is image else result
                self._put(result, box, restored, alpha)
        beside = None if fill is None or self._reach.leaves else _beside(fill)
        if fill is not None and beside is not None and result is not image:
            self._put(result, fill.box, fill.image, beside)
        return result

    def forget(self, track_ids: Iterable[int]) -> None:
        """Forgets lost tracks; unknown ones are ignored."""
        for part in (self._reach, self._detail):
            part.forget(track_ids)

    def close(self) -> None:
        """Ends the second thread."""
        self._outliner.shutdown()

    def _restored(self, patch: Patch, box: Box, is_beyond: bool) -> Image:
        """What is to be seen in `box` of the frame instead of the thing."""
        restored = _matched(patch)
        to_crop = compose(patch.crop.to_crop, translation(box[0], box[1]))
        if self._paints:
            return _warped(painted_wide(patch, restored), to_wide_field(to_crop), box)
        if is_beyond:
            return _warped(composed_wide(patch, restored), to_wide_field(to_crop), box)
        return _warped(restored, to_crop, box)

    def _put_fill(self, image: Image, patch: Patch, box: Box, fill: Fill, to_crop: Affine) -> None:
        """Puts the fill into `image`, that of `box`, where it is trusted.

        On the face, only what is trusted well, and only where no remembered view of the face is.
        """
        x, y = max(box[0], fill.box[0]), max(box[1], fill.box[1])
        right = min(box[0] + box[2], fill.box[0] + fill.box[2])
        bottom = min(box[1] + box[3], fill.box[1] + fill.box[3])
        if right <= x or bottom <= y:
            return
        shared: Box = (x - box[0], y - box[1], right - x, bottom - y)
        theirs = np.s_[y - fill.box[1] : bottom - fill.box[1], x - fill.box[0] : right - fill.box[0]]
        to_face = compose(to_crop, translation(shared[0], shared[1]))
        face = _warped(face_weight(), to_face, shared, outside=0)
        lacking = cv2.bitwise_not(cv2.LUT(fill.trust[theirs], _ON_FACE))
        if patch.remembered is not None:
            lacking = cv2.max(lacking, _warped(patch.remembered, to_face, shared))
        doubt = cv2.multiply(face, lacking, scale=1 / HIDDEN)
        weight = cv2.subtract(cv2.LUT(fill.trust[theirs], _BESIDE), doubt)
        self._put(image, shared, fill.image[theirs], np.asarray(weight, np.uint8))

    def _put(self, image: Image, box: Box, other: Image, weight: Image) -> None:
        """Writes into `image` inside `box`: known + (other - known) x weight."""
        x, y, width, height = box
        if self._scratch.pixels < width * height:
            self._scratch = _Scratch(image.shape[0] * image.shape[1])
        weight_16, weights, change = self._scratch.views(width, height)
        np.copyto(weight_16, weight)  # the multiplication is many times faster in one type
        cv2.merge([weight_16, weight_16, weight_16], dst=weights)
        known = image[y : y + height, x : x + width]
        cv2.subtract(other, known, dst=change, dtype=cv2.CV_16S)
        cv2.multiply(change, weights, dst=change, scale=1 / HIDDEN, dtype=cv2.CV_16S)
        cv2.add(known, change, dst=known, dtype=cv2.CV_8U)


class _Scratch:
    """Scratch buffers for blending up to `pixels` pixels."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self._weight = np.empty(pixels, np.int16)
        self._weights = np.empty(pixels * 3, np.int16)
        self._change = np.empty(pixels * 3, np.int16)

    def views(self, width: int, height: int) -> tuple[Wide, Wide, Wide]:
        """The weight, the weight for each channel, and the change: uninitialised."""
        pixels, shape = width * height, (height, width, 3)
        return (
            self._weight[:pixels].reshape(height, width),
            self._weights[: pixels * 3].reshape(shape),
            self._change[: pixels * 3].reshape(shape),
        )


def _box_of_thing(patch: Patch, image: Image) -> Box:
    """Box of the frame that contains everything to be replaced."""
    x, y, width, height = cv2.boundingRect(patch.wide_mask)
    if not width:
        return 0, 0, 0, 0
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)
    return box_in_frame(corners - 0.5 - np.array(WIDE_OFFSET, np.float32), patch.crop.to_crop, image)


def _beside(fill: Fill) -> Image | None:
    """Weight of a fill outside the patches, where it is trusted: where things go on, and along their rims."""
    parts = [part for part in (fill.thing, fill.rim) if part is not None]
    trusted = cv2.LUT(fill.trust, _BESIDE)
    return np.asarray(cv2.min(np.maximum.reduce(parts), trusted), np.uint8) if parts else None


def _matched(patch: Patch) -> Image:
    """The restored template with its colours matched to the face around the hole, and without spill."""
    x, y, width, height = _around_hole(patch.mask)
    if not width:
        return patch.image
    part = slice(y, y + height), slice(x, x + width)
    restored = patch.image.copy()
    restored[part] = match_colours(patch.crop.image[part], patch.image[part], patch.mask[part])
    return restored if patch.exact else without_spill(patch, restored)


def _remembered_in(box: Box, patch: Patch) -> Image | None:
    if patch.remembered is None:
        return None
    return _warped(patch.remembered, compose(patch.crop.to_crop, translation(box[0], box[1])), box, outside=0)


def _reach_in(box: Box, patch: Patch, reach: Image) -> Image:
    to_wide = compose(to_wide_field(patch.crop.to_crop), translation(box[0], box[1]))
    return from_cells(reach, compose(to_cells(REACH_CELL_PX), to_wide), box[2:])


def _warped(image: Image, matrix: Affine, box: Box, outside: int | None = None) -> Image:
    """Part of `image` that fills `box`; `matrix` takes the box's pixels there. Its edge is repeated beyond it."""
    scale = scale_of(matrix)
    if scale >= 2:
        image, to_reduced = reduced(image, round(scale))
        matrix = compose(to_reduced, matrix)
    flags = (cv2.INTER_CUBIC if scale < CUBIC_BELOW else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
    border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
    return np.asarray(cv2.warpAffine(image, matrix, (box[2], box[3]), flags=flags, borderMode=border), np.uint8)


def match_colours(known: Image, restored: Image, mask: Image) -> Image:
    """`restored` with its colours matched to the `known` pixels around the hole; all of one size.

    It measures the step in colour from the last hidden to the first known pixel along the rim. Steps that are edges are
    left out; the others are spread smoothly into the hole, and their mean applies far from the rim. Valid only inside
    the hole.
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
    """Mean colour of the pixels of each cell that lie `where` (255), and their share of the cell."""
    cells = image.shape[1] // CELL_PX, image.shape[0] // CELL_PX
    only = cv2.bitwise_and(image, image, mask=where)
    sums = cv2.resize(only, cells, interpolation=cv2.INTER_AREA).astype(np.float32)
    share = cv2.resize(where, cells, interpolation=cv2.INTER_AREA).astype(np.float32) / HIDDEN
    return sums / (share[..., None] + 1e-3), share


def _around_hole(mask: Image) -> tuple[int, int, int, int]:
    """x, y, width, height of the part of a crop that contains the whole hole and its rim, in whole cells."""
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return 0, 0, 0, 0
    x, y = max(left - 1, 0) // CELL_PX * CELL_PX, max(top - 1, 0) // CELL_PX * CELL_PX
    right, bottom = min(left + width + CELL_PX, CROP_PX), min(top + height + CELL_PX, CROP_PX)
    return x, y, -(-(right - x) // CELL_PX) * CELL_PX, -(-(bottom - y) // CELL_PX) * CELL_PX
