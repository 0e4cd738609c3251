"""What the landmarks say of a face's pose: how far it is turned aside, and where the template then shows it."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import CROP_PX, HIDDEN, TEMPLATE, Image, Points
from occlufix_vcam.stages.geometry import face_area, face_share

#: From this turn on (about 15 degrees) the background beside the far cheek lies inside the template's face.
ASIDE = 0.15
#: How fast the far half of the face narrows with the turn: at 0.4 the outline passes the far eye and the nose.
_NARROWING = 1.9
_MIDDLE = float(TEMPLATE[:2, 0].mean())


def turn_of(landmarks: Points) -> float:
    """How far the nose stands from the line between eyes and mouth, in eye distances: 0 frontal, about 0.6 tan(yaw).

    Positive where the nose points to the image's right. 0 for landmarks that span no face.
    """
    left, right, nose, *mouth = landmarks.astype(np.float64)
    eyes, across = (left + right) / 2, right - left
    down = (mouth[0] + mouth[1]) / 2 - eyes
    if not (across @ across > 0 and down @ down > 0):
        return 0.0
    foot = eyes + (nose - eyes) @ down / (down @ down) * down
    return float((nose - foot) @ across / (across @ across))


def visible_face(turn: float) -> Image:
    """Part of the template that a face turned this far fills, 256x256 uint8: beyond its far cheek is background."""
    return _visible_face(round(float(np.clip(turn, -1, 1)), 2))


@functools.lru_cache(maxsize=64)
def _visible_face(turn: float) -> Image:
    narrow = max(1 - _NARROWING * abs(turn), 0.2)
    squeeze = np.array([[narrow, 0, _MIDDLE * (1 - narrow)], [0, 1, 0]])
    area = np.asarray(cv2.warpAffine(face_area(), squeeze, (CROP_PX, CROP_PX)), np.uint8)
    near = np.s_[:, : round(_MIDDLE)] if turn > 0 else np.s_[:, round(_MIDDLE) :]
    area[near] = face_area()[near]
    return np.where(area > 127, np.uint8(HIDDEN), np.uint8(0))


def covers_face(hidden: NDArray[np.bool_], turn: float, least: float) -> bool:
    """Whether a share of at least `least` of a face turned this far is `hidden` (256x256); True for a frontal face."""
    if abs(turn) < ASIDE:
        return True
    return face_share(cv2.copyTo(visible_face(turn), hidden.view(np.uint8))) >= least
