"""Fixtures of the tests on the stand-in of TensorRT."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import tensorrt_standin
from tests.harness.cuda_standin import Machine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return tensorrt_standin.install(monkeypatch, tmp_path)


@pytest.fixture
def classic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return tensorrt_standin.install(monkeypatch, tmp_path, "tensorrt")
