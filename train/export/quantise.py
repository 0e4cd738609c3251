"""From the exported FP32 network to one that counts in int8, for processors that have nothing faster.

Post-training: what flows between the layers is measured on real samples, then weights (by channel) and activations (by
tensor, symmetric: that is what engines fuse) are rounded to 8 bits. The export's fixed convolutions and the last layers
keep their precision: known pixels have to pass bit for bit. A network that loses more than LARGEST_LOSS is not kept.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from filelock import FileLock

from engines.contract import HIDDEN
from engines.offline import import_offline
from train.export.export import MANIFEST, ExportError, enter
from train.export.model_card import write_card
from train.onnx_runner import onnx_runner
from train.task import Task, load_evaluation, split_option

quantization = import_offline("onnxruntime.quantization")

PRECISION = "int8"
#: What int8 may cost: by the end of a figure's name how far it may fall, or rise where the number is negative.
LARGEST_LOSS: dict[str, dict[str, float]] = {
    "restore": {"_psnr": 0.3, "_psnr_with_reference": 0.3},
    "hidden": {"iou": 0.01, "boundary_f": 0.01, "clean_marked": -0.002},
    "faces": {
        "recall": 0.01,
        "landmark_error": -0.003,
        "landmark_error_steady": -0.003,
        "_px": -1.0,
        "false_finds": -1,
    },
}
#: Figures of what a network is compared with begin so.
OTHERS = "yunet_"
#: Layers that keep their precision, by the beginning of their weights' names.
EXACT = {
    "restore": ("gather", "halve", "keep", "edges", "head", "coarse.head", "copies"),
    "hidden": ("between", "network.head"),
    "faces": ("network.head",),
}
_SEED = 5
#: What an input is called in a training sample, where that differs.
_SAMPLE_NAMES = {"mask": "hole"}


def quantise_network(
    task: Task, data: Path, models: Path, samples: int = 64, limit: int | None = 60, threads: int = 2
) -> Iterator[str]:
    """Writes `NAME.int8.onnx` beside the FP32 file and enters it; yields a line for each thing done.

    `limit`: on how many pictures of each kind both are measured. Raises ExportError where int8 loses too much or there
    is no FP32 network; then `models` stays as it was.
    """
    if task.name not in LARGEST_LOSS:
        raise ExportError(f"no bound for {task.name} in int8: add it to LARGEST_LOSS in train/export/quantise.py")
    entry = _entry(models, task.name)
    source = models / entry["fp32"]["file"]
    with tempfile.TemporaryDirectory(prefix=".quantise-", dir=models) as folder:
        file = Path(folder) / f"{task.name}.{PRECISION}.onnx"
        _write(source, file, _feeds(task, entry["inputs"], samples), EXACT.get(task.name, ()))
        yield f"{file.name}: {file.stat().st_size / 1e6:.1f} MB, calibrated on {samples} samples"
        evaluate, split = load_evaluation(task.name), split_option(task.name, "dev")
        found = {name: evaluate({name: onnx_runner(path, threads)}, data, None, limit, threads, None, **split).figures
                 for name, path in (("fp32", source), (PRECISION, file))}  # fmt: skip
        kept = check_loss(task.name, found["fp32"], found[PRECISION])
        yield from (f"{name}: {found['fp32'][name]:.4f} in FP32, {value:.4f} in int8" for name, value in kept.items())
        entry[PRECISION] = {
            "file": file.name,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "metrics": {name: round(value, 5) for name, value in kept.items()},
            "metrics_fp32": {name: round(found["fp32"][name], 5) for name in kept},
        }
        with FileLock(models.parent / ".models.lock"):
            if _entry(models, task.name)["fp32"] != entry["fp32"]:
                raise ExportError(f"{task.name} was exported again during this run; quantise it again")
            file.replace(models / file.name)
            enter(models / MANIFEST, task.name, entry)
            card = write_card(models, tomllib.loads((models / MANIFEST).read_text(encoding="utf-8")))
    yield f"{MANIFEST} and {card.name}: {task.name} updated"


def _entry(models: Path, name: str) -> dict[str, Any]:
    try:
        return dict(tomllib.loads((models / MANIFEST).read_text(encoding="utf-8"))[name])
    except (OSError, KeyError) as error:
        raise ExportError(f"{models / MANIFEST} has no {name}: export it first") from error


def _feeds(task: Task, inputs: Mapping[str, list[int]], samples: int) -> Iterator[dict[str, np.ndarray]]:
    """Training samples as the exported network takes them: NHWC uint8, masks 0 or 255."""
    rng = np.random.default_rng(_SEED)
    for _ in range(samples):
        sample = task.sample(rng)
        feeds = {}
        for name, (*_, channels) in inputs.items():
            array = sample[_SAMPLE_NAMES.get(name, name)]
            array = array if array.shape[-1] == channels else array.transpose(1, 2, 0)
            feeds[name] = np.ascontiguousarray(array[None]) * (HIDDEN if channels == 1 else 1)
        yield feeds


def _write(source: Path, target: Path, feeds: Iterator[dict[str, np.ndarray]], exact: tuple[str, ...]) -> None:
    convolutions = [node for node in onnx.load(str(source)).graph.node if node.op_type == "Conv"]
    kept = [node.name for node in convolutions if node.input[1].startswith(exact)] if exact else []
    logging.disable(logging.WARNING)  # it recommends a preparation that the export has done already
    try:
        quantization.quantize_static(
            str(source),
            str(target),
            _Reader(feeds),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=kept,
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"ActivationSymmetric": True},
        )
    finally:
        logging.disable(logging.NOTSET)
    _keep_inputs(target, set(kept))


def _keep_inputs(file: Path, kept: set[str]) -> None:
    """Layers that keep their precision get their inputs unrounded again: ONNX Runtime rounds a tensor for all."""
    model = onnx.load(str(file))
    made_by = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        rounded = made_by.get(node.input[0]) if node.name in kept else None
        if rounded is not None and rounded.op_type == "DequantizeLinear":
            node.input[0] = made_by[rounded.input[0]].input[0]
    onnx.save(model, str(file))


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """The samples, in the form that ONNX Runtime's calibration reads."""

    def __init__(self, feeds: Iterator[dict[str, np.ndarray]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def check_loss(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """The int8 figures that count. Raises ExportError where one is worse by too much."""
    counted: dict[str, float] = {}
    worse: list[tuple[float, str]] = []
    for figure, value in before.items():
        bound = next((most for end, most in LARGEST_LOSS[name].items() if figure.endswith(end)), None)
        if bound is None or not np.isfinite(value) or figure.startswith(OTHERS):
            continue
        counted[figure] = after[figure]
        loss = (value - after[figure]) * np.sign(bound)
        if not loss <= abs(bound):
            worse.append((loss / abs(bound), f"{loss:.3f} of {figure} in int8, more than {abs(bound)}"))
    if worse:
        raise ExportError(f"{name} loses {max(worse)[1]}: it is not kept")
    return counted
