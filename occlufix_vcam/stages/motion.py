"""Estimates the motion of a face from one crop to another, from what both show of it.

Landmarks are off by some pixels, even more on a covered face, and what is placed by them shimmers. Corners tracked by
optical flow are accurate to a fraction of a pixel, and those that do not move with the head (a blinking eye, a remnant
of the occluder) are outvoted.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import CROP_PX, HIDDEN, WIDE_PX, Affine, Image, Points, similarity, transform_points
from engines.faces_maps import averaged
from occlufix_vcam.core.frame import in_wide
from occlufix_vcam.stages.geometry import face_area

#: Motion is estimated at half the crop's size: twice the distance in the same window, at a quarter of the cost.
FLOW_PX = CROP_PX // 2
MOST_CORNERS = 80
FEWEST_CORNERS = 8
_CORNER_QUALITY, _CORNER_GAP_PX = 0.01, 4
_WINDOW = (13, 13)
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 15, 0.02)
#: Corners farther than about this from the common motion, in crop pixels, count little.
_OUTLIER_PX = 2.5
_ROUNDS = 5
#: A corner followed the head if it ended up this near, in crop pixels.
_ALONG_PX = 4.0

#: A face of which half the cells change by this many grey levels from one frame to the next, apart from its light, is
#: another face: between frames of six talking people the change was 4.3 at most, between photographs of two people
#: at least 6.1 in 999 of 1000 pairs.
STROKE = 5.5
#: A change of light this large is another scene.
LIGHT_STROKE = 40.0
_THUMB_PX = 16

#: What is in front of a face is compared in cells of this many crop pixels. A cell changed if it differs by more than
#: so many grey levels and this share of the contrast around it: the face may have moved by a crop pixel or so.
CELL_PX, CHANGE, OF_CONTRAST = 4, 6, 0.4
#: A pixel differs from what is expected there not at all up to the first difference in grey levels, and wholly from the
#: second on.
UNLIKE = 8, 20
#: A surface is plain where the green of what is expected there and around stays within the second of these, and not
#: from the first on. There these differences count within so many pixels of what differs, fading towards the last.
PLAIN, FAINT, BESIDE_PX = (16, 6), (2, 5), 9
#: So many changed cells are as much as a speck of a thing.
FEWEST_CELLS = 5
#: The face and what surrounds it, by what its area is scaled; and the radius, in cells, around what hides it.
AROUND_FACE, AROUND_CELLS = 1.25, 4
_NEXT, _NEAR = np.ones((3, 3), np.uint8), np.ones((2 * AROUND_CELLS + 1, 2 * AROUND_CELLS + 1), np.uint8)

IDENTITY: Affine = np.eye(2, 3, dtype=np.float32)
IDENTITY.flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class MotionFeatures:
    """Features for motion: `grey` FLOW_PX x FLOW_PX uint8, and `corners` nx2 in its pixels."""

    grey: Image
    corners: Points


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """`matrix` takes crop pixels to crop pixels; `share` of the corners, 0..1, followed it."""

    matrix: Affine
    share: float


class Continuity:
    """Detects when a track shows another face from one frame to the next: a cut, or two people who changed places."""

    def __init__(self) -> None:
        self._thumb: NDArray[np.float32] | None = None
        self._shown: NDArray[np.bool_] | None = None

    def broken(self, image: Image, mask: Image) -> bool:
        """Whether the visible part of this crop and of the last one differ greatly."""
        thumb = cv2.resize(image, (_THUMB_PX, _THUMB_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
        visible = cv2.bitwise_and(cv2.bitwise_not(mask), face_area())
        shown = cv2.resize(visible, (_THUMB_PX, _THUMB_PX), interpolation=cv2.INTER_AREA) > 200
        last, last_shown = self._thumb, self._shown
        self._thumb, self._shown = thumb, shown
        if last is None or last_shown is None:
            return False
        both = shown & last_shown
        if not both.any():
            return False
        change = (thumb - last)[both]
        light = np.median(change, axis=0)
        shape = np.median(np.abs(change - light).mean(axis=1))
        return bool(np.abs(light).mean() > LIGHT_STROKE or shape > STROKE)


class Stillness:
    """Detects that a face, what hides it and what is around both still look as they did in an earlier frame."""

    def __init__(self) -> None:
        self._range: tuple[Image, Image] | None = None

    def keep(self, cells: Image, tolerance: float = 1.0) -> None:
        """Compares the next frames with this one's wide field, in cells; a larger `tolerance` lets more pass."""
        contrast = cv2.subtract(cv2.dilate(cells, _NEXT), cv2.erode(cells, _NEXT))
        slack = cv2.LUT(contrast, _slack(tolerance))
        self._range = cv2.subtract(cells, slack).astype(np.uint8), cv2.add(cells, slack).astype(np.uint8)

    def lasts(self, cells: Image, hidden: Image) -> bool:
        """Whether nothing changed since the frame that was kept; `hidden` is what hides the face, in cells."""
        if self._range is None:
            return False
        changed = cv2.bitwise_not(cv2.inRange(cells, *self._range))
        watched = cv2.max(_face_cells(), cv2.dilate(hidden, _NEAR))
        return cv2.countNonZero(cv2.bitwise_and(changed, watched)) < FEWEST_CELLS


