"""scripts/bench.py --engines: what a network costs by its file, and the table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
    import bench_engines

    return bench_engines


def test_work_is_that_of_the_convolutions(script, tmp_path, monkeypatch):
    from engines import manifest
    from tests.harness.models import write_models

    monkeypatch.setattr(manifest, "MODELS", write_models(tmp_path))
    # One 1x1 convolution from three channels to three: `restore` of the tests.
    multiply_adds, numbers = script.work(manifest.find_model("restore"))
    assert multiply_adds == 256 * 256 * 3 * 3
    assert numbers == 2 * 256 * 256 * 3 + 9


def test_the_limit_is_the_larger_of_arithmetic_and_bytes(script, tmp_path, monkeypatch):
    from engines import EngineCandidate, manifest
    from tests.harness.models import write_models

    monkeypatch.setattr(manifest, "MODELS", write_models(tmp_path))
    model = manifest.find_model("restore")
    limits = script.Limits.__new__(script.Limits)
    limits._bytes, limits._multiply_adds = 1e9, {"fp32": 589_824.0, "bf16": 1e15}
    assert limits.of(model, EngineCandidate("openvino", "CPU", "fp32")) == pytest.approx(1000.0)
    assert limits.of(model, EngineCandidate("openvino", "CPU", "bf16")) == pytest.approx(393_225 * 2 / 1e9 * 1e3)
    assert limits.of(model, EngineCandidate("openvino", "CPU", "int8")) is None


def test_the_table_has_a_line_for_each_row(script):
    rows = [
        script.Row("hidden", "openvino on CPU, bf16", p50_ms=1.25),
        script.Row("hidden", "x on CPU, fp32", note="no"),
    ]
    lines = script.as_table(rows).splitlines()
    assert "1.25" in lines[1] and lines[2].endswith("no") and len(lines) == 4
