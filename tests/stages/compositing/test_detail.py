"""Restored parts are as sharp and grainy as the face around them: a sharp camera's, and a soft one's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX, Image
from occlufix_vcam.core.frame import Patch, in_wide
from occlufix_vcam.stages.compositing.blend import Blender
from occlufix_vcam.stages.compositing.detail import MEASURE_EVERY_S, measure
from tests.stages.test_align import crop_of, landmarks

EYES, MIDDLE = 170.0, (640, 360)


def skin(grain: float) -> Image:
    """Skin in soft light, with this much grain in grey levels."""
    rng = np.random.default_rng(3)
    light = cv2.resize(rng.integers(120, 180, (6, 10, 3), dtype=np.uint8), (1280, 720), interpolation=cv2.INTER_CUBIC)
    noise = cv2.GaussianBlur(rng.standard_normal((720, 1280), np.float32), (0, 0), 0.8)
    noise *= grain / noise.std()
    tone = np.float32(light) * 0.3 + np.float32([90, 110, 150]) * 0.7
    return np.clip(tone + noise[..., None], 0, 255).astype(np.uint8)


def hole() -> Image:
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    cv2.ellipse(mask, (128, 185), (70, 45), 0, 0, 360, 255, cv2.FILLED)
    return mask


def painted(frame: Image) -> Patch:
    """A patch as smooth as a network paints it."""
    crop = crop_of(frame, landmarks(EYES, at=MIDDLE, turn=0.0))
    return Patch(crop, hole(), np.asarray(cv2.GaussianBlur(crop.image, (0, 0), 4), np.uint8), in_wide(hole()))


def sharpness(image: Image, patch: Patch) -> float:
    """Mean absolute Laplacian deep inside the hole."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    inner = cv2.erode(hole(), np.ones((31, 31), np.uint8))
    inside = cv2.warpAffine(inner, patch.crop.to_crop, (1280, 720), flags=flags) == 255
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F))[inside].mean())


@pytest.mark.parametrize("grain", [1.5, 3.0, 6.0])
def test_a_restored_part_is_as_grainy_as_the_skin_around_it(grain):
    frame = skin(grain)
    patch = painted(frame)
    result = Blender()(frame, [patch])
    assert 0.75 < sharpness(result, patch) / sharpness(frame, patch) < 1.25


def test_a_soft_camera_stays_soft():
    frame = skin(0.0)
    patch = painted(frame)
    result = Blender()(frame, [patch])
    assert sharpness(result, patch) < sharpness(frame, patch) + 0.3


def test_shapes_of_a_face_are_no_grain():
    """Wrinkles and stubble of a smaller face have detail at every scale, the more the coarser: it became freckles."""
    rng = np.random.default_rng(5)
    frame = skin(0.0).astype(np.float32)
    for sigma in (1.5, 3.0, 6.0):
        shapes = cv2.GaussianBlur(rng.standard_normal((720, 1280), np.float32), (0, 0), sigma)
        frame += shapes[..., None] * (1.2 * sigma / shapes.std())
    made = measure(np.clip(frame, 0, 255).astype(np.uint8), painted(np.clip(frame, 0, 255).astype(np.uint8)))
    assert made is not None and not made[1].any()


def test_grain_sticks_to_the_face_and_does_not_shimmer():
    frame = skin(4.0)
    patch = painted(frame)
    blend = Blender()
    first, second = blend(frame, [patch], at=0.0), blend(frame, [patch], at=MEASURE_EVERY_S / 2)
    assert np.array_equal(first, second)


def test_a_face_of_which_no_skin_is_visible_gets_no_grain():
    frame = skin(4.0)
    patch = painted(frame)
    whole = np.full_like(hole(), 255)
    covered = Patch(patch.crop, whole, patch.image, in_wide(whole))
    assert sharpness(Blender()(frame, [covered]), patch) < 0.5 * sharpness(frame, patch)
