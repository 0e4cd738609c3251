"""How far a face is turned, and what of the template it then fills."""

from __future__ import annotations

import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE
from occlufix_vcam.stages.geometry import face_area, face_share
from occlufix_vcam.stages.presence.pose import ASIDE, covers_face, turn_of, visible_face


def turned(by: float) -> np.ndarray:
    """The template's landmarks with the nose shifted by this share of the eye distance."""
    points = TEMPLATE.copy()
    points[2, 0] += by * (points[1, 0] - points[0, 0])
    return points


@pytest.mark.parametrize("by", [-0.5, -0.2, 0.0, 0.3])
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_the_turn_is_that_of_the_nose_at_any_size_and_tilt(by: float, scale: float):
    angle = 0.4
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (turned(by) @ rotation.T * scale + 30).astype(np.float32)
    assert turn_of(points) == pytest.approx(by, abs=0.02)


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), 7.0), TEMPLATE * (1, 0)])
def test_landmarks_that_span_no_face_are_not_turned(points: np.ndarray):
    assert turn_of(points.astype(np.float32)) == 0.0


def test_a_frontal_face_fills_its_area_and_a_turned_one_less_on_the_far_side():
    assert np.array_equal(visible_face(0.0), face_area())
    left, right = visible_face(-0.4), visible_face(0.4)
    assert face_share(left) < 0.75 and face_share(right) == pytest.approx(face_share(left), abs=0.02)
    assert not left[128, 70] and left[128, 190] and right[128, 70] and not right[128, 190]


def test_background_beside_the_far_cheek_covers_nothing():
    """It was taken for an occluder, and a second face was painted on the wall."""
    beside = np.zeros((CROP_PX, CROP_PX), bool)
    beside[60:230, 40:75] = True
    assert face_share(beside.astype(np.uint8)) > 0.1
    assert not covers_face(beside, turn=-0.4, least=0.02)
    assert covers_face(beside, turn=0.4, least=0.02)  # the near side is face
    assert covers_face(beside, turn=ASIDE / 2, least=0.02)
