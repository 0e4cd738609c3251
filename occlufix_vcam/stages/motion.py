"""How a face moved from one crop to another, told from what both show of it.

Landmarks are off by some pixels, more so on a covered face; what is painted with them shimmers. Corners that are
followed by optical flow are good to a fraction of a pixel, and those that do not move with the head (a blinking eye,
a rest of the occluder) are out-voted.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import CROP_PX, Affine, Image, Points, similarity, transform_points
from occlufix_vcam.stages.geometry import face_area

#: Motion is looked for at half the crop's size: twice as far in the same window, at a quarter of the cost.
FLOW_PX = CROP_PX // 2
MOST_CORNERS = 80
FEWEST_CORNERS = 8
_CORNER_QUALITY, _CORNER_GAP_PX = 0.01, 4
_WINDOW = (13, 13)
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 15, 0.02)
#: Corners farther from where the others went than about this count little: crop pixels.
_OUTLIER_PX = 2.5
_ROUNDS = 5
#: A corner went along with the head if it ended up this near: crop pixels.
_ALONG_PX = 4.0

#: A face of which half the cells change by so many grey levels, the change of its light aside, from one frame to the
#: next is another face: between frames of six talking people it was 4.3 at most, between photographs of two people
#: 6.1 at least in 999 of 1000 pairs.
STROKE = 5.5
#: So much more or less light is another scene.
LIGHT_STROKE = 40.0
_THUMB_PX = 16

IDENTITY: Affine = np.eye(2, 3, dtype=np.float32)
IDENTITY.flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class MotionFeatures:
    """What motion is told from: `grey` FLOW_PX x FLOW_PX uint8, and `corners` nx2 in its pixels."""

    grey: Image
    corners: Points


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """`matrix` takes crop pixels to crop pixels; `share` of the corners, 0..1, went along with it."""

    matrix: Affine
    share: float


class Continuity:
    """Tells when a track shows another face from one frame to the next: a cut, or two people who changed places."""

    def __init__(self) -> None:
        self._thumb: NDArray[np.float32] | None = None
        self._shown: NDArray[np.bool_] | None = None

    def broken(self, image: Image, mask: Image) -> bool:
        """Whether what is visible in this crop and was in the last one looks quite different."""
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
    """How the face of `before` moved to that of `after`, in which `shown` (256x256 uint8) is not hidden.

    `guess` is where it is looked for, up to about 12 px away for each halving in `levels`. None where too little
    can be followed. Source: B. Lucas, T. Kanade, 1981; pyramids: J. Bouguet, 2000.
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
    """`grey` with what it is guessed to show where it is not `shown`: at the coarse levels what hides it would pull."""
    matrix = guess.copy()
    matrix[:, 2] = _to_flow(transform_points(_to_crop(np.zeros((1, 2), np.float32)), guess))[0]
    filled = np.empty_like(grey)
    cv2.warpAffine(before, matrix, (FLOW_PX, FLOW_PX), dst=filled, borderMode=cv2.BORDER_REPLICATE)
    cv2.copyTo(grey, cv2.resize(shown, (FLOW_PX, FLOW_PX), interpolation=cv2.INTER_NEAREST), filled)
    return filled


def _agreed(start: Points, end: Points, guess: Affine) -> Motion | None:
    """The similarity that most corners agree on: least squares, weighted anew by how far each one is off."""
    matrix = guess
    reach = _OUTLIER_PX * 4  # wide at first, for the guess may be off
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


def _inside(shown: Image) -> Image:
    """`shown` at half the crop's size, without the rim, whose window would reach across."""
    small = cv2.resize(shown, (FLOW_PX, FLOW_PX), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.erode(small, np.ones((5, 5), np.uint8)), np.uint8)


def _to_crop(points: NDArray[np.float32]) -> Points:
    scale = CROP_PX / FLOW_PX
    return (points * scale + (scale - 1) / 2).astype(np.float32)


def _to_flow(points: Points) -> Points:
    scale = CROP_PX / FLOW_PX
    return ((points - (scale - 1) / 2) / scale).astype(np.float32)
