"""Fixtures of the contract of BACKENDS: `load` runs a test on each of them.

Where there is no NVIDIA GPU, `tensorrt` runs on a stand-in of its libraries: our half of it is the real one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import engines
from engines import EngineOptions, InferenceEngine
from tests.harness import cuda_standin, tensorrt_standin

REPORTS = {report.name: report for report in engines.survey()}
Load = Callable[..., InferenceEngine]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a backend usable, or skips the test; gives the device that it runs on."""

    def install(name: str) -> str:
        monkeypatch.setenv("OCCLUFIX_CACHE_DIR", str(tmp_path / "cache"))
        if name == "tensorrt" and not REPORTS[name].available:
            tensorrt_standin.install(monkeypatch, tmp_path / "cache")
            return cuda_standin.DEVICE
        if not REPORTS[name].available:
            pytest.skip(f"{name} is not here: {REPORTS[name].reason}")
        return REPORTS[name].device

    return install


@pytest.fixture(params=list(engines.BACKENDS))
def backend(request: pytest.FixtureRequest, install: Callable[[str], str]) -> str:
    install(request.param)
    return str(request.param)


@pytest.fixture
def load(backend: str, models: Path) -> Load:
    def load_here(name: str, **options: object) -> InferenceEngine:
        return engines.load(name, EngineOptions(backend=backend, **options))

    return load_here
