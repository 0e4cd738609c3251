"""What a GPU is worth here: images a second and memory of training, and the restorer's time in each engine.

    python3 -m scripts.rented_gpu.measure --data DATA [--out FILE.md]

What this machine cannot measure is a row that says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

import engines
from engines.backends import BACKENDS
from engines.contract import CROP_PX
from engines.manifest import MODELS
from train import checkpoint
from train.config import RECIPES, Recipe
from train.loop import freeze_statistics
from train.networks.unet_export import RestoreExport
from train.onnx_runner import onnxruntime
from train.task import Sample
from train.tasks.restore import RestoreTask

SHIPPED = Path(__file__).parents[2] / "train" / "weights" / "restore.safetensors"
#: Steps before the clock runs, and steps that are timed.
WARM_UP, TIMED = 5, 20
#: Runs of an engine, one picture each, of which the median counts.
RUNS = 100
CHANNELS = {"face": 3, "mask": 1, "reference": 3, "reference_mask": 1}


def training(data: Path, size: int, batch: int, steps: int = TIMED) -> Iterator[str]:
    """Rows on training with and without mixed precision: images a second without sampling, and the memory's peak."""
    rates, peaks = {}, {}
    for precision in ("auto", "off"):
        recipe = RECIPES["restore", "base"].but(size_px=size, batch=batch, autocast=precision, full_weights=True)
        rates[precision], peaks[precision] = _timed_steps(recipe, data, steps)
        yield f"| {size} px, batch {batch} | {precision} | {rates[precision]:.1f} | {_mib(peaks[precision])} |"
    if peaks["off"]:
        yield f"| | saved by mixed precision | | {1 - peaks['auto'] / peaks['off']:.0%} (claimed: 45%) |"


def _timed_steps(recipe: Recipe, data: Path, steps: int) -> tuple[float, int]:
    """Images a second of steps on a batch that is there already, and the peak of the GPU's memory in bytes."""
    task = RestoreTask(recipe, data)
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for module in task.modules.values():
        module.to(where, memory_format=torch.channels_last)
    checkpoint.start(SHIPPED, task, checkpoint.AveragedWeights(task.modules["network"], 0.0), recipe, anew=True)
    freeze_statistics(task.modules["network"])
    batch = _batch(task, recipe, where)
    for _ in range(min(WARM_UP, steps)):
        task.train_step(batch, 0.9)
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        task.train_step(batch, 0.9)
    if where.type == "cuda":
        torch.cuda.synchronize()
    rate = steps * recipe.batch / (time.perf_counter() - started)
    return rate, torch.cuda.max_memory_allocated() if where.type == "cuda" else 0


def _batch(task: RestoreTask, recipe: Recipe, where: torch.device) -> dict[str, torch.Tensor]:
    """A batch of four samples, repeated: what they show takes no time."""
    few: list[Sample] = [task.sample(np.random.default_rng(seed)) for seed in range(4)]
    chosen = [few[number % len(few)] for number in range(recipe.batch)]
    return {name: torch.from_numpy(np.stack([each[name] for each in chosen])).to(where) for name in few[0]}


def samples(data: Path, count: int = 40) -> str:
    """A row on the samples that one worker makes."""
    task = RestoreTask(RECIPES["restore", "base"].but(size_px=128), data)
    task.sample(np.random.default_rng(0))
    started = time.perf_counter()
    for seed in range(1, count + 1):
        task.sample(np.random.default_rng(seed))
    return f"| samples of one worker | | {count / (time.perf_counter() - started):.1f} | |"


def restorers(runs: int = RUNS) -> Iterator[str]:
    """Rows on the restorer that ships, one picture at a time: every backend, ONNX Runtime's CUDA, and torch."""
    rng = np.random.default_rng(0)
    feeds = {
        name: rng.integers(0, 256, (1, CROP_PX, CROP_PX, channels), dtype=np.uint8)
        for name, channels in CHANNELS.items()
    }
    for backend in (name for name in BACKENDS if name != "fake"):
        for precision in ("fp32", "fp16"):
            yield _row(f"{backend} {precision}", lambda b=backend, p=precision: _engine(b, p), feeds, runs)
    for precision in ("fp32", "fp16"):
        yield _row(f"ONNX Runtime CUDA {precision}", lambda p=precision: _on_cuda(p), feeds, runs)
        yield _row(f"torch {precision}", lambda p=precision: _in_torch(p), feeds, runs)


def _row(name: str, load: Callable[[], Callable[[Any], Any]], feeds: dict[str, np.ndarray], runs: int) -> str:
    try:
        run = load()
        times = [_ms(run, feeds) for _ in range(runs + WARM_UP)][WARM_UP:]
    except (engines.EngineError, Unavailable) as error:
        return f"| {name} | skipped: {error} |"
    return f"| {name} | {np.median(times):.2f} (p95 {np.percentile(times, 95):.2f}) |"


class Unavailable(Exception):
    """This machine cannot run it; the message says why."""


def _engine(backend: str, precision: Any) -> Callable[[Any], Any]:
    return engines.load("restore", engines.EngineOptions(backend=backend, precision=precision)).run


def _on_cuda(precision: str) -> Callable[[Any], Any]:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise Unavailable("this onnxruntime has no CUDA")
    file = MODELS / f"restore.{precision}.onnx"
    session = onnxruntime.InferenceSession(str(file), providers=["CUDAExecutionProvider"])
    return lambda feeds: session.run(None, feeds)


def _in_torch(precision: str) -> Callable[[Any], Any]:
    """The exported arithmetic, with the way to the GPU and back."""
    if not torch.cuda.is_available():
        raise Unavailable("torch sees no GPU")
    recipe = RECIPES["restore", "base"].but(copy=True)
    task = RestoreTask(recipe, Path())
    averaged = checkpoint.AveragedWeights(task.modules["network"], 0.0)
    checkpoint.start(SHIPPED, task, averaged, recipe, anew=True)
    network = RestoreExport(task.modules["network"].eval()).eval().cuda()
    network = network.half() if precision == "fp16" else network

    @torch.inference_mode()
    def run(feeds: dict[str, np.ndarray]) -> np.ndarray:
        made: np.ndarray = network(*(torch.from_numpy(feeds[name]).cuda() for name in CHANNELS)).cpu().numpy()
        return made

    return run


def _ms(run: Callable[[Any], Any], feeds: dict[str, np.ndarray]) -> float:
    started = time.perf_counter()
    run(feeds)
    return 1000 * (time.perf_counter() - started)


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f}" if size else "skipped: torch sees no GPU"


def tables(data: Path, quick: bool) -> Iterator[str]:
    """All lines; `quick` is for a try without a GPU."""
    yield from ("| training | precision | images/s | memory, MiB |", "|---|---|---|---|")
    yield samples(data, 4 if quick else 40)
    for size, batch in ((64, 2),) if quick else ((128, 64), (256, 32)):
        yield from training(data, size, batch, 1 if quick else TIMED)
    yield from ("", "| the restorer in | ms a picture |", "|---|---|")
    yield from restorers(2 if quick else RUNS)


def main(
    data: Annotated[Path, typer.Option(help="the data that was unpacked")] = Path("data"),
    out: Annotated[Path | None, typer.Option(help="write the tables into this file too")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="a few tiny steps: a try without a GPU")] = False,
) -> None:
    """Prints the tables."""
    lines = []
    for line in tables(data, quick):
        lines.append(line)
        typer.echo(line)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
