"""Colours that nothing around a hole has do not show in it, except in the face."""

from __future__ import annotations

import cv2
import numpy as np

from engines.contract import CROP_PX, TEMPLATE, Image
from occlufix_vcam.core.frame import Crop, FaceTrack, Patch, in_wide
from occlufix_vcam.stages.compositing.spill import without_spill

CYAN, SKIN, WALL = (220, 200, 60), (120, 150, 200), (170, 170, 170)
BESIDE, MOUTH = (128, 20), (195, 128)


def without(painted: Image) -> Image:
    """A person before a wall; a hole from the wall across the mouth is `painted`."""
    image = np.full((CROP_PX, CROP_PX, 3), WALL, np.uint8)
    cv2.ellipse(image, (128, 127), (80, 108), 0, 0, 360, SKIN, cv2.FILLED)
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    mask[100:220, 10:180] = 255
    crop = Crop.of_template(FaceTrack(1, TEMPLATE, 1.0), image, np.eye(2, 3, dtype=np.float32))
    return without_spill(Patch(crop, mask, painted, in_wide(mask)), painted)


def test_a_cheek_keeps_its_colour_where_nothing_near_it_is_visible_but_a_green_wall():
    """Behind a wide mask: cheeks took the colour of the wall."""
    image = np.full((CROP_PX, CROP_PX, 3), (110, 160, 60), np.uint8)
    cv2.ellipse(image, (128, 127), (80, 108), 0, 0, 360, SKIN, cv2.FILLED)
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    mask[100:256, 40:216] = 255
    crop = Crop.of_template(FaceTrack(1, TEMPLATE, 1.0), image, np.eye(2, 3, dtype=np.float32))
    made = without_spill(Patch(crop, mask, image, in_wide(mask)), image)
    assert np.abs(made[190, 60:200].astype(int) - image[190, 60:200]).max() <= 3


def saturation(colour: Image) -> int:
    return int(colour.max()) - int(colour.min())


def test_a_streak_in_the_colour_of_a_mask_becomes_grey_before_a_grey_wall():
    painted = np.full((CROP_PX, CROP_PX, 3), CYAN, np.uint8)
    assert saturation(painted[BESIDE]) > 150
    assert saturation(without(painted)[BESIDE]) < 40


def test_lips_stay_red_although_nothing_else_is():
    painted = np.full((CROP_PX, CROP_PX, 3), SKIN, np.uint8)
    painted[MOUTH[0] - 10 : MOUTH[0] + 10, 100:156] = (60, 50, 200)
    assert np.abs(without(painted)[MOUTH].astype(int) - painted[MOUTH]).max() <= 3


def test_colours_that_are_around_stay():
    painted = np.full((CROP_PX, CROP_PX, 3), WALL, np.uint8)
    assert np.abs(without(painted)[BESIDE].astype(int) - WALL).max() <= 2
