"""Face of the demo: a photograph in the public domain (astronaut.md), moved like a head in a call.

The image is warped, not cut out: inside an ellipse the head moves rigidly, and between it and an ellipse twice as large
the motion fades to nothing, so that no edge shows. Coordinates are pixels of a 1280x720 stage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import Image
from occlufix_vcam.core.media.pictures import load_picture

Floats = NDArray[np.float32]

STAGE = (1280, 720)
#: Photograph pixels to stage pixels: the 512 pixels fill the width, the head stays clear of the upper edge.
ZOOM, TOP_MARGIN = 2.5, 30

_HEAD_CENTRE = np.array([562.0, 292.0], np.float32)
_HEAD_RADII = np.array([190.0, 195.0], np.float32)
_FACE_RADII = np.array([140.0, 200.0], np.float32)
_FACE_DEPTH = 110.0  # how far the nose is in front of the ears
#: Moving part, as rows and columns of the stage; the displacement is computed at every 8th pixel.
ROWS, COLUMNS, _STEP = slice(0, 720), slice(176, 952), 8

#: Outline of the person in the photograph; the rest is blurred, as call programs do.
_OUTLINE = (
    (184, 150), (180, 133), (172, 122), (158, 106), (152, 88), (151, 66), (157, 51), (170, 40), (186, 31), (199, 20),
    (215, 15), (232, 12), (256, 16), (276, 27), (290, 40), (299, 58), (303, 82), (302, 98), (296, 112), (284, 126),
    (275, 138), (266, 142), (262, 160), (268, 171), (290, 190), (303, 225), (305, 240), (332, 243), (346, 258),
    (360, 320), (40, 320), (46, 290), (72, 246), (95, 221), (112, 206), (114, 190), (127, 169), (150, 151), (170, 146),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pose:
    """Pose of the head: a shift in stage pixels, a scale, and angles in radians."""

    shift: tuple[float, float]
    scale: float
    roll: float
    turn: float
    nod: float


def pose_at(phase: float) -> Pose:
    """Motion of the head, as sines that fit into one loop: phase 0 and phase 1 are the same."""

    def sway(rounds: int, start: float) -> float:
        return math.sin(2 * math.pi * (rounds * phase + start))

    return Pose(
        shift=(26 * sway(2, 0.0) + 7 * sway(5, 0.2), 9 * sway(3, 0.1) + 4 * sway(7, 0.6)),
        scale=1 + 0.05 * sway(1, 0.35),
        roll=math.radians(4.0 * sway(2, 0.3) + 1.5 * sway(5, 0.7)),
        turn=math.radians(11.0 * sway(3, 0.45)),
        nod=math.radians(5.0 * sway(4, 0.15)),
    )


class Portrait:
    """`plate` is the stage at rest; `bend` moves the head of a plate, `place` a point on it."""

    def __init__(self) -> None:
        self.plate = _make_plate(load_picture(photograph_path()))
        x = np.arange(COLUMNS.start + _STEP / 2 - 0.5, COLUMNS.stop, _STEP, dtype=np.float32)
        y = np.arange(ROWS.start + _STEP / 2 - 0.5, ROWS.stop, _STEP, dtype=np.float32)
        self._x, self._y = np.meshgrid(x, y)
        radius = np.hypot((self._x - _HEAD_CENTRE[0]) / _HEAD_RADII[0], (self._y - _HEAD_CENTRE[1]) / _HEAD_RADII[1])
        fade = np.clip(2 - radius, 0, 1)
        self._moves = fade * fade * (3 - 2 * fade)

    def bend(self, region: Image, pose: Pose, out: Image) -> None:
        """Warps `region`, the ROWS and COLUMNS of a plate in its resting pose, into `out`."""
        # In fixed point OpenCV warps in half the time, conversion included.
        whole, fraction = cv2.convertMaps(*self._origins(pose), cv2.CV_16SC2)
        cv2.remap(region, whole, fraction, cv2.INTER_LINEAR, dst=out, borderMode=cv2.BORDER_REPLICATE)

    def _origins(self, pose: Pose) -> tuple[Floats, Floats]:
        """Source of each warped pixel in the resting region: its x and its y."""
        cosine, sine = math.cos(pose.roll) / pose.scale, math.sin(pose.roll) / pose.scale
        x, y = self._x - _HEAD_CENTRE[0] - pose.shift[0], self._y - _HEAD_CENTRE[1] - pose.shift[1]
        from_x, from_y = cosine * x + sine * y, cosine * y - sine * x
        depth = np.maximum(0, 1 - (from_x / _FACE_RADII[0]) ** 2 - (from_y / _FACE_RADII[1]) ** 2) * _FACE_DEPTH
        from_x -= depth * math.sin(pose.turn)
        from_y -= depth * math.sin(pose.nod)
        x = self._x + self._moves * (from_x + _HEAD_CENTRE[0] - self._x) - COLUMNS.start
        y = self._y + self._moves * (from_y + _HEAD_CENTRE[1] - self._y) - ROWS.start
        size = (COLUMNS.stop - COLUMNS.start, ROWS.stop - ROWS.start)
        x, y = (cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR) for grid in (x, y))
        return np.asarray(x, np.float32), np.asarray(y, np.float32)

    def place(self, point: tuple[float, float], pose: Pose) -> tuple[float, float]:
        """Position of a resting face's point in this pose, accurate enough to place a mug there."""
        x, y = point[0] - float(_HEAD_CENTRE[0]), point[1] - float(_HEAD_CENTRE[1])
        depth = max(0.0, 1 - (x / float(_FACE_RADII[0])) ** 2 - (y / float(_FACE_RADII[1])) ** 2) * _FACE_DEPTH
        x, y = x + depth * math.sin(pose.turn), y + depth * math.sin(pose.nod)
        cosine, sine = math.cos(pose.roll) * pose.scale, math.sin(pose.roll) * pose.scale
        return (
            float(_HEAD_CENTRE[0]) + pose.shift[0] + cosine * x - sine * y,
            float(_HEAD_CENTRE[1]) + pose.shift[1] + sine * x + cosine * y,
        )


