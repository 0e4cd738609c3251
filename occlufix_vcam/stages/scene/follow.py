"""Follows a thing out of the wide field: an arm, but not the body that it meets."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import HIDDEN, Image

Point = NDArray[np.float64]

#: What goes on lies within so many times the width that the thing had where it left the field.
WIDEST = 1.5
#: Up to so many times as many blocks as expected are the thing alone, and tell where it turns.
ALONE = 1.25
#: Each step goes so many blocks.
STEP = 2
#: Share of the newest step in the direction that is expected.
TURNS = 0.4
_AROUND = np.ones((2 * STEP + 1, 2 * STEP + 1), np.uint8)


def followed(differs: Image, left_from: Image) -> Image:
    """Of the blocks that are not what they were (`differs`), those in which a thing goes on that left a field.

    `left_from` marks where it did. Both are uint8, 255 or 0.
    """
    thing = cv2.bitwise_and(differs, left_from)
    count, labels = cv2.connectedComponents(thing, ltype=cv2.CV_16U)
    for number in range(1, count):
        _follow(np.where(labels == number, np.uint8(HIDDEN), np.uint8(0)), differs, np.asarray(thing, np.uint8))
    return np.asarray(thing, np.uint8)


def _follow(front: Image, differs: Image, thing: Image) -> None:
    """Adds to `thing`, in place, what goes on from `front`."""
    centre, heading = _centre(front), np.zeros(2)
    width = max(cv2.boundingRect(front)[2:])
    reach = round(WIDEST * width / 2) + STEP
    while front.any():
        free = cv2.bitwise_and(differs, cv2.bitwise_not(thing))
        near = _ahead(front, centre, heading, reach, width / 2)
        front = np.asarray(cv2.bitwise_and(cv2.bitwise_and(cv2.dilate(front, _AROUND), free), near), np.uint8)
        cv2.bitwise_or(thing, front, dst=thing)
        step = _centre(front) - centre
        alone = cv2.countNonZero(front) <= ALONE * STEP * width
        if not alone or step @ heading < 0 or np.hypot(*step) > 2 * STEP:
            step = heading  # lost among others, it goes straight on
        centre, heading = centre + step, heading + TURNS * (step - heading)


def _ahead(front: Image, centre: Point, heading: Point, reach: int, back: float) -> Image:
    """Half disc from `back` behind the centre on: a front may lie aslant. At the first step, a whole one."""
    near = np.zeros_like(front)
    angle = float(np.degrees(np.arctan2(heading[1], heading[0])))
    half = 90 if heading.any() else 180
    start = centre - heading * (back / max(float(np.hypot(*heading)), 1e-6))
    long = round(reach + back)
    cv2.ellipse(near, np.round(start).astype(int).tolist(), (long, reach), angle, -half, half, HIDDEN, cv2.FILLED)
    return near


def _centre(blocks: Image) -> Point:
    moments = cv2.moments(blocks, binaryImage=True)
    return np.array([moments["m10"], moments["m01"]]) / max(moments["m00"], 1)