def motion_features(image: Image, shown: Image) -> MotionFeatures:
    """`image` is a crop; corners are only sought where `shown` (256x256 uint8) is not 0."""
    small = cv2.resize(image, (FLOW_PX, FLOW_PX), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    corners = cv2.goodFeaturesToTrack(grey, MOST_CORNERS, _CORNER_QUALITY, _CORNER_GAP_PX, mask=_inside(shown))
    found = np.zeros((0, 2), np.float32) if corners is None else corners.reshape(-1, 2).astype(np.float32)
    return MotionFeatures(np.asarray(grey, np.uint8), found)


def motion(
    before: MotionFeatures, after: MotionFeatures, shown: Image, guess: Affine = IDENTITY, levels: int = 2
) -> Motion | None:
    """Motion from the face of `before` to that of `after`, of which `shown` (256x256 uint8) is not hidden.

    `guess` is the initial estimate, accurate to about 12 px for each halving in `levels`. None if too little can be
    tracked. Source: B. Lucas, T. Kanade, 1981; pyramids: J. Bouguet, 2000.
    """
    if len(before.corners) < FEWEST_CORNERS:
        return None
    expected = _to_flow(transform_points(_to_crop(before.corners), guess))
    reached, there, _ = cv2.calcOpticalFlowPyrLK(
        before.grey,
        _filled(after.grey, before.grey, shown, guess),
        before.corners[:, None],
        expected[:, None].copy(),
        winSize=_WINDOW,
        maxLevel=levels,
        criteria=_STOP,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    reached = reached.reshape(-1, 2)
    cell = np.clip(np.round(reached), 0, FLOW_PX - 1).astype(int)
    followed = (there.reshape(-1) > 0) & (np.abs(cell - reached).max(axis=1) <= 1)
    followed &= _inside(shown)[cell[:, 1], cell[:, 0]] > 0
    if np.count_nonzero(followed) < FEWEST_CORNERS:
        return None
    return _agreed(_to_crop(before.corners[followed]), _to_crop(reached[followed]), guess)


def _filled(grey: Image, before: Image, shown: Image, guess: Affine) -> Image:
    """`grey` filled with the guess where it is not `shown`: at coarse levels the occluder would distort the motion."""
    matrix = guess.copy()
    matrix[:, 2] = _to_flow(transform_points(_to_crop(np.zeros((1, 2), np.float32)), guess))[0]
    filled = np.empty_like(grey)
    cv2.warpAffine(before, matrix, (FLOW_PX, FLOW_PX), dst=filled, borderMode=cv2.BORDER_REPLICATE)
    cv2.copyTo(grey, cv2.resize(shown, (FLOW_PX, FLOW_PX), interpolation=cv2.INTER_NEAREST), filled)
    return filled


def _agreed(start: Points, end: Points, guess: Affine) -> Motion | None:
    """Similarity that most corners agree on: iteratively reweighted least squares."""
    matrix = guess
    reach = _OUTLIER_PX * 4  # wide at first, because the guess may be off
    for _ in range(_ROUNDS):
        off = np.hypot(*(transform_points(start, matrix) - end).T)
        weights = 1 / (1 + (off / reach) ** 2) ** 2
        if weights.sum() < FEWEST_CORNERS / 2:
            return None
        try:
            matrix = similarity(start, end, weights)
        except ValueError:
            return None
        reach = max(reach / 2, _OUTLIER_PX)
    off = np.hypot(*(transform_points(start, matrix) - end).T)
    return Motion(matrix, float((off < _ALONG_PX).mean()))


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """By how many grey levels each pixel leaves what is expected about there, and how plain that is; both uint8."""

    off: Image
    plain: Image

    def weight(self, levels: tuple[int, int] = UNLIKE) -> Image:
        """How far each pixel differs, 0..255: not up to the first of `levels`, wholly from the second on.

        The soft edge of what differs, three pixels, counts as it does: it would stay as a fine line. On a plain surface
        a fainter difference is seen, of a shadow too, and what is expected can't be off: beside what differs it counts,
        less with distance.
        """
        weight = cv2.dilate(cv2.LUT(self.off, _ramp(*levels)), np.ones((7, 7), np.uint8))
        beside = cv2.blur(cv2.dilate(weight, np.ones((BESIDE_PX, BESIDE_PX), np.uint8)), (BESIDE_PX, BESIDE_PX))
        faint = cv2.min(cv2.min(cv2.LUT(cv2.blur(self.off, (3, 3)), _ramp(*FAINT)), self.plain), beside)
        return np.asarray(cv2.blur(cv2.max(weight, faint), (3, 3)), np.uint8)


def difference(image: Image, expected: Image, reach: int) -> Difference:
    """How `image` differs from what is `expected`, which may be off by `reach` pixels: a colour within the range of
    those so near is no difference.
    """
    around = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    least, most = cv2.erode(expected, around), cv2.dilate(expected, around)
    blue, green, red = cv2.split(cv2.max(cv2.subtract(least, image), cv2.subtract(image, most)))
    plain = cv2.LUT(cv2.subtract(cv2.extractChannel(most, 1), cv2.extractChannel(least, 1)), _ramp(*PLAIN))
    return Difference(np.asarray(cv2.max(cv2.max(blue, green), red), np.uint8), np.asarray(plain, np.uint8))


def in_cells(wide: Image) -> Image:
    """The wide field (416x416, colours or a mask) in cells of CELL_PX."""
    side = WIDE_PX // CELL_PX
    return averaged(wide, (side, side))


@functools.cache
def _face_cells() -> Image:
    return in_cells(in_wide(face_area(AROUND_FACE)))


@functools.cache
def _ramp(none: int, all_: int) -> Image:
    """Lookup table from grey levels to a weight: 0 at `none`, 255 at `all_`."""
    return np.clip((np.arange(256) - none) * HIDDEN / (all_ - none), 0, HIDDEN).astype(np.uint8)


@functools.cache
def _slack(tolerance: float) -> Image:
    """Lookup table from a cell's contrast to what it may change by."""
    return np.asarray(np.minimum(tolerance * (CHANGE + OF_CONTRAST * np.arange(256)), HIDDEN), np.uint8)


def _inside(shown: Image) -> Image:
    """`shown` at half the crop's size, without the rim, whose window would extend across."""
    small = cv2.resize(shown, (FLOW_PX, FLOW_PX), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.erode(small, np.ones((5, 5), np.uint8)), np.uint8)


def _to_crop(points: NDArray[np.float32]) -> Points:
    scale = CROP_PX / FLOW_PX
    return (points * scale + (scale - 1) / 2).astype(np.float32)


def _to_flow(points: Points) -> Points:
    scale = CROP_PX / FLOW_PX
    return ((points - (scale - 1) / 2) / scale).astype(np.float32)