def on_stage(points: object) -> Floats:
    """Photograph pixels as stage pixels."""
    return np.asarray(points, np.float32) * ZOOM + np.array([0, TOP_MARGIN], np.float32)


def photograph_path() -> Path:
    """Photograph file: the upper 276 rows, which are all that the stage shows."""
    return Path(__file__).with_name("astronaut.jpg")


def _make_plate(photograph: Image) -> Image:
    width, height = STAGE
    rows = round((height - TOP_MARGIN) / ZOOM)
    sharp = cv2.resize(photograph[:rows], (width, height - TOP_MARGIN), interpolation=cv2.INTER_LANCZOS4)
    sharp = cv2.copyMakeBorder(sharp, TOP_MARGIN, 0, 0, 0, cv2.BORDER_REPLICATE)
    # The person is painted over before the blur, or the suit's orange bleeds into the wall.
    outline = on_stage(_OUTLINE).astype(np.int32)
    person = cv2.fillPoly(np.zeros((height, width), np.uint8), [outline], 255, cv2.LINE_AA)
    small = (width // 8, height // 8)
    hole = cv2.dilate(cv2.resize(person, small, interpolation=cv2.INTER_AREA), np.ones((5, 5), np.uint8))
    wall = cv2.inpaint(cv2.resize(sharp, small, interpolation=cv2.INTER_AREA), hole, 5, cv2.INPAINT_TELEA)
    wall = cv2.resize(cv2.GaussianBlur(wall, (0, 0), 2.2), (width, height), interpolation=cv2.INTER_CUBIC)
    opacity = cv2.GaussianBlur(person, (0, 0), 3.5).astype(np.float32)[:, :, None] / 255
    return np.asarray(wall + (sharp.astype(np.float32) - wall) * opacity, np.uint8)
