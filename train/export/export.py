"""From a checkpoint to what the product runs: FP32 and FP16 ONNX files, checked, and entered in models.toml."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import logging
import math
import tempfile
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from filelock import FileLock
from torch import nn

from engines.contract import HIDDEN
from engines.offline import import_offline
from train.data.face_set import FaceSet, valid_mask
from train.export.model_card import write_card
from train.occlusion.masks import medical_mask
from train.task import ModelIO, Task

onnxruntime = import_offline("onnxruntime")

MANIFEST = "models.toml"
OPSET = 18
LICENCE = "CC-BY-NC-4.0: trained on faces for non-commercial research only, see MODEL_CARD.md"
TRAINED_ON = "SCUT-FBP5500, UTKFace, CFP and smaller sets; see MODEL_CARD.md"
#: How far an ONNX file may be from torch, in uint8 steps: (largest difference, mean difference).
TOLERANCE = {"fp32": (1.0, 0.02), "fp16": (255.0, 0.5)}

#: Of tensors larger than this, the last digits are left out of the file: of weights, not of constants.
FEW_WEIGHTS = 512

#: So many faces are run through torch and through each file.
PARITY_FACES = 6


class ExportError(Exception):
    """The exported file is not the network; the message says by how much."""


def export_network(
    task: Task,
    content: Mapping[str, Any],
    models: Path,
    metrics: Mapping[str, float],
    data: Path | None = None,
    one: bool = False,
    licence: str = LICENCE,
    trained_on: str = TRAINED_ON,
) -> Iterator[str]:
    """Writes `NAME.fp32.onnx` and `NAME.fp16.onnx` into `models`; yields a line for each thing done.

    `content` is the checkpoint that the task's network was loaded from. The files are compared with torch on faces of
    `data`, on drawn pictures without it. They take any batch, with `one` only a single picture. Raises ExportError
    where a file differs from torch by more than TOLERANCE; then `models` stays as it was.
    """
    models.mkdir(parents=True, exist_ok=True)
    model_io = task.model_io(task.modules["network"])
    if one:
        rest = {name: {axis: label for axis, label in axes.items() if axis} for name, axes in model_io.dynamic.items()}
        model_io = dataclasses.replace(model_io, dynamic=rest)
    cases = _face_feeds(model_io, data) if data is not None else [_drawn_feeds(model_io)]
    expected = [_run_torch(model_io, feeds) for feeds in cases]
    entry: dict[str, Any] = {
        "licence": licence,
        "trained_on": trained_on,
        "images_seen": int(content["images"]),
        "parameters": sum(parameter.numel() for parameter in task.modules["network"].parameters()),
        "inputs": {name: list(shape) for name, shape in model_io.inputs.items()},
        "outputs": {name: list(shape) for name, shape in model_io.outputs.items()},
        "metrics": {name: round(float(value), 5) for name, value in metrics.items() if value is not None},
        "parity": {},
    }
    with tempfile.TemporaryDirectory(prefix=".export-", dir=models) as folder:
        for precision in ("fp32", "fp16"):
            file = Path(folder) / f"{task.name}.{precision}.onnx"
            _write_onnx(model_io, precision, file)
            apart = [_difference(made, wanted) for made, wanted in zip(_run_onnx(file, cases), expected, strict=True)]
            largest, mean = max(each for each, _ in apart), float(np.mean([each for _, each in apart]))
            if largest > TOLERANCE[precision][0] or mean > TOLERANCE[precision][1]:
                raise ExportError(f"{file.name} differs from torch by up to {largest:.2f}, mean {mean:.3f}")
            entry[precision] = {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
            entry["parity"][precision] = {
                "kind": "drawn pictures" if data is None else "faces that were not trained on",
                "pictures": len(cases),
                "largest": round(largest, 4),
                "mean": round(mean, 5),
            }
            yield f"{file.name}: {file.stat().st_size / 1e6:.1f} MB, off by up to {largest:.2f}, mean {mean:.4f}"
        with FileLock(models.parent / ".models.lock"):
            for file in Path(folder).iterdir():
                file.replace(models / file.name)
            (models / f"{task.name}.int8.onnx").unlink(missing_ok=True)  # it was made from the network before
            enter(models / MANIFEST, task.name, entry)
            card = write_card(models, tomllib.loads((models / MANIFEST).read_text(encoding="utf-8")))
    yield f"{MANIFEST} and {card.name}: {task.name} updated"


def _write_onnx(model_io: ModelIO, precision: str, path: Path) -> None:
    module = copy.deepcopy(model_io.module).eval()
    if precision == "fp16":
        module = module.half()
    names = list(model_io.inputs)
    shapes = tuple(
        {axis: torch.export.Dim(label) for axis, label in model_io.dynamic.get(name, {}).items()} or None
        for name in names
    )
    examples = tuple(
        torch.zeros(2 if 0 in model_io.dynamic.get(name, {}) else 1, *model_io.inputs[name][1:], dtype=torch.uint8)
        for name in names
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notes on its own future and on torchvision's absence
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            examples,
            input_names=names,
            output_names=list(model_io.outputs),
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    program.save(path, external_data=False)
    _tidy(path)
    onnx.checker.check_model(str(path), full_check=True)


def _tidy(path: Path) -> None:
    """Removes torch's notes on the source, and digits of large FP32 weights that no picture shows.

    The notes are class names, and stack traces with this machine's paths. What is left of a weight is four times as
    exact as in FP16, and the file packs to three quarters.
    """
    model = onnx.load(str(path))
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for item in (model, graph, *graph.node, *values, *model.functions):
        item.ClearField("metadata_props")
    for weight in graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT and math.prod(weight.dims) > FEW_WEIGHTS:
            rounded = _with_fewer_digits(onnx.numpy_helper.to_array(weight))
            weight.CopyFrom(onnx.numpy_helper.from_array(rounded, weight.name))
    onnx.save(model, str(path))


def _with_fewer_digits(values: np.ndarray) -> np.ndarray:
    """FP32 rounded to 12 binary digits behind the leading one, of 23."""
    half = np.uint32(1 << 10)
    return ((values.view(np.uint32) + half) & ~np.uint32((1 << 11) - 1)).view(np.float32)


def _face_feeds(model_io: ModelIO, data: Path) -> list[dict[str, np.ndarray]]:
    """Faces that no network was trained with, hidden by a mask, with another picture of the person as the reference."""
    faces = FaceSet(data, "eval")
    rng = np.random.default_rng(7)
    chosen = rng.choice(len(faces), min(PARITY_FACES, len(faces)), replace=False)
    return [
        {name: _fitted(name, shape, faces, int(index), rng) for name, shape in model_io.inputs.items()}
        for index in chosen
    ]


def _fitted(name: str, shape: tuple[int, ...], faces: FaceSet, index: int, rng: np.random.Generator) -> np.ndarray:
    """What an input is fed with: the face, its hole, or the same two of the reference, as high as the input."""
    _, height, width, channels = shape
    if name.startswith("reference"):
        other = faces.sibling(index, rng)
        index = index if other is None else other
    if channels == 3:
        picture = faces.image(index)
    else:
        row = faces.rows[index]
        picture = valid_mask(row) if name.startswith("reference") else medical_mask(row.landmarks, rng)
    picture = cv2.resize(picture, (height, height), interpolation=cv2.INTER_AREA).reshape(height, height, channels)
    left = max(width - height, 0) // 2
    wide = cv2.copyMakeBorder(picture, 0, 0, left, max(width - height - left, 0), cv2.BORDER_CONSTANT)
    wide = wide.reshape(height, -1, channels)[:, :width]
    return np.ascontiguousarray(wide)[None] if channels == 3 else np.where(wide > 127, HIDDEN, 0).astype(np.uint8)[None]


def _drawn_feeds(model_io: ModelIO) -> dict[str, np.ndarray]:
    """Smooth pictures and box masks: like what the network sees, and the same each time."""
    rng = np.random.default_rng(7)
    feeds = {}
    for name, (_, height, width, channels) in model_io.inputs.items():
        if channels == 1:
            array = np.zeros((1, height, width, 1), np.uint8)
            array[:, height // 2 : height * 7 // 8, width // 4 : width * 3 // 4] = 255
        else:
            coarse = torch.from_numpy(rng.uniform(0, 255, (1, channels, 9, 9)).astype(np.float32))
            smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255)
            array = smooth.permute(0, 2, 3, 1).to(torch.uint8).numpy()
        feeds[name] = array
    return feeds


def _run_torch(model_io: ModelIO, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        outputs = model_io.module.eval()(*(torch.from_numpy(feeds[name]) for name in model_io.inputs))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return [output.numpy() for output in outputs]


def _run_onnx(path: Path, cases: Sequence[Mapping[str, np.ndarray]]) -> list[list[np.ndarray]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [session.run(None, dict(feeds)) for feeds in cases]


def _difference(actual: list[np.ndarray], expected: list[np.ndarray]) -> tuple[float, float]:
    differences = [np.abs(a.astype(np.float64) - b.astype(np.float64)) for a, b in zip(actual, expected, strict=True)]
    return max(float(d.max()) for d in differences), float(np.mean([d.mean() for d in differences]))


def enter(manifest: Path, name: str, entry: Mapping[str, Any]) -> None:
    import tomli_w  # only an export needs it

    content = tomllib.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {}
    content[name] = entry
    temporary = manifest.with_suffix(".tmp")
    temporary.write_text(tomli_w.dumps(dict(sorted(content.items()))), encoding="utf-8")
    temporary.replace(manifest)
