"""The landmarks of a still face are held still, and those of a moving one are hardly late."""

from __future__ import annotations

import numpy as np

from occlufix_vcam.stages.track import OneEuro
from tests.stages.test_find import truth


def test_a_still_face_is_held_still() -> None:
    smooth, rng = OneEuro(), np.random.default_rng(0)
    points = truth(600, 300, 200)
    noisy = [points + rng.normal(0, 1.0, (5, 2)).astype(np.float32) for _ in range(150)]
    held = np.array([smooth(landmarks, 200, step / 30) for step, landmarks in enumerate(noisy)])[30:]
    jitter = np.abs(np.diff(held, axis=0)).mean() / np.abs(np.diff(np.array(noisy[30:]), axis=0)).mean()
    assert jitter < 0.35


def test_a_moving_face_is_hardly_late() -> None:
    smooth = OneEuro()
    for step in range(60):  # two face sizes a second
        points = truth(100 + step * 200 * 2 / 30, 300, 200)
        held = smooth(points, 200, step / 30)
    assert np.hypot(*(held - points).T).max() < 0.02 * 200


def test_smoothing_does_not_depend_on_how_near_the_face_is() -> None:
    near, far = OneEuro(), OneEuro()
    for step in range(40):
        shift = 10 * np.sin(step / 5)
        a = near(truth(600 + shift, 300, 200), 200, step / 30)
        b = far(truth((600 + shift) / 4, 75, 50), 50, step / 30)
    assert np.allclose(a, b * 4, atol=0.05)


def test_times_that_stand_still_or_jump_are_no_trouble() -> None:
    smooth = OneEuro()
    for at in (5.0, 5.0, 4.0, 900.0):
        assert np.isfinite(smooth(truth(600, 300, 200), 200, at)).all()
