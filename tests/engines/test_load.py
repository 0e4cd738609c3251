"""Which backend `load` chooses, which file and precision it runs, and what it says of those passed over."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import engines
from engines import (
    ContractMismatch,
    EngineBuildError,
    EngineOptions,
    EngineUnavailable,
    ModelMissing,
    manifest,
)
from engines.offline import import_offline
from tests.harness.models import write_faces, write_graph

onnxruntime, openvino = import_offline("onnxruntime"), import_offline("openvino")


@pytest.fixture(autouse=True)
def models(written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(manifest, "MODELS", written)
    monkeypatch.delitem(engines.BACKENDS, "tensorrt")  # test_tensorrt.py has what it does to the choice
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    return written


def test_auto_takes_openvino_on_the_processor() -> None:
    engine = engines.load("hidden")

    assert (engine.backend, engine.device) == ("openvino", "CPU")
    assert [(one.backend, "not timed" in one.reason) for one in engine.passed_over] == [("onnxruntime", True)]


def test_openvino_runs_int8_only_for_who_asks(models: Path) -> None:
    """Its int8 is far off the network's pictures on some processors; ONNX Runtime's is offered to be timed."""
    from engines.backends.onnxruntime import OnnxRuntimeEngine
    from engines.backends.openvino import OpenVinoEngine

    file = manifest.ModelFile(models / "restore.int8.onnx", "0")
    model = manifest.Model("restore", {"fp32": file, "int8": file})
    assert "int8" not in OpenVinoEngine.precisions(model, "CPU")
    assert "int8" in OnnxRuntimeEngine.precisions(model, "CPU")


def test_auto_goes_on_without_a_package_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "engines.backends.openvino", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)

    engine = engines.load("hidden")

    assert engine.backend == "onnxruntime"
    assert [(refusal.backend, "not installed" in refusal.reason) for refusal in engine.passed_over] == [
        ("openvino", True)
    ]


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_auto_tries_a_gpu_before_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package may list CUDA on a machine without it; then the session starts without it, silently."""
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    assert [report.device for report in engines.survey()] == ["CPU", "CUDA", "none"]

    engine = engines.load("hidden")

    assert engine.backend == "openvino"
    assert [refusal.backend for refusal in engine.passed_over] == ["onnxruntime"]
    assert "CUDAExecutionProvider" in engine.passed_over[0].reason
    assert engines.load("hidden", EngineOptions(backend="onnxruntime")).device == "CPU"


def test_auto_never_takes_the_fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.loader.BACKENDS", {"fake": engines.BACKENDS["fake"]})

    with pytest.raises(EngineUnavailable, match="no backend"):
        engines.load("hidden")


def test_an_unknown_backend_is_told_the_known_ones() -> None:
    with pytest.raises(EngineUnavailable, match="opnvino") as unavailable:
        engines.load("hidden", EngineOptions(backend="opnvino"))

    assert "openvino, onnxruntime, fake" in unavailable.value.hint


def test_each_backend_runs_in_the_wanted_precision() -> None:
    def precision(backend: str, wanted: engines.base.Precision) -> str:
        return engines.load("restore", EngineOptions(backend=backend, precision=wanted)).precision

    assert precision("openvino", "fp32") == "fp32"
    assert precision("onnxruntime", "auto") == "fp32"
    assert precision("onnxruntime", "fp16") == "fp16"
    with pytest.raises(EngineUnavailable, match="bf16"):
        precision("onnxruntime", "bf16")


def test_openvino_computes_in_bf16_exactly_where_the_processor_can() -> None:
    options = EngineOptions(backend="openvino", precision="bf16")
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert engines.load("restore", options).precision == "bf16"
    else:
        with pytest.raises(EngineUnavailable, match="bf16"):
            engines.load("restore", options)


def test_all_precisions_restore_alike() -> None:
    rng = np.random.default_rng(2)
    feeds = {spec.name: rng.integers(0, 256, spec.shape, dtype=np.uint8) for spec in engines.load("restore").inputs}
    made = feeds["mask"][..., 0] > 127
    for backend in ("openvino", "onnxruntime"):
        for precision in ("auto", "fp32", "fp16"):
            try:
                engine = engines.load("restore", EngineOptions(backend=backend, precision=precision))
            except EngineUnavailable:
                assert (backend, precision) == ("openvino", "fp16")
                continue
            restored = engine.run(feeds)["restored"]
            np.testing.assert_array_equal(restored[made], 255 - feeds["reference"][made])


def test_runs_a_file_of_ones_own(tmp_path: Path) -> None:
    path = write_faces(tmp_path / "own.onnx")
    with pytest.raises(ContractMismatch, match=r"frame is \?x\?x\?x3") as mismatch:
        engines.load(path)
    assert "input_shapes" in mismatch.value.hint

    shapes = {"frame": (1, 16, 24, 3)}
    for backend in ("openvino", "onnxruntime"):
        engine = engines.load(str(path), EngineOptions(backend=backend, precision="fp32", input_shapes=shapes))
        heat = engine.run({"frame": np.full((1, 16, 24, 3), 255, np.uint8)})["heat"]
        np.testing.assert_allclose(heat, np.ones((1, 2, 3, 1)), atol=0.01)
    with pytest.raises(EngineUnavailable, match=r"own\.onnx"):
        engines.load(path, EngineOptions(backend="fake"))


def test_no_such_file_or_name() -> None:
    with pytest.raises(ModelMissing, match="restor") as missing:
        engines.load("restor")

    assert "restore, hidden, faces" in missing.value.hint


def test_an_unknown_operator_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx.checker, "check_model", lambda model: None)
    node = helper.make_node("NoSuchThing", ["x"], ["y"])
    path = write_graph(tmp_path / "odd.onnx", [node], {"x": [1, 2]}, {"y": ("uint8", [1, 2])})

    for backend in ("openvino", "onnxruntime"):
        with pytest.raises(EngineBuildError, match="NoSuchThing"):
            engines.load(path, EngineOptions(backend=backend))
    with pytest.raises(EngineUnavailable, match=r"openvino: .*NoSuchThing.*onnxruntime: .*NoSuchThing"):
        engines.load(path)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_inputs_other_than_promised_are_refused(
    backend: str, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (written / manifest.MANIFEST).read_text(encoding="utf-8")
    (tmp_path / manifest.MANIFEST).write_text(text.replace("{ hidden =", "{ covered ="), encoding="utf-8")
    (tmp_path / "hidden.fp32.onnx").write_bytes((written / "hidden.fp32.onnx").read_bytes())
    monkeypatch.setattr(manifest, "MODELS", tmp_path)

    with pytest.raises(ContractMismatch, match="covered") as mismatch:
        engines.load("hidden", EngineOptions(backend=backend))

    assert "train export hidden" in mismatch.value.hint


def test_survey_knows_every_backend() -> None:
    assert [(report.name, report.available, report.device) for report in engines.survey()] == [
        ("openvino", True, "CPU"),
        ("onnxruntime", True, "CPU"),
        ("fake", True, "none"),
    ]
