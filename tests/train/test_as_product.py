"""The product's arithmetic as training has it: bit for bit what the product itself makes."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX, HIDDEN, TEMPLATE, Image
from occlufix_vcam.core.frame import Crop, FaceTrack, HiddenCrop
from occlufix_vcam.stages import geometry, hidden, reference
from occlufix_vcam.stages.motion import IDENTITY
from train.evaluation.restoration import as_product


class SaidProbability:
    """A segmenter that always gives the same probability."""

    backend = device = precision = "fake"
    inputs = outputs = passed_over = ()

    def __init__(self, probability: Image) -> None:
        self._probability = probability

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"hidden": self._probability[None, ..., None]}

    def close(self) -> None: ...


def smooth(seed: int, channels: int, sigma: float) -> Image:
    noise = np.random.default_rng(seed).normal(0, 1, (CROP_PX, CROP_PX, channels)).astype(np.float32)
    picture = cv2.GaussianBlur(noise, (0, 0), sigma).reshape(noise.shape)
    low, high = picture.min(), picture.max()
    return ((picture - low) * (255 / (high - low))).astype(np.uint8)


def crop_of(image: Image) -> Crop:
    return Crop(FaceTrack(1, TEMPLATE, 1.0), image, IDENTITY)


@pytest.mark.parametrize(("seed", "sigma"), [(0, 2.0), (1, 12.0), (2, 40.0)])
def test_the_mask_is_the_products_own(seed: int, sigma: float) -> None:
    probability, face = smooth(seed, 1, sigma)[..., 0], smooth(9, 3, 12)
    made = hidden.HiddenSegmenter(SaidProbability(probability))(crop_of(face)).mask
    assert made.any()
    assert np.array_equal(as_product.hidden_mask(probability), made)


def test_a_face_of_which_hardly_anything_is_hidden_stays_as_it_is() -> None:
    probability = np.zeros((CROP_PX, CROP_PX), np.uint8)
    probability[120:132, 120:132] = 255
    assert not as_product.hidden_mask(probability).any()


@pytest.mark.parametrize("growth", [1.0, as_product.FACE_REACH])
def test_the_face_area_is_the_products_own(growth: float) -> None:
    assert np.array_equal(as_product.face_area(growth), geometry.face_area(growth))


def test_a_reference_is_lit_as_the_product_lights_it() -> None:
    crop, photograph = smooth(3, 3, 9), smooth(4, 3, 9)
    hole, valid = np.zeros((CROP_PX, CROP_PX), np.uint8), np.zeros((CROP_PX, CROP_PX), np.uint8)
    hole[140:230, 60:200], valid[30:] = HIDDEN, HIDDEN
    shown = reference.TrackedReference(reference.make_view(photograph, as_product.without_rim(valid)), IDENTITY, 0.0)
    made = shown.reference(HiddenCrop(crop_of(crop), hole, 0.3), reference.known_face(hole))
    assert np.array_equal(made.mask, as_product.without_rim(valid))
    relit = as_product.relit(photograph, made.mask, crop, hole)
    assert np.array_equal(relit, made.image) and not np.array_equal(relit, photograph)
