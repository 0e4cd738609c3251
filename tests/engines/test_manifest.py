"""models.toml: what is read, what is refused, and the models that ship."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import engines
from engines import EngineOptions, ModelCorrupt, ModelMissing, manifest
from engines.installing import install_again
from tests.harness.models import write_models

SHIPPED = manifest.MODELS


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(manifest, "MODELS", tmp_path)
    return tmp_path


def test_reads_what_export_wrote(models: Path) -> None:
    write_models(models)

    restore = manifest.read_manifest()["restore"]

    assert restore.inputs["reference_mask"] == (1, 256, 256, 1)
    assert restore.outputs == {"restored": (1, 256, 256, 3)}
    assert (restore.licence, restore.trained_on, restore.metrics) == ("MIT", "nothing", {"psnr": 1.5})
    assert restore.pick("fp16") == ("fp16", models / "restore.fp16.onnx")


def test_a_missing_manifest_or_entry_is_a_missing_model(models: Path) -> None:
    with pytest.raises(ModelMissing, match=r"models\.toml") as missing:
        manifest.find_model("hidden")
    assert install_again() in missing.value.hint

    (models / "models.toml").write_text("", encoding="utf-8")
    with pytest.raises(ModelMissing, match=r"\[hidden\]"):
        manifest.find_model("hidden")


@pytest.mark.parametrize(
    "text", ["[hidden", "hidden = 3", "[hidden]\ninputs = 3", "[hidden]\nfp32 = 1\n", "\x00"], ids=repr
)
def test_a_damaged_manifest_is_refused(models: Path, text: str) -> None:
    (models / "models.toml").write_text(text, encoding="utf-8")

    with pytest.raises(ModelCorrupt, match=r"models\.toml"):
        manifest.find_model("hidden")


def test_a_file_is_read_once_and_again_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: read.append(given) or digest(*given))
    path = tmp_path / "model.onnx"

    path.write_bytes(b"one")
    first = manifest.sha256_of(path)
    assert manifest.sha256_of(path) == first == hashlib.sha256(b"one").hexdigest()
    assert len(read) == 1

    path.write_bytes(b"other")
    assert manifest.sha256_of(path) == hashlib.sha256(b"other").hexdigest()


needs_models = pytest.mark.skipif(not (SHIPPED / manifest.MANIFEST).exists(), reason="no model is trained yet")


@needs_models
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_models_that_ship_are_whole_and_keep_their_inputs_and_outputs(precision: engines.base.Precision) -> None:
    for name in manifest.read_manifest():
        engine = engines.load(name, EngineOptions(backend="onnxruntime", precision=precision))
        assert engine.precision == precision
        engine.close()


@needs_models
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_uint8_stands_at_inputs_and_outputs_only(precision: engines.base.Precision) -> None:
    """TensorRT takes no uint8 inside a graph: an input is cast before anything else, an output after everything."""
    for model in manifest.read_manifest().values():
        graph = onnx.load(str(model.pick(precision)[1])).graph
        outputs = {output.name for output in graph.output}
        takers = {node.op_type for node in graph.node if set(node.input) & model.inputs.keys()}
        makers = [
            node
            for node in graph.node
            if any(item.name == "to" and item.i == TensorProto.UINT8 for item in node.attribute)
        ]
        assert takers == {"Cast"}, model.name
        assert all(set(node.output) <= outputs for node in makers), model.name


@pytest.mark.desktop  # compiles the largest network four times
@needs_models
@pytest.mark.parametrize("precision", ["auto", "int8"])
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_the_restorer_that_ships_leaves_known_pixels_bit_for_bit(
    backend: str, precision: engines.base.Precision
) -> None:
    """In whatever precision the backend takes here, bf16 among them, and in int8; a mask of 127 hides nothing."""
    if precision == "int8" and "int8" not in manifest.read_manifest()["restore"].files:
        pytest.skip("the restorer ships without int8")
    engine = engines.load("restore", EngineOptions(backend=backend, precision=precision))
    rng = np.random.default_rng(4)
    feeds = {spec.name: rng.integers(0, 256, spec.shape, dtype=np.uint8) for spec in engine.inputs}

    restored = engine.run(feeds)["restored"]

    known = feeds["mask"][..., 0] <= 127
    np.testing.assert_array_equal(restored[known], feeds["face"][known])
