"""A reference lit as training does it: bit for bit what the product makes."""

from __future__ import annotations

import numpy as np

from engines.contract import CROP_PX, HIDDEN
from occlufix_vcam.core.frame import HiddenCrop
from occlufix_vcam.stages import reference
from occlufix_vcam.stages.motion import IDENTITY
from tests.train.pictures import crop_of, smooth
from train.evaluation.restoration import relighting


def test_a_reference_is_lit_as_the_product_lights_it() -> None:
    crop, photograph = smooth(3, 3, 9), smooth(4, 3, 9)
    hole, valid = np.zeros((CROP_PX, CROP_PX), np.uint8), np.zeros((CROP_PX, CROP_PX), np.uint8)
    hole[140:230, 60:200], valid[30:] = HIDDEN, HIDDEN
    shown = reference.TrackedReference(reference.make_view(photograph, relighting.without_rim(valid)), IDENTITY, 0.0)
    made = shown.reference(HiddenCrop.of_template(crop_of(crop), hole, 0.3), reference.known_face(hole))
    assert np.array_equal(made.mask, relighting.without_rim(valid))
    relit = relighting.relit(photograph, made.mask, crop, hole)
    assert np.array_equal(relit, made.image) and not np.array_equal(relit, photograph)
