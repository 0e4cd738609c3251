"""`Blender` touches nothing but the hole, in frames and faces of any size, and leaves no seam."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE, Image
from occlufix_vcam.core.frame import Crop, Patch, in_wide
from occlufix_vcam.stages.compositing.blend import Blender, match_colours
from tests.stages.test_align import crop_of, landmarks, smooth_picture

#: So far within the mask, in crop pixels, everything is replaced.
WITHIN_PX = 14


def patch(crop: Crop, mask: Image, image: Image, exact: bool = False) -> Patch:
    return Patch(crop, mask, image, in_wide(mask), exact)


def hole() -> Image:
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    cv2.ellipse(mask, (128, 185), (70, 45), 0, 0, 360, 255, cv2.FILLED)
    return mask


@pytest.mark.parametrize("at", [(5, 360), (1275, 360), (640, 5), (640, 715), (0, 0), (1279, 719)])
@pytest.mark.parametrize("eye_distance", [30, 120, 300])
def test_a_face_partly_outside_the_frame_is_restored_inside_it(at, eye_distance):
    image = smooth_picture()
    before = image.copy()
    crop = crop_of(image, landmarks(eye_distance, at=at))
    result = Blender()(image, [patch(crop, np.full_like(hole(), 255), 255 - crop.image)])
    assert result.shape == image.shape
    assert not np.array_equal(result, image)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("shape", [(64, 64), (65, 63), (481, 641), (1280, 720)])
def test_any_size_of_frame(shape):
    image = smooth_picture(*(max(side, 80) for side in shape))[: shape[0], : shape[1]]
    crop = crop_of(image, landmarks(20, at=(shape[1] / 2, shape[0] / 2)))
    result = Blender()(image, [patch(crop, hole(), crop.image)])
    assert np.abs(result.astype(int) - image).max() <= 24


def test_a_frame_of_another_size_in_mid_stream():
    blend = Blender()
    for height, width in ((120, 160), (720, 1280), (120, 160)):
        image = smooth_picture(height, width)
        crop = crop_of(image, landmarks(height / 6, at=(width / 2, height / 2)))
        changed = blend(image, [patch(crop, hole(), 255 - crop.image)]) != image
        assert changed.any()


def test_pixels_outside_the_mask_are_the_inputs_bit_for_bit():
    image = smooth_picture()
    before = image.copy()
    crop = crop_of(image, landmarks())
    result = Blender()(image, [patch(crop, hole(), 255 - crop.image)])
    covered = cv2.warpAffine(hole(), crop.to_crop, (1280, 720), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    changed = (result != image).any(axis=2)
    assert changed[covered == 255].mean() > 0.9
    assert not changed[covered == 0].any()
    assert np.array_equal(image, before)


@pytest.mark.parametrize("mask", [np.zeros_like(hole()), cv2.circle(np.zeros_like(hole()), (99, 99), 2, 255, -1)])
def test_nothing_to_restore_gives_the_very_same_picture(mask):
    image = smooth_picture()
    crop = crop_of(image, landmarks())
    assert Blender()(image, [patch(crop, mask, 255 - crop.image)]) is image
    assert Blender()(image, []) is image


def test_the_middle_of_the_hole_is_the_restored_picture():
    """A restored patch of noise around the known shade arrives as it is: weights are full, shades unbent."""
    image = np.full((256, 256, 3), 120, np.uint8)
    crop = crop_of(image, TEMPLATE)
    noise = np.random.default_rng(1).integers(116, 125, image.shape, dtype=np.uint8)
    result = Blender()(image, [patch(crop, hole(), noise)])
    inner = cv2.erode(hole(), np.ones((2 * WITHIN_PX + 1,) * 2, np.uint8)) > 0
    assert np.abs(result[inner].astype(int) - noise[inner]).max() <= 1


def test_without_a_margin_the_hole_is_replaced_to_its_rim():
    image = np.full((256, 256, 3), 120, np.uint8)
    crop = crop_of(image, TEMPLATE)
    restored = image.copy()
    restored[hole() > 0] = (119, 121, 120)
    restored[185, 128] = (0, 0, 0)
    result = Blender()(image, [patch(crop, hole(), restored, exact=True)])
    expected = match_colours(crop.image, restored, hole())
    assert np.array_equal(result[hole() > 0], expected[hole() > 0])


def test_two_faces_are_both_restored():
    image = smooth_picture()
    crops = [crop_of(image, landmarks(60, at=at)) for at in ((300, 300), (900, 400))]
    result = Blender()(image, [patch(crop, hole(), 255 - crop.image) for crop in crops])
    for x in (300, 900):
        assert (result[:, x - 150 : x + 150] != image[:, x - 150 : x + 150]).any()


@pytest.mark.parametrize("eye_distance", [15, 30, 76.8, 200])
def test_a_true_restoration_leaves_no_trace(eye_distance):
    """At any size of the face: the warps there and back agree to a fraction of a pixel."""
    image = smooth_picture()
    crop = crop_of(image, landmarks(eye_distance))
    known = replace(patch(crop, hole(), crop.image), remembered=hole())  # paint might have colours from nowhere
    result = Blender()(image, [known])
    assert cv2.PSNR(result, image) > 45
    assert np.abs(result.astype(int) - image).max() <= 20


def test_a_wrong_shade_is_bent_to_the_surroundings():
    image = smooth_picture()
    crop = crop_of(image, landmarks())
    shade = np.clip(crop.image.astype(int) + (12, -10, 8), 0, 255).astype(np.uint8)
    inside = hole() > 0
    matched = match_colours(crop.image, shade, hole()).astype(int)
    assert np.abs(matched - crop.image)[inside].mean() < 2.5
    assert np.abs(shade.astype(int) - crop.image)[inside].mean() > 9


def test_an_edge_at_the_rim_is_no_wrong_shade():
    """Dark hair beside a bright restored cheek, or a rest of the occluder, must not stain the cheek."""
    known = np.full((CROP_PX, CROP_PX, 3), 180, np.uint8)
    restored = known.copy()
    known[:, :128][hole()[:, :128] == 0] = 30
    matched = match_colours(known, restored, hole()).astype(int)
    assert np.abs(matched - 180)[hole() > 0].max() <= 2
