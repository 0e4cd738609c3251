"""A reference picture becomes the person's face in the template, valid only where it truly shows it."""

from __future__ import annotations

import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE
from occlufix_vcam.errors import ConfigError
from occlufix_vcam.frame import Crop, FaceTrack, HiddenCrop
from occlufix_vcam.stages.memory import MARGIN_PX, NO_REFERENCE, FixedReference, no_memory

PICTURE = np.random.default_rng(0).integers(0, 255, (CROP_PX, CROP_PX, 3), dtype=np.uint8)


def asked() -> HiddenCrop:
    crop = Crop(FaceTrack(1, TEMPLATE, 1.0), np.zeros_like(PICTURE), np.eye(2, 3, dtype=np.float32))
    return HiddenCrop(crop, np.full((CROP_PX, CROP_PX), 255, np.uint8), 1.0)


def test_no_reference_is_all_zeros():
    reference = no_memory(asked())
    assert reference is NO_REFERENCE
    assert reference.image.shape == (CROP_PX, CROP_PX, 3) and not reference.image.any()
    assert reference.mask.shape == (CROP_PX, CROP_PX) and not reference.mask.any()


def test_a_picture_that_already_is_a_template_crop_is_its_own_reference():
    reference = FixedReference(PICTURE, TEMPLATE)(asked())
    valid = reference.mask == 255
    assert valid[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX].all()
    assert np.array_equal(reference.image[valid], PICTURE[valid])
    assert not reference.image[~valid].any()


def test_what_the_picture_does_not_show_is_not_valid():
    reference = FixedReference(PICTURE[:, :180], TEMPLATE)(asked())
    assert reference.mask[:, : 180 - 2 * MARGIN_PX].mean() > 240
    assert not reference.mask[:, 180 - MARGIN_PX :].any()
    assert not reference.image[:, 180 - MARGIN_PX :].any()


def test_what_is_hidden_in_the_picture_is_not_valid():
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    mask[150:200, 60:196] = 255
    reference = FixedReference(PICTURE, TEMPLATE, lambda crop: HiddenCrop(crop, mask, 0.2))(asked())
    assert not reference.mask[150 - MARGIN_PX : 200 + MARGIN_PX, 60:196].any()
    assert reference.mask[20:140, 60:196].all()


def test_a_picture_without_a_face_is_refused():
    with pytest.raises(ConfigError, match="no usable face"):
        FixedReference(PICTURE, np.full((5, 2), 7.0, np.float32))
