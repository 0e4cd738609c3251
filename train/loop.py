"""The training loop: samples in, steps, checkpoints out. A flat story, the same for every network."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from train import checkpoint
from train.config import Recipe
from train.task import Sample, Task

CHECKPOINT = "last.pt"
LOG = "log.jsonl"


class TrainingError(Exception):
    """A loss was not finite; the message names it."""


class _Samples(IterableDataset[Sample]):
    """Endless samples of a task, different in every worker and after every resume."""

    def __init__(self, task: Task, seed: int) -> None:
        self._task = task
        self._seed = seed

    def __iter__(self) -> Iterator[Sample]:
        info = get_worker_info()
        if info is not None:
            cv2.setNumThreads(1)
        rng = np.random.default_rng([self._seed, info.id if info else 0])
        while True:
            yield self._task.sample(rng)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(recipe: Recipe) -> contextlib.AbstractContextManager[Any]:
    """Mixed precision as the recipe asks for it; what squares or logs belongs outside of it."""
    if recipe.autocast == "off":
        return contextlib.nullcontext()
    return torch.autocast(device().type, dtype=torch.bfloat16)


def check_finite(losses: Mapping[str, Tensor]) -> None:
    """Raises TrainingError with the name of the first loss that is not finite."""
    for name, value in losses.items():
        if not math.isfinite(float(value.detach())):
            raise TrainingError(f"the loss `{name}` is not finite")


def descend(loss: Tensor, optimizer: torch.optim.Optimizer, module: nn.Module, clip: float = 5.0) -> None:
    """One step down `loss`, with the gradient's norm clipped."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), clip)
    optimizer.step()


def set_learning_rate(task: Task, recipe: Recipe, step: int) -> None:
    """Short warm-up, then a cosine down to 5 %, over the whole recipe. Scales each group's own `base_lr`."""
    warmup = min(1.0, (step + 1) / 200)
    cosine = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / recipe.steps)))
    for optimizer in task.optimizers.values():
        for group in optimizer.param_groups:
            group.setdefault("base_lr", group["lr"])
            group["lr"] = group["base_lr"] * warmup * cosine


def fit(
    task: Task,
    recipe: Recipe,
    out: Path,
    minutes: float = math.inf,
    console: Console | None = None,
    grow: bool = False,
) -> int:
    """Trains until the last step, for `minutes` or until Ctrl-C; resumes what is in `out`. Gives the step reached.

    `grow` allows a resumed run to have modules that its checkpoint does not hold.
    """
    console = console or Console()
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    out.mkdir(parents=True, exist_ok=True)
    for module in task.modules.values():
        module.to(device(), memory_format=torch.channels_last)
    network = task.modules["network"]
    averaged = checkpoint.AveragedWeights(network, recipe.ema_decay)
    step = images = 0
    if (out / CHECKPOINT).exists():
        resumed = checkpoint.restore(checkpoint.read(out / CHECKPOINT), task, averaged, recipe, grow)
        step, images = resumed.step, resumed.images
        anew = f"; started anew: {', '.join(resumed.fresh)}" if resumed.fresh else ""
        console.print(f"resumed at step {step}, {images} images{anew}")
    loader = DataLoader(
        _Samples(task, recipe.seed + step),
        batch_size=recipe.batch,
        num_workers=recipe.workers,
        prefetch_factor=4 if recipe.workers else None,
    )
    started = saved = time.monotonic()
    first_image, values = images, dict[str, list[float]]()
    with contextlib.suppress(KeyboardInterrupt):
        for batch in loader:
            if step >= recipe.steps or time.monotonic() - started > minutes * 60:
                break
            set_learning_rate(task, recipe, step)
            for module in task.modules.values():
                module.train()
            batch = {name: value.to(device(), non_blocking=True) for name, value in batch.items()}
            for name, value in task.train_step(batch, step / recipe.steps).items():
                values.setdefault(name, []).append(value)
            averaged.update(network, step)
            step, images = step + 1, images + recipe.batch
            if step % 50 == 0 or step == recipe.steps:
                rate = (images - first_image) / (time.monotonic() - started)
                means = {name: round(sum(each) / len(each), 5) for name, each in values.items()}
                _log(out, {"step": step, "images": images, "images_per_s": round(rate, 2), **means})
                left_min = (recipe.steps - step) * recipe.batch / rate / 60
                line = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
                console.print(f"step {step}/{recipe.steps}  {rate:.1f} images/s  {left_min:.0f} min left  {line}")
                values = {}
            if time.monotonic() - saved > recipe.save_every_s:
                checkpoint.save(out / CHECKPOINT, task, averaged, recipe, step, images)
                saved = time.monotonic()
    checkpoint.save(out / CHECKPOINT, task, averaged, recipe, step, images)
    return step


def _log(out: Path, record: dict[str, Any]) -> None:
    with (out / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
