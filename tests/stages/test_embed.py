"""The recogniser passes crop and mask to the engine and hands back a vector of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engines.base import SkippedBackend, Tensor, TensorSpec
from engines.contract import CROP_PX, TEMPLATE
from occlufix_vcam.core.frame import Crop, FaceTrack
from occlufix_vcam.stages.embed import FaceEmbedder, cosine


class MeanEngine:
    """Says how light the visible part of the face is, in one array that it uses again and again."""

    backend, device, precision = "mean", "none", "none"
    inputs = (
        TensorSpec("face", (1, CROP_PX, CROP_PX, 3), "uint8"),
        TensorSpec("mask", (1, CROP_PX, CROP_PX, 1), "uint8"),
    )
    outputs = (TensorSpec("embedding", (1, 128), "float32"),)
    passed_over: tuple[SkippedBackend, ...] = ()

    def __init__(self) -> None:
        self._result = np.zeros((1, 128), np.float32)

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        assert {name: feed.shape for name, feed in feeds.items()} == {spec.name: spec.shape for spec in self.inputs}
        level = np.radians(feeds["face"][feeds["mask"][..., 0] == 0].mean() / 3)
        self._result[0, :2] = np.cos(level), np.sin(level)
        return {"embedding": self._result}

    def close(self) -> None:
        """Holds nothing."""


def crop(level: int) -> Crop:
    image = np.full((CROP_PX, CROP_PX, 3), level, np.uint8)
    return Crop.of_template(FaceTrack(1, TEMPLATE, 1.0), image, np.eye(2, 3, dtype=np.float32))


def test_a_vector_is_of_length_1_and_outlives_the_next_call() -> None:
    embed, whole = FaceEmbedder(MeanEngine(), 0.5), np.zeros((CROP_PX, CROP_PX), np.uint8)
    first = embed(crop(30), whole)
    second = embed(crop(240), whole)
    assert first.shape == (128,) and first.dtype == np.float32
    assert abs(cosine(first, first) - 1) < 1e-6
    assert cosine(first, second) < 0.9


def test_the_mask_reaches_the_network() -> None:
    embed, whole = FaceEmbedder(MeanEngine(), 0.5), np.zeros((CROP_PX, CROP_PX), np.uint8)
    face = crop(30)
    face.image[128:] = 250
    lower = whole.copy()
    lower[128:] = 255
    assert cosine(embed(face, lower), embed(crop(30), whole)) > 0.9999
    assert cosine(embed(face, whole), embed(crop(30), whole)) < 0.95
