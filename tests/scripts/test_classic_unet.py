"""The classic baseline is the network that it claims to be, and both backends run it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import engines
from engines import EngineOptions
from scripts.classic_unet import write_classic_unet


@pytest.fixture(scope="module")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classic_unet(tmp_path_factory.mktemp("classic") / "classic_unet.onnx")


def test_it_has_31_million_parameters(classic: Path) -> None:
    weights = onnx.load(classic).graph.initializer

    assert sum(int(np.prod(weight.dims)) for weight in weights) == pytest.approx(31.03e6, rel=0.001)


def test_both_backends_run_it_alike(classic: Path) -> None:
    feeds = {
        "face": np.random.default_rng(3).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8),
        "mask": np.zeros((1, 256, 256, 1), np.uint8),
    }
    restored = []
    for backend, precision in (("onnxruntime", "auto"), ("openvino", "fp32")):
        engine = engines.load(classic, EngineOptions(backend=backend, precision=precision))
        restored.append(engine.run(feeds)["restored"].astype(int))
        engine.close()

    assert np.ptp(restored[0]) > 20
    assert np.abs(restored[0] - restored[1]).max() <= 1
