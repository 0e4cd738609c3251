"""`align` takes a face to the template, and survives any landmarks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engines.contract import TEMPLATE, TEMPLATE_PART, WIDE_OFFSET, WIDE_PX, Image, Points, similarity, transform_points
from occlufix_vcam.core.frame import Crop, FaceTrack, Frame
from occlufix_vcam.stages.align import Realignment, align
from occlufix_vcam.stages.geometry import compose, inverse


def smooth_picture(height: int = 720, width: int = 1280) -> Image:
    """Soft gradients, as skin has them: what is warped there and back hardly changes."""
    noise = np.random.default_rng(5).integers(40, 216, (height // 40, width // 40, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def landmarks(eye_distance: float = 100.0, at: tuple[float, float] = (640, 360), turn: float = 0.2) -> Points:
    scale, (cosine, sine) = eye_distance / 76.8, (np.cos(turn), np.sin(turn))
    around = (TEMPLATE - TEMPLATE.mean(axis=0)) * scale
    return (around @ np.array([[cosine, sine], [-sine, cosine]]) + at).astype(np.float32)


def crop_of(image: Image, points: Points) -> Crop:
    crop = align(Frame(image, 0, 0.0), FaceTrack(1, points, 1.0))
    assert crop is not None
    return crop


@pytest.mark.parametrize("eye_distance", [20, 76.8, 160, 400])
def test_align_takes_the_landmarks_to_the_template(eye_distance):
    image = np.zeros((2160, 3840, 3), np.uint8)
    points = landmarks(eye_distance, at=(1900, 1000))
    radius = max(round(eye_distance / 16), 1)
    for x, y in points:
        cv2.circle(image, (round(float(x)), round(float(y))), radius, (255, 255, 255), cv2.FILLED)
    crop = crop_of(image, points)
    assert np.abs(transform_points(points, crop.to_crop) - TEMPLATE).max() < 0.01
    for x, y in TEMPLATE:
        window = crop.image[round(y) - 15 : round(y) + 16, round(x) - 15 : round(x) + 16, 0].astype(float)
        rows, columns = np.indices(window.shape) - 15
        middle = np.array([(columns * window).sum(), (rows * window).sum()]) / window.sum()
        # Half a frame pixel was lost to drawing, at up to 3.8 crop pixels each.
        assert np.abs(middle + (round(x), round(y)) - (x, y)).max() < 0.6 + 0.6 * 76.8 / eye_distance


def test_a_large_face_does_not_alias():
    stripes = np.zeros((2160, 3840, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = crop_of(stripes, landmarks(500, at=(1900, 1000), turn=0.1))
    inside = crop.wide[crop.in_frame > 0].astype(int)
    assert np.abs(inside - 128).max() < 24  # a plain warp shows stripes of 0 and 255


@pytest.mark.parametrize("eye_distance", [40, 100, 250])
def test_the_template_is_a_part_of_the_wide_field(eye_distance):
    image = smooth_picture()
    crop = crop_of(image, landmarks(eye_distance))
    assert crop.wide.shape == (WIDE_PX, WIDE_PX, 3)
    assert np.array_equal(crop.wide[TEMPLATE_PART], crop.image) and crop.image.flags.c_contiguous
    corner = transform_points(np.float32([[0, 0]]) - WIDE_OFFSET, cv2.invertAffineTransform(crop.to_crop))[0]
    if eye_distance < 200:
        assert crop.in_frame.all()
        x, y = np.round(corner).astype(int)
        assert np.abs(crop.wide[0, 0].astype(int) - image[y, x]).max() < 8


def test_what_lies_beyond_the_frame_is_told_apart():
    image = np.full((720, 1280, 3), 100, np.uint8)
    crop = crop_of(image, landmarks(76.8, at=(1240, 360), turn=0.0))
    outside = transform_points(np.float32([[1280, 0]]), crop.to_crop)[0, 0] + WIDE_OFFSET[0]
    columns = np.flatnonzero(crop.in_frame.all(axis=0))
    assert columns.max() + 1 == pytest.approx(outside, abs=1.5)
    assert not crop.in_frame[:, columns.max() + 1 :].any()


@pytest.mark.parametrize(
    "points",
    [
        np.full((5, 2), 300.0),
        np.full((5, 2), np.nan),
        np.array([[300, 300], [400, 300], [350, 350], [310, np.inf], [390, 400]]),
        np.array([[300, 300], [300, 300], [300, 300], [300, 300], [300, 301]]),
        TEMPLATE * 1e-3,
        TEMPLATE * 1e6,
        TEMPLATE + 1e7,
        TEMPLATE + (5000, 0),
        TEMPLATE - (0, 3000),
    ],
    ids=["one point", "nan", "infinite", "nearly one point", "tiny", "huge", "far", "right of it", "above it"],
)
def test_landmarks_that_span_no_face_give_no_crop(points):
    face = FaceTrack(1, points.astype(np.float32), 1.0)
    assert align(Frame(smooth_picture(), 0, 0.0), face) is None


def test_the_landmarks_of_a_covered_face_follow_where_its_view_was_found():
    """The landmarks slip by 12 px and by a tenth of the size behind a hand, and stay so while the face moves on."""
    realign = Realignment()
    true = (TEMPLATE + 40).astype(np.float32)
    slipped = ((true - true.mean(axis=0)) * 1.1 + true.mean(axis=0) + 12).astype(np.float32)
    frame = Frame(np.zeros((480, 640, 3), np.uint8), 0, 0.0)

    def realigned(points: Points) -> Crop:
        crop = align(frame, realign(FaceTrack(7, points, 0.9)))
        assert crop is not None
        return crop

    first = realigned(slipped)
    aligned = compose(similarity(true), inverse(first.to_crop))
    realign.learn(first, aligned, covered=True)
    moved = realigned(slipped + np.float32((9, 4)))
    np.testing.assert_allclose(moved.face.landmarks, true + np.float32((9, 4)), atol=0.6)
    realign.learn(moved, None, covered=True)
    lost = realigned(slipped).face.landmarks
    assert 1 < np.abs(lost - true).max() < np.abs(slipped - true).max()
    realign.learn(moved, None, covered=False)
    np.testing.assert_array_equal(realigned(slipped).face.landmarks, slipped)
