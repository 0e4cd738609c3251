"""Export: both precisions, right doors, entered with their hashes; a wrong file is not shipped."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from train import export
from train.networks import RestoreDoors, RestoreUNet
from train.task import Doors

SHAPES = {"face": (1, 64, 64, 3), "mask": (1, 64, 64, 1), "reference": (1, 64, 64, 3), "reference_mask": (1, 64, 64, 1)}


class Small:
    """A restorer that exports in a moment."""

    name = "restore"
    optimizers: Mapping[str, torch.optim.Optimizer] = {}

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.modules = {"network": RestoreUNet(widths=(8, 8, 16, 16, 16))}

    def doors(self, network: RestoreUNet) -> Doors:
        return Doors(
            RestoreDoors(network), SHAPES, {"restored": (1, 64, 64, 3)}, {name: {0: "batch"} for name in SHAPES}
        )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "models"
    list(export.export_network(Small(), {"images": 5}, folder, {"mask_psnr": 20.0}))
    return folder


def test_files_are_entered_with_their_hashes(models: Path) -> None:
    entry = tomllib.loads((models / export.MANIFEST).read_text())["restore"]
    for precision in ("fp32", "fp16"):
        file = models / entry[precision]["file"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == entry[precision]["sha256"]
    assert entry["images_seen"] == 5
    assert entry["metrics"] == {"mask_psnr": 20.0}
    assert entry["inputs"]["mask"] == [1, 64, 64, 1]
    assert sorted(file.name for file in models.iterdir()) == ["models.toml", "restore.fp16.onnx", "restore.fp32.onnx"]


@pytest.mark.parametrize(("precision", "kind"), [("fp32", TensorProto.FLOAT), ("fp16", TensorProto.FLOAT16)])
def test_weights_are_of_the_precision_and_doors_are_uint8(models: Path, precision: str, kind: int) -> None:
    graph = onnx.load(str(models / f"restore.{precision}.onnx")).graph
    weights = [item for item in graph.initializer if len(item.dims) == 4]
    assert weights
    assert {item.data_type for item in weights} == {kind}
    for door in [*graph.input, *graph.output]:
        assert door.type.tensor_type.elem_type == TensorProto.UINT8
    consumers = {node.op_type for node in graph.node for name in node.input if name in SHAPES}
    assert consumers == {"Cast"}


def test_the_batch_may_vary(models: Path) -> None:
    session = onnxruntime.InferenceSession(str(models / "restore.fp32.onnx"), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {name: rng.integers(0, 256, (3, *shape[1:]), dtype=np.uint8) for name, shape in SHAPES.items()}
    (many,) = session.run(None, feeds)
    (one,) = session.run(None, {name: array[1:2] for name, array in feeds.items()})
    assert many.shape == (3, 64, 64, 3)
    assert np.abs(many[1].astype(int) - one[0].astype(int)).max() <= 1


@pytest.mark.parametrize("refused", ["fp32", "fp16"])
def test_a_file_that_differs_is_not_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    monkeypatch.setitem(export.TOLERANCE, refused, (-1.0, 0.0))
    with pytest.raises(export.ExportError, match="differs from torch"):
        list(export.export_network(Small(), {"images": 0}, tmp_path / "models", {}))
    assert not any((tmp_path / "models").iterdir())
