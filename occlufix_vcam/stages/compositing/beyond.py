"""What happens to the part of a thing that lies beyond what is restored: it fades out, stays, or is painted over.

The restorer paints the template, and a fill of the scene covers what was seen before. A thing that reaches beyond both
must not end along a line. Everything here is decided in the wide field at a quarter of the template's resolution.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from engines.contract import CROP_PX, HIDDEN, TEMPLATE_PART, WIDE_PX, Image, transform_points
from occlufix_vcam.core.frame import Crop, Fill, Patch, in_wide
from occlufix_vcam.stages.compositing.exemplar import completed
from occlufix_vcam.stages.geometry import compose, face_area, inverse, to_cells, to_wide_field, translation

Beyond = Literal["fade", "leave", "paint"]
Cells = NDArray[np.float32]

#: Side of a cell in crop pixels, and of the wide field in cells.
CELL_PX = 4
CELLS = WIDE_PX // CELL_PX
#: Distance beyond the restored part over which a thing fades: a third of a face's width, in crop pixels.
FADE_PX = 53
#: A thing that ends up to the first distance beyond, in crop pixels, is replaced wholly; the farther, the less.
ENDS_PX = (80, 110)
#: Width of the transition at the template's and the wide field's edges, in crop pixels.
EDGE_PX = 20
#: A thing reaches beyond if so many of its cells are not restored; once it is left, until fewer are.
LEFT_FROM, LEFT_DOWN_TO = 40, 15
#: Time, in seconds, for which a choice stays although the other one would be right.
DWELL_S = 0.6
#: Trust in a fill from which on it counts as restored.
TRUSTED = 128
#: Beyond the template, a thing counts as restored where so much of it is, within a square of cells wider than an arm.
MOST, _WIDTH = 0.8, (25, 25)
#: A painted field takes no patch from within the face (eyes on a chest), and leaves so much around it to the restorer;
#: the face's area is scaled by these.
INNER_FACE, OUTER_FACE = 0.9, 1.3
#: A thing of which this share lies there is continued smoothly: a wall would come onto the neck below a mask.
BEFORE = 0.75
#: A thing counts as followed this near to where it is, by cell: its outline is coarse.
_NEAR = np.ones((9, 9), np.uint8)


@dataclass(slots=True)
class _Choice:
    """Whether things of a track are left, when that was last right, and which cells they cover."""

    leaves: bool
    right_at: float
    left: Image

    def decide(self, leaves: bool, at: float) -> None:
        """Changes its mind only after DWELL_S in which it was wrong."""
        if leaves == self.leaves or at - self.right_at >= DWELL_S:
            self.leaves, self.right_at = leaves, at


class Reach:
    """Decides how far things are replaced beyond the template. Used by one thread.

    `beyond` says what is done with a thing that reaches farther than can be filled with trust: it fades out over
    FADE_PX, is left wholly as it is, or is painted over with a continuation of what surrounds it.
    """

    def __init__(self, beyond: Beyond = "fade", paints: bool = False) -> None:
        """`paints`: the whole wide field is painted (painted_wide), so things go as far as it reaches."""
        self._beyond = beyond
        self._paints = paints
        self._choices: dict[int, _Choice] = {}

    def __call__(self, patch: Patch, fill: Fill | None, at: float) -> Image | None:
        """Weight of the restored image by cell, 255 = as outlined; None if that holds everywhere.

        `at` is the frame's time in seconds.
        """
        thing = _reduced(patch.wide_mask) & _reduced(patch.crop.in_frame)
        sure = np.full((CELLS, CELLS), HIDDEN, np.uint8) if self._paints else _restored_cells()
        if fill is not None:
            sure = _across(np.maximum(sure, _trust(fill, patch)), thing)
        followed = _followed(fill, patch)
        outside = _where(sure < TRUSTED) & thing
        at_edge = thing & ~followed
        if self._beyond == "leave" and not patch.exact:
            return self._left(patch.crop.face.track_id, thing, outside | at_edge & _last_cells(EDGE_PX), at)
        if not outside.any() and not (at_edge & _last_cells(FADE_PX)).any():
            return None
        if self._beyond == "paint" or patch.exact:
            return np.maximum(_wide_edge(), followed)
        return _faded(sure, thing, followed, _fading_edge(patch.crop) if self._paints else _edge_distance())

    @property
    def leaves(self) -> bool:
        """Whether things that reach beyond are left at present."""
        return any(choice.leaves for choice in self._choices.values())

    def forget(self, track_ids: Iterable[int]) -> None:
        for track_id in track_ids:
            self._choices.pop(track_id, None)

    def _left(self, track_id: int, thing: Image, outside: Image, at: float) -> Image | None:
        """0 for the connected things that reach beyond, 255 elsewhere; None if there are none."""
        count, labels = cv2.connectedComponents(thing, ltype=cv2.CV_16U)
        beyond = np.bincount(labels[outside != 0], minlength=count)
        most = int(beyond[1:].max(initial=0))
        choice = self._choices.setdefault(track_id, _Choice(most >= LEFT_FROM, at, np.zeros_like(thing)))
        choice.decide(most >= (LEFT_DOWN_TO if choice.leaves else LEFT_FROM), at)
        if not choice.leaves:
            return None
        before = np.bincount(labels[choice.left != 0], minlength=count)
        stays = (beyond >= LEFT_DOWN_TO) | (before > np.bincount(labels.ravel()) / 2)
        stays[0] = False
        choice.left = _where(stays[labels])
        # With its rim: cells are coarse.
        return np.asarray(cv2.erode(~choice.left, np.ones((3, 3), np.uint8)), np.uint8)


def continued(image: Image, known: Image) -> Image:
    """`image` (h x w x 3) smoothly continued to where it is not `known` (h x w, 255): pull-push.

    Source: S. Gortler et al., "The Lumigraph", 1996.
    """
    weight = known.astype(np.float32) / HIDDEN
    levels = [(image.astype(np.float32) * weight[..., None], weight)]
    while min(levels[-1][1].shape) > 2:
        colours, weight = levels[-1]
        size = -(-weight.shape[1] // 2), -(-weight.shape[0] // 2)
        share = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
        # A cell that is known in part is known: that keeps far colours out.
        gain = np.minimum(share * 4, 1) / np.maximum(share, 1e-6)
        levels.append((cv2.resize(colours, size, interpolation=cv2.INTER_AREA) * gain[..., None], share * gain))
    filled = levels[-1][0] / np.maximum(levels[-1][1], 1e-6)[..., None]
    for colours, weight in reversed(levels[:-1]):
        coarse = cv2.resize(filled, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
        filled = colours + coarse * (1 - weight[..., None])
    return np.asarray(np.clip(filled, 0, HIDDEN), np.uint8)


def composed_wide(patch: Patch, restored: Image) -> Image:
    """The restored template, continued into the rest of the thing: 416x416x3."""
    wide = patch.crop.wide.copy()
    known = ~patch.wide_mask & patch.crop.in_frame
    known[TEMPLATE_PART] |= _where(template_weight() >= HIDDEN // 2)
    part = wide[TEMPLATE_PART]
    part[...] = restored
    around = continued(_by_cell(wide), _reduced(known, whole=True))
    smooth = cv2.resize(around, (WIDE_PX, WIDE_PX), interpolation=cv2.INTER_LINEAR)
    share = template_weight().astype(np.float32) / HIDDEN
    cv2.blendLinear(restored, np.ascontiguousarray(smooth[TEMPLATE_PART]), share, 1 - share, dst=smooth[TEMPLATE_PART])
    return np.asarray(smooth, np.uint8)


def painted_wide(patch: Patch, restored: Image) -> Image:
    """The restored face, and the rest of the thing painted in patches of what is visible around it: 416x416x3.

    A thing that lies before the face, such as a mask, is continued smoothly: it ends soon after.
    """
    kept = in_wide(_kept_face())
    hole = np.where(kept < HIDDEN, patch.wide_mask, np.uint8(0))
    wide = patch.crop.wide.copy()
    wide[TEMPLATE_PART] = restored
    if not cv2.countNonZero(hole):
        return wide
    around = continued(_by_cell(wide), _reduced(~hole & patch.crop.in_frame, whole=True))
    guess = np.asarray(cv2.resize(around, (WIDE_PX, WIDE_PX), interpolation=cv2.INTER_LINEAR), np.uint8)
    before = cv2.countNonZero(cv2.bitwise_and(patch.wide_mask, in_wide(face_area(OUTER_FACE))))
    if before < BEFORE * cv2.countNonZero(patch.wide_mask):
        source = cv2.subtract(~patch.wide_mask & patch.crop.in_frame, in_wide(face_area(INNER_FACE)))
        guess = completed(np.where(hole[..., None] > 0, guess, wide), hole, np.asarray(source, np.uint8))
    return np.where(patch.wide_mask[..., None] > 0, _mixed(wide, guess, kept), wide)


def _mixed(one: Image, other: Image, weight: MatLike) -> Image:
    """`one` by its weight (0..255), the `other` by the rest."""
    share = weight.astype(np.float32) * np.float32(1 / HIDDEN)
    return np.asarray(cv2.blendLinear(one, other, share, 1 - share), np.uint8)


@functools.cache
def _kept_face() -> Image:
    """255 where the restorer's picture stays in a painted field: the face, fading out. 256x256 uint8."""
    return np.asarray(cv2.min(cv2.GaussianBlur(face_area(OUTER_FACE), (0, 0), 4), template_weight()), np.uint8)


