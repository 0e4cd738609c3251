"""How a face moved is told to a fraction of a pixel, whatever hides a part of it or blinks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE, WIDE_PX, transform_points
from occlufix_vcam.stages.geometry import face_area
from occlufix_vcam.stages.motion import Continuity, Stillness, difference, in_cells, motion, motion_features

SIZE = (CROP_PX, CROP_PX)
WHOLE = np.full(SIZE, 255, np.uint8)


def scene(seed: int = 0) -> np.ndarray:
    """Something with corners, as a face has."""
    rng = np.random.default_rng(seed)
    rough = cv2.resize(rng.integers(60, 200, (24, 24, 3), dtype=np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)
    return cv2.GaussianBlur(rough, (0, 0), 1.5)


def moved(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(image, matrix, SIZE, borderMode=cv2.BORDER_REFLECT)


def matrix_of(angle: float, scale: float, x: float, y: float) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((128, 128), angle, scale)
    matrix[:, 2] += (x, y)
    return matrix.astype(np.float32)


def error_px(found: np.ndarray, true: np.ndarray) -> float:
    """How far off a landmark of the template ends at most."""
    return float(np.abs(transform_points(TEMPLATE, found) - transform_points(TEMPLATE, true)).max())


@pytest.mark.parametrize(
    "true", [matrix_of(0, 1, 3.4, -2.6), matrix_of(4, 1, 0, 0), matrix_of(-3, 1.05, 5, 4), matrix_of(0, 1, 0, 0)]
)
def test_motion_is_told_to_half_a_pixel(true):
    before, after = scene(), moved(scene(), true)
    found = motion(motion_features(before, face_area()), motion_features(after, face_area()), face_area())
    assert found is not None and found.share > 0.8
    assert error_px(found.matrix, true) < 0.5


def test_what_hides_the_face_has_no_say():
    true = matrix_of(2, 1, 4, 2)
    after = moved(scene(), true)
    shown = face_area().copy()
    shown[130:] = 0
    after[130:] = moved(scene(9), matrix_of(0, 1, -6, 3))[130:]
    found = motion(motion_features(scene(), face_area()), motion_features(after, shown), shown)
    assert found is not None and error_px(found.matrix, true) < 1.5


def test_a_part_that_moves_by_itself_is_outvoted():
    true = matrix_of(0, 1, 3, 0)
    after = moved(scene(), true)
    after[100:130, 60:196] = moved(scene(), matrix_of(0, 1, -3, 4))[100:130, 60:196]
    found = motion(motion_features(scene(), face_area()), motion_features(after, face_area()), face_area())
    assert found is not None and error_px(found.matrix, true) < 0.7


def test_a_guess_reaches_farther():
    true = matrix_of(0, 1, 45, -30)
    before, after = motion_features(scene(), WHOLE), motion_features(moved(scene(), true), WHOLE)
    found = motion(before, after, WHOLE, matrix_of(0, 1, 42, -27))
    assert found is not None and error_px(found.matrix, true) < 0.7


def test_another_face_is_not_found():
    found = motion(motion_features(scene(0), face_area()), motion_features(scene(1), face_area()), face_area())
    assert found is None or found.share < 0.45


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_plain_picture_has_nothing_to_follow(value):
    plain = np.full((*SIZE, 3), value, np.uint8)
    assert motion(motion_features(plain, WHOLE), motion_features(scene(), WHOLE), WHOLE) is None


def test_nothing_shown_is_nothing_found():
    nothing = np.zeros(SIZE, np.uint8)
    assert motion(motion_features(scene(), WHOLE), motion_features(scene(), nothing), nothing) is None


def test_continuity_breaks_at_a_cut_and_not_at_a_hand():
    continuity, mask = Continuity(), np.zeros(SIZE, np.uint8)
    dark, bright = np.full((*SIZE, 3), 60, np.uint8), np.full((*SIZE, 3), 180, np.uint8)
    assert not continuity.broken(dark, mask)
    hand = dark.copy()
    hand[130:] = 200
    mask[130:] = 255
    assert not continuity.broken(hand, mask)
    assert continuity.broken(bright, np.zeros(SIZE, np.uint8))
    assert not continuity.broken(bright, np.zeros(SIZE, np.uint8))


def field(value: int = 120) -> np.ndarray:
    """A wide field with some contrast."""
    rough = np.random.default_rng(5).integers(value - 30, value + 30, (40, 40, 3)).astype(np.uint8)
    return cv2.resize(rough, (WIDE_PX, WIDE_PX), interpolation=cv2.INTER_CUBIC)


def still(after: np.ndarray, hidden: np.ndarray | None = None) -> bool:
    """Whether `after` counts as unchanged since `field()`."""
    stillness = Stillness()
    stillness.keep(in_cells(field()))
    mask = np.zeros((WIDE_PX, WIDE_PX), np.uint8) if hidden is None else hidden
    return stillness.lasts(in_cells(after), in_cells(mask))


def test_noise_and_the_landmarks_jitter_change_nothing():
    noise = np.random.default_rng(1).normal(0, 4, field().shape)
    shaken = cv2.warpAffine(field(), matrix_of(0, 1, 0.7, -0.5), (WIDE_PX, WIDE_PX), borderMode=cv2.BORDER_REFLECT)
    assert still(np.clip(shaken + noise, 0, 255).astype(np.uint8))


def test_a_thing_of_a_specks_size_changes_the_face_and_what_hides_it_and_nothing_elsewhere():
    before_face, beside = field(), field()
    before_face[200:216, 200:216] += 40
    beside[380:396, 20:36] += 40
    assert not still(before_face)
    assert still(beside)
    arm = np.zeros((WIDE_PX, WIDE_PX), np.uint8)
    arm[370:, :40] = 255
    assert not still(beside, arm)


@pytest.mark.parametrize(
    ("tolerance", "change", "lasts"), [(1.0, 5, True), (1.0, 8, False), (1.5, 8, True), (1.5, 11, False)]
)
def test_tolerance_scales_what_a_cell_may_change_by(tolerance: float, change: int, lasts: bool):
    stillness, nothing = Stillness(), in_cells(np.zeros((WIDE_PX, WIDE_PX), np.uint8))
    stillness.keep(in_cells(np.full((WIDE_PX, WIDE_PX, 3), 90, np.uint8)), tolerance)
    assert stillness.lasts(in_cells(np.full((WIDE_PX, WIDE_PX, 3), 90 + change, np.uint8)), nothing) is lasts


def test_nothing_lasts_before_anything_was_kept():
    assert not Stillness().lasts(in_cells(field()), in_cells(field()[..., 0]))


def with_a_thing_and_two_lines(expected: np.ndarray) -> np.ndarray:
    """Something dark at columns 100 to 139, and a line of five levels beside it and one far from it."""
    image = expected.copy()
    image[80:180, 100:140] = 20
    for column in (142, 40):
        image[80:180, column : column + 3] -= 5
    return image


def test_a_faint_line_beside_a_thing_is_seen_on_a_plain_surface_alone():
    plain = np.full((*SIZE, 3), 180, np.uint8)
    differs = difference(with_a_thing_and_two_lines(plain), plain, 4).weight()
    assert differs[130, 105:135].min() == 255 and differs[130, 143] > 150
    assert differs[130, 30:60].max() == 0 and differs[130, 160:].max() == 0
    rough = scene()
    differs = difference(with_a_thing_and_two_lines(rough), rough, 4).weight()
    assert differs[130, 105:135].min() == 255 and differs[130, 146] < 60 and differs[130, 30:60].max() == 0


def test_noise_beside_a_thing_is_no_line():
    plain = np.full((*SIZE, 3), 180, np.uint8)
    noise = np.random.default_rng(0).normal(0, 2, plain.shape)
    noisy = np.clip(with_a_thing_and_two_lines(plain) + noise, 0, 255).astype(np.uint8)
    assert difference(noisy, plain, 4).weight()[80:180, 150:].mean() < 20
