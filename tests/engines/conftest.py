"""Fixtures of the tests on the stand-in of TensorRT."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import manifest
from tests.harness import tensorrt_standin
from tests.harness.cuda_standin import Machine
from tests.harness.models import write_models


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def models(written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(manifest, "MODELS", written)
    return written


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return tensorrt_standin.install(monkeypatch, tmp_path)


@pytest.fixture
def classic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return tensorrt_standin.install(monkeypatch, tmp_path, "tensorrt")