@functools.cache
def template_weight() -> Image:
    """255 inside the template, falling to 0 over EDGE_PX at its edge: 256x256 uint8."""
    return _faded_edge(CROP_PX)


def _faded(sure: Image, thing: Image, followed: Image, to_field_edge: Cells) -> Image:
    """255 where it is sure, falling to 0 over FADE_PX beyond, and towards the wide field's edge, that far away.

    A thing that ends nearby is replaced to its end: it would leave no more than a remnant. One that is `followed`
    beyond the wide field does not fade at its edge.
    """
    beyond = cv2.distanceTransform(_where(sure < TRUSTED), cv2.DIST_L2, 5) * CELL_PX
    inside = np.maximum(to_field_edge, followed * np.float32(FADE_PX / HIDDEN))
    share = np.clip(1 - beyond / FADE_PX, 0, 1)
    count, labels = cv2.connectedComponents(thing, ltype=cv2.CV_16U)
    for label in range(1, count):
        cells = labels == label
        to_edge = float(inside[cells].min())
        ends = np.clip((ENDS_PX[1] - beyond[cells].max()) / (ENDS_PX[1] - ENDS_PX[0]), 0, 1)
        start = ENDS_PX[0] * ends * min(to_edge / EDGE_PX, 1)
        rim = cv2.dilate(cells.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        # What reaches the edge goes on beyond it; what ends before does not fade there.
        near_edge = np.clip((inside + to_edge) / FADE_PX, 0, 1)
        share[rim] = np.minimum(np.clip(1 - (beyond - start) / FADE_PX, 0, 1), near_edge)[rim]
    return np.asarray(cv2.convertScaleAbs(share * share * (3 - 2 * share), alpha=HIDDEN), np.uint8)


def _across(sure: Image, thing: Image) -> Image:
    """`sure` without where less than MOST of a thing is, so that none is cut lengthwise. The template always is."""
    known = cv2.blur(_where(sure >= TRUSTED) & thing, _WIDTH).astype(np.float32)
    across = thing & _where(known >= MOST * cv2.blur(thing, _WIDTH))
    # With its rim; what is known beside a thing says nothing of what is behind it.
    return np.where(cv2.dilate(across, np.ones((5, 5), np.uint8)) > 0, sure, np.minimum(sure, _restored_cells()))


def _trust(fill: Fill, patch: Patch) -> Image:
    """Trust in the fill, by cell."""
    return _in_cells(fill.trust, fill, patch)


def _followed(fill: Fill | None, patch: Patch) -> Image:
    """Where a thing is followed beyond the wide field, by cell."""
    if fill is None or fill.thing is None:
        return np.zeros((CELLS, CELLS), np.uint8)
    followed = _in_cells(np.asarray(cv2.min(fill.thing, fill.trust), np.uint8), fill, patch)
    return _where(np.asarray(cv2.dilate(followed, _NEAR)) >= TRUSTED)


def _in_cells(values: Image, fill: Fill, patch: Patch) -> Image:
    to_wide = compose(to_wide_field(patch.crop.to_crop), translation(*fill.box[:2]))
    # Cells are larger than pixels of most frames; the trust map is smooth.
    return np.asarray(cv2.warpAffine(values, compose(to_cells(CELL_PX), to_wide), (CELLS, CELLS)), np.uint8)


@functools.cache
def _restored_cells() -> Image:
    """255 where the template is restored, by cell."""
    return _by_cell(in_wide(template_weight()))


@functools.cache
def _wide_edge() -> Image:
    """255, falling to 0 at the wide field's edge: what lies beyond is not known."""
    return _by_cell(_faded_edge(WIDE_PX))


@functools.cache
def _edge_distance() -> Cells:
    """Distance of each cell from the wide field's edge, in crop pixels."""
    steps = np.arange(CELLS, dtype=np.float32) * CELL_PX
    steps = np.minimum(steps, steps[::-1])
    return np.minimum(steps[:, None], steps)


def _fading_edge(crop: Crop) -> Cells:
    """Distance of each cell from the wide field's edge, in crop pixels: more where the picture ends soon after."""
    if crop.frame is None:
        return _edge_distance()
    to_frame = inverse(to_wide_field(crop.to_crop))
    size = np.array(crop.frame.shape[1::-1])
    steps = np.arange(CELLS, dtype=np.float32) * CELL_PX
    inside = np.full((CELLS, CELLS), np.float32(WIDE_PX))
    back = steps[::-1]
    for normal, distance in ((-1, 0), steps), ((1, 0), back), ((0, -1), steps[:, None]), ((0, 1), back[:, None]):
        out = WIDE_PX / 2 + np.array([[0], [FADE_PX]], np.float32)
        points = transform_points((WIDE_PX / 2 + out * np.array(normal)).astype(np.float32), to_frame)
        ends_here, ends_soon = (not ((point >= 0) & (point <= size - 1)).all() for point in points)
        if not ends_here:
            inside = np.minimum(inside, distance * np.float32(FADE_PX / EDGE_PX if ends_soon else 1.0))
    return inside


@functools.cache
def _last_cells(within_px: int) -> Image:
    """255 within this distance of the wide field's edge."""
    return _where(_edge_distance() < within_px)


def _faded_edge(side: int) -> Image:
    ramp = np.clip((np.arange(side) + 0.5) / EDGE_PX, 0, 1)
    ramp = np.minimum(ramp, ramp[::-1])
    return (np.minimum(ramp[:, None], ramp) * HIDDEN).astype(np.uint8)


def _reduced(mask: Image, whole: bool = False) -> Image:
    """A mask of the wide field by cell: 255 where half of it, or if `whole` all of it is 255."""
    return _where(_by_cell(mask) >= (HIDDEN if whole else TRUSTED))


def _by_cell(image: Image) -> Image:
    return np.asarray(cv2.resize(image, (CELLS, CELLS), interpolation=cv2.INTER_AREA), np.uint8)


def _where(there: NDArray[np.bool_]) -> Image:
    return np.multiply(there, HIDDEN, dtype=np.uint8)
