"""Table of `scripts/bench.py --engines`: every way of running each network on this machine.

Each is compared with the FP32 ONNX in ONNX Runtime, run alternately with it on 64 real crops, and with the classic
U-Net of classic_unet.py. `limit` adds the time that arithmetic and memory alone would take: the network's multiply-adds
over the rate of a large matrix product, or its weights and activations over the rate of copying memory, whichever is
longer. No engine reaches it; it shows how much is left to gain.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil

import engines
from engines import EngineCandidate, EngineOptions
from engines.contract import MODEL_NAMES
from engines.manifest import Model, find_model
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.offline.engine_check import CheckPictures, EngineCheck, compare, real_pictures

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}
#: Sizes of a matrix product and of a copy that are large enough for the machine's full rate.
SIDE, COPIED_BYTES, TRIES = 1024, 2**27, 7
CLASSIC_RUNS = 5


@dataclass(frozen=True)
class Row:
    """One way of running one network. Times in ms, memory in MiB, errors in grey levels or steps of 255."""

    model: str
    candidate: str
    p50_ms: float | None = None
    p99_ms: float | None = None
    first_ms: float | None = None
    memory_mib: float | None = None
    mean_error: float | None = None
    psnr_db: float | None = None
    share_of_fp32: float | None = None
    classic_ratio: float | None = None
    limit_ms: float | None = None
    note: str = ""


def measure_engines(models: Sequence[str], limit: bool) -> Iterator[Row]:
    """A row for each way of running each of `models`; a row that cannot run says why."""
    classic_ms = _classic_ms()
    pictures = real_pictures(Settings())
    limits = Limits() if limit else None
    for name in models or MODEL_NAMES:
        model = find_model(name)
        for candidate in _candidates(model):
            try:
                row = _measure(model, candidate, pictures, classic_ms)
            except engines.EngineError as error:
                yield Row(name, str(candidate), note=error.message)
                continue
            least_ms = limits.of(model, candidate) if limits is not None and candidate.device == "CPU" else None
            yield Row(**{**asdict(row), "limit_ms": least_ms})


def _candidates(model: Model) -> list[EngineCandidate]:
    """Candidates of autotuning, and FP32 on each processor backend for comparison."""
    candidates = [one.candidate for one in engines.measure(model.name)]
    plain = [EngineCandidate(candidate.backend, "CPU", "fp32") for candidate in candidates if candidate.device == "CPU"]
    return list(dict.fromkeys([*candidates, *plain]))


def _measure(model: Model, candidate: EngineCandidate, pictures: CheckPictures, classic_ms: float) -> Row:
    process = psutil.Process()
    before, began = process.memory_info().rss, time.perf_counter()
    options = EngineOptions(candidate.backend, candidate.precision)
    with closing(engines.load(model.name, options)) as engine:
        engine.run({spec.name: np.zeros(spec.shape, spec.dtype) for spec in engine.inputs})
        first_ms = (time.perf_counter() - began) * 1e3
        memory_mib = max(process.memory_info().rss - before, 0) / 2**20
        blank = EngineCheck(model.name, "", candidate.backend, candidate.device, candidate.precision, 0.0)
        found = compare(blank, engine, model, {}, pictures, lambda share: None)
    assert found.p50_ms is not None and found.fp32_p50_ms is not None
    return Row(
        model=model.name,
        candidate=str(candidate),
        p50_ms=found.p50_ms,
        p99_ms=found.p99_ms,
        first_ms=first_ms,
        memory_mib=memory_mib,
        mean_error=found.mean_error,
        psnr_db=found.psnr_db,
        share_of_fp32=found.p50_ms / found.fp32_p50_ms,
        classic_ratio=classic_ms / found.p50_ms,
    )


def _classic_ms() -> float:
    """Classic U-Net in ONNX Runtime with fp32, as such networks ship."""
    from classic_unet import write_classic_unet

    with tempfile.TemporaryDirectory() as folder:
        path = write_classic_unet(Path(folder) / "classic.onnx")
        with closing(engines.load(path, EngineOptions("onnxruntime", "fp32"))) as engine:
            feeds = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in engine.inputs}
            return float(np.median(_times(lambda: engine.run(feeds), CLASSIC_RUNS)))


class Limits:
    """Rates of this machine: multiply-adds by precision, and bytes per second; measured on first use."""

    def __init__(self) -> None:
        self._multiply_adds: dict[str, float] = {}
        source = np.zeros(COPIED_BYTES, np.uint8)
        target = np.empty_like(source)
        # A copy reads and writes.
        self._bytes = 2 * COPIED_BYTES / (min(_times(lambda: np.copyto(target, source), TRIES)) / 1e3)

    def of(self, model: Model, candidate: EngineCandidate) -> float | None:
        """Limit in ms; None for int8, whose matrix product cannot be measured alone."""
        if candidate.precision not in BYTES or candidate.precision == "int8":
            return None
        multiply_adds, numbers = work(model)
        arithmetic_s = multiply_adds / self._reached(candidate.precision)
        return max(arithmetic_s, numbers * BYTES[candidate.precision] / self._bytes) * 1e3

    def _reached(self, precision: str) -> float:
        if precision not in self._multiply_adds:
            with tempfile.TemporaryDirectory() as folder:
                path = _write_product(Path(folder) / "product.onnx")
                options = EngineOptions("openvino", "bf16" if precision == "bf16" else "fp32")
                with closing(engines.load(path, options)) as engine:
                    feeds = {"x": np.ones((SIDE, SIDE), np.float32)}
                    best_ms = min(_times(lambda: engine.run(feeds), TRIES))
            self._multiply_adds[precision] = SIDE**3 / (best_ms / 1e3)
        return self._multiply_adds[precision]


def work(model: Model) -> tuple[int, int]:
    """Multiply-adds of a model's convolutions, and the number of values that they read and write, weights included."""
    import onnx

    graph = onnx.load(str(model.pick("fp32")[1])).graph
    for door in graph.input:
        for axis, size in zip(door.type.tensor_type.shape.dim, model.inputs[door.name], strict=True):
            axis.dim_value = size
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    known = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes = {
        info.name: [axis.dim_value for axis in info.type.tensor_type.shape.dim]
        for info in [*known.value_info, *known.input, *known.output]
    }
    weights = {one.name: list(one.dims) for one in graph.initializer}
    multiply_adds = numbers = 0
    for node in graph.node:
        if node.op_type == "Conv":
            kernel, made, read = weights[node.input[1]], shapes[node.output[0]], shapes[node.input[0]]
            multiply_adds += int(np.prod(made)) * int(np.prod(kernel[1:]))
            numbers += int(np.prod(made)) + int(np.prod(read)) + int(np.prod(kernel))
    return multiply_adds, numbers


