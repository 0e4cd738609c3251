"""The fake's own arithmetic: the mean of what is known, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import engines
from engines import EngineOptions, manifest
from tests.harness.models import write_models

FAKE = EngineOptions(backend="fake")


@pytest.fixture(autouse=True)
def no_model_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in write_models(tmp_path).glob("*.onnx"):
        file.unlink()
    monkeypatch.setattr(manifest, "MODELS", tmp_path)


def test_restores_with_the_mean_of_the_known_pixels() -> None:
    engine = engines.load("restore", FAKE)
    feeds = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in engine.inputs}
    feeds["face"][:, :, :128] = (10, 20, 30)
    feeds["face"][:, :, 128:] = 200
    feeds["mask"][:, :, 128:] = 255

    restored = engine.run(feeds)["restored"]

    assert np.unique(restored.reshape(-1, 3), axis=0).tolist() == [[10, 20, 30]]


def test_a_face_that_is_all_hidden_stays_as_it_is() -> None:
    engine = engines.load("restore", FAKE)
    feeds = {spec.name: np.full(spec.shape, 255, spec.dtype) for spec in engine.inputs}

    np.testing.assert_array_equal(engine.run(feeds)["restored"], feeds["face"])


@pytest.mark.parametrize("name", ["hidden", "faces"])
def test_marks_and_finds_nothing(name: str) -> None:
    engine = engines.load(name, FAKE)
    results = engine.run({spec.name: np.full(spec.shape, 200, spec.dtype) for spec in engine.inputs})

    assert not any(result.any() for result in results.values())
