"""Shapes of holes: right place, right size, the same from the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE
from train.occlusion import masks


@pytest.mark.parametrize("name", masks.SHAPES)
def test_shape_is_a_clean_mask_and_repeats(name: str) -> None:
    shape, _ = masks.SHAPES[name]
    for seed in range(20):
        mask = shape(TEMPLATE, np.random.default_rng(seed))
        assert mask.shape == (CROP_PX, CROP_PX)
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 255}
        assert np.array_equal(mask, shape(TEMPLATE, np.random.default_rng(seed)))


def test_medical_mask_hides_the_mouth_and_leaves_the_eyes() -> None:
    for seed in range(30):
        mask = masks.medical_mask(TEMPLATE, np.random.default_rng(seed))
        x, y = np.round((TEMPLATE[3] + TEMPLATE[4]) / 2).astype(int)
        assert mask[y, x] == 255
        for eye in np.round(TEMPLATE[:2]).astype(int):
            assert mask[eye[1], eye[0]] == 0


def test_rectangle_has_the_sides_that_it_promises() -> None:
    for seed in range(30):
        mask = masks.rectangle(TEMPLATE, np.random.default_rng(seed))
        sides = mask.any(axis=0).sum(), mask.any(axis=1).sum()
        assert all(60 <= side <= 120 for side in sides)
        assert (mask > 0).sum() == sides[0] * sides[1]


def test_random_mask_is_never_empty_and_varies() -> None:
    rng = np.random.default_rng(3)
    shares = [float((masks.random_mask(TEMPLATE, rng) > 0).mean()) for _ in range(60)]
    assert min(shares) > 0
    assert max(shares) > 2 * np.median(shares)


def test_eyes_and_lower_face_hide_what_they_are_named_after() -> None:
    for seed in range(30):
        points = np.round(TEMPLATE).astype(int)
        band, below = (shape(TEMPLATE, np.random.default_rng(seed)) for shape in (masks.eyes, masks.lower_face))
        assert all(band[y, x] == 255 for x, y in points[:2]) and all(band[y, x] == 0 for x, y in points[3:])
        assert all(below[y, x] == 255 for x, y in points[3:]) and all(below[y, x] == 0 for x, y in points[:2])


def test_much_hides_most_of_a_face_and_never_all_of_it() -> None:
    shares = [masks.hidden_share(masks.much(TEMPLATE, np.random.default_rng(seed))) for seed in range(60)]
    assert min(shares) >= 0.6 and max(shares) <= 0.95 and np.ptp(shares) > 0.2
    assert masks.hidden_share(np.full((CROP_PX, CROP_PX), 255, np.uint8)) == 1.0
