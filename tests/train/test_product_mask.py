"""The product's mask arithmetic as training has it: bit for bit what the product itself makes."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import pytest

from engines.base import TensorSpec
from engines.contract import CROP_PX, HIDDEN, Image
from occlufix_vcam.stages import geometry, hidden
from tests.train.pictures import crop_of, smooth
from train.data import product_mask


class SaidProbability:
    """A segmenter that always gives the same probability."""

    backend = device = precision = "fake"
    inputs = (TensorSpec("face", (1, CROP_PX, CROP_PX, 3), "uint8"),)
    outputs = passed_over = ()

    def __init__(self, probability: Image) -> None:
        self._probability = probability

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"hidden": self._probability[None, ..., None]}

    def close(self) -> None: ...


@pytest.mark.parametrize(("seed", "sigma"), [(0, 2.0), (1, 12.0), (2, 40.0)])
def test_the_mask_is_the_products_own(seed: int, sigma: float) -> None:
    probability, face = smooth(seed, 1, sigma)[..., 0], smooth(9, 3, 12)
    made = hidden.HiddenSegmenter(SaidProbability(probability))(crop_of(face)).mask
    assert made.any()
    assert np.array_equal(product_mask.hidden_mask(probability), made)


def test_a_face_of_which_hardly_anything_is_hidden_stays_as_it_is() -> None:
    probability = np.zeros((CROP_PX, CROP_PX), np.uint8)
    probability[120:132, 120:132] = 255
    assert not product_mask.hidden_mask(probability).any()


@pytest.mark.parametrize("growth", [1.0, product_mask.FACE_REACH])
def test_the_face_area_is_the_products_own(growth: float) -> None:
    assert np.array_equal(product_mask.face_area(growth), geometry.face_area(growth))


def test_the_numbers_are_the_products_own() -> None:
    ours = (product_mask.GROWTH_PX, product_mask.FACE_REACH, product_mask.SPECK_PX)
    assert ours == (hidden.GROWTH_PX, hidden.FACE_REACH, hidden.SPECK_PX)


def test_specks_and_coverage_are_the_products_own() -> None:
    mask = cv2.circle(np.zeros((CROP_PX, CROP_PX), np.uint8), (128, 150), 40, HIDDEN, -1)
    cv2.circle(mask, (30, 30), 3, HIDDEN, -1)
    swept = mask.copy()
    hidden.remove_specks(swept)
    assert np.array_equal(product_mask.without_specks(mask), swept) and not swept[30, 30]
    assert product_mask.covered_share(mask) == geometry.face_share(mask)
