"""Export: both precisions, right inputs and outputs, entered with their hashes; a wrong file is not shipped."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from engines.contract import CROP_PX
from engines.offline import import_offline
from tests.harness.small_restorer import MASK, SHAPES, SmallRestorer
from train.export import export, model_card
from train.networks.unet import Attention, RestoreUNet
from train.networks.unet_export import RestoreExport

onnxruntime, openvino = import_offline("onnxruntime"), import_offline("openvino")


def test_files_are_entered_with_their_hashes(exported: Path) -> None:
    entry = tomllib.loads((exported / export.MANIFEST).read_text())["restore"]
    for precision in ("fp32", "fp16"):
        file = exported / entry[precision]["file"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == entry[precision]["sha256"]
    assert entry["images_seen"] == 5
    assert entry["metrics"] == {"mask_psnr": 20.0}
    assert entry["inputs"]["mask"] == list(MASK)
    names = ["MODEL_CARD.md", "models.toml", "restore.fp16.onnx", "restore.fp32.onnx"]
    assert sorted(file.name for file in exported.iterdir()) == names
    assert entry["parity"]["fp32"]["largest"] <= 1
    assert entry["parity"]["fp16"]["mean"] <= 0.5


def test_the_card_holds_the_figures_and_keeps_what_people_wrote(exported: Path, tmp_path: Path) -> None:
    card = (exported / model_card.CARD).read_text()
    for said in (
        "| mask psnr | 20 |",
        "restore.fp16.onnx",
        "5 pictures seen",
        "fp32 against torch on 1 drawn pictures",
    ):
        assert said in card
    (tmp_path / model_card.CARD).write_text("# Mine\n\nNot for beards.\n")
    for images in (7, 8):
        model_card.write_card(tmp_path, {"hidden": {"images_seen": images}})
    text = (tmp_path / model_card.CARD).read_text()
    assert text.startswith("# Mine\n\nNot for beards.\n")
    assert text.count(model_card.BEGIN) == 1
    assert "8 pictures seen" in text and "7 pictures" not in text
    assert "No figures were given" in text


@pytest.mark.usefixtures("quick_export")
def test_files_are_compared_with_torch_on_faces_that_were_not_trained_on(data: Path, tmp_path: Path) -> None:
    list(export.export_network(SmallRestorer(), {"images": 5}, tmp_path / "models", {}, data))
    parity = tomllib.loads((tmp_path / "models" / export.MANIFEST).read_text())["restore"]["parity"]
    assert parity["fp32"]["kind"] == "faces that were not trained on"
    assert parity["fp32"]["pictures"] == export.PARITY_FACES


def test_files_for_one_picture_take_no_more_and_attention_and_transformer_run_on_the_backends(tmp_path: Path) -> None:
    task = SmallRestorer()
    task.modules = {"network": RestoreUNet(widths=(8, 8, 16, 16, 16), attention=True, blocks=1)}
    for module in task.modules["network"].modules():
        if isinstance(module, Attention):  # it starts as adding nothing
            torch.nn.init.normal_(module.answer.weight, std=0.5)
    list(export.export_network(task, {"images": 0}, tmp_path / "models", {}, one=True))  # compared with ONNX Runtime
    file = tmp_path / "models" / "restore.fp32.onnx"
    feeds = {name: np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8) for name, shape in SHAPES.items()}
    session = onnxruntime.InferenceSession(str(file))
    assert [list(tensor.shape) for tensor in session.get_inputs()] == [list(shape) for shape in SHAPES.values()]
    (expected,) = session.run(None, feeds)
    compiled = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (made,) = compiled(feeds).values()
    assert np.abs(made.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize(("precision", "kind"), [("fp32", TensorProto.FLOAT), ("fp16", TensorProto.FLOAT16)])
def test_weights_are_of_the_precision_and_tensors_are_uint8(exported: Path, precision: str, kind: int) -> None:
    graph = onnx.load(str(exported / f"restore.{precision}.onnx")).graph
    weights = [item for item in graph.initializer if len(item.dims) == 4]
    assert weights
    assert {item.data_type for item in weights} == {kind}
    for tensor in [*graph.input, *graph.output]:
        assert tensor.type.tensor_type.elem_type == TensorProto.UINT8
    consumers = {node.op_type for node in graph.node for name in node.input if name in SHAPES}
    assert consumers == {"Cast"}


def test_a_file_names_neither_classes_nor_paths(exported: Path) -> None:
    content = (exported / "restore.fp32.onnx").read_bytes()
    assert RestoreExport.__name__.encode() not in content and b"unet_export.py" not in content


def test_large_weights_keep_the_digits_that_show(exported: Path) -> None:
    weights = onnx.load(str(exported / "restore.fp32.onnx")).graph.initializer
    arrays = [onnx.numpy_helper.to_array(each) for each in weights if each.data_type == onnx.TensorProto.FLOAT]
    large = [array for array in arrays if array.size > export.FEW_WEIGHTS]
    assert large and not any((array.view(np.uint32) & 0x7FF).any() for array in large)
    values = np.random.default_rng(0).normal(0, 1, 1000).astype(np.float32)
    kept = export._with_fewer_digits(values)
    assert (kept != values).any() and np.abs(kept / values - 1).max() <= 2**-13


def test_the_batch_may_vary(exported: Path) -> None:
    session = onnxruntime.InferenceSession(str(exported / "restore.fp32.onnx"), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {name: rng.integers(0, 256, (3, *shape[1:]), dtype=np.uint8) for name, shape in SHAPES.items()}
    (many,) = session.run(None, feeds)
    (one,) = session.run(None, {name: array[1:2] for name, array in feeds.items()})
    assert many.shape == (3, CROP_PX, CROP_PX, 3)
    assert np.abs(many[1].astype(int) - one[0].astype(int)).max() <= 1


@pytest.mark.parametrize("refused", ["fp32", "fp16"])
@pytest.mark.usefixtures("quick_export")
def test_a_file_that_differs_is_not_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    monkeypatch.setitem(export.TOLERANCE, refused, (-1.0, 0.0))
    with pytest.raises(export.ExportError, match="differs from torch"):
        list(export.export_network(SmallRestorer(), {"images": 0}, tmp_path / "models", {}))
    assert not any((tmp_path / "models").iterdir())