def _write_product(path: Path) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    square = [SIDE, SIDE]
    weights = np.random.default_rng(0).standard_normal(square).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, square)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, square)],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def _times(run: Callable[[], object], count: int) -> list[float]:
    """Times in ms of `count` runs, after one that is not counted."""
    run()
    times = []
    for _ in range(count):
        began = time.perf_counter()
        run()
        times.append((time.perf_counter() - began) * 1e3)
    return times


def as_table(rows: Sequence[Row]) -> str:
    """Table as text, one line per row."""
    heads = ("p50", "p99", "first", "MiB", "error", "dB", "/FP32", "classic/", "limit")
    width = max((len(row.candidate) for row in rows), default=0) + 2
    lines = [f"{'network':<9}{'engine':<{width}}" + "".join(f"{head:>10}" for head in heads)]
    for row in rows:
        values = (
            row.p50_ms,
            row.p99_ms,
            row.first_ms,
            row.memory_mib,
            row.mean_error,
            row.psnr_db,
            row.share_of_fp32,
            row.classic_ratio,
            row.limit_ms,
        )
        cells = "".join(f"{'-' if value is None else f'{value:.2f}':>10}" for value in values)
        lines.append(f"{row.model:<9}{row.candidate:<{width}}{cells}  {row.note}".rstrip())
    lines.append(
        "ms; /FP32: its share of ONNX Runtime's FP32 time; classic/: how often it runs in a classic U-Net's time"
    )
    return "\n".join(lines)
