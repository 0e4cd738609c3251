"""The training loop: samples in, steps, checkpoints out. A flat story, the same for every network."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from torch.utils.data import DataLoader, Dataset

from train import checkpoint
from train.config import Recipe
from train.machine import ScaledOptimizer, TrainingError, World, bare, device, precision
from train.records import Records
from train.task import Illustrated, Sample, Task

CHECKPOINT = "last.pt"
LOG_EVERY = 50


class _Samples(Dataset[Sample]):
    """The endless samples of a run by their number: the same ones however often it is resumed, by how many workers."""

    def __init__(self, task: Task, seed: int) -> None:
        self._task = task
        self._seed = seed

    def __getitem__(self, number: int) -> Sample:
        return self._task.sample(np.random.default_rng([self._seed, number]))


def _numbers(recipe: Recipe, world: World, step: int) -> Iterator[list[int]]:
    """The numbers of the samples of each step from `step` on: this process's share of the batch."""
    while True:
        first = step * recipe.batch
        yield list(range(first + world.rank, first + recipe.batch, world.size))
        step += 1


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
    start_from: Path | None = None,
) -> int:
    """Trains until the last step, for `minutes` or until Ctrl-C; resumes what is in `out`. Gives the step reached.

    `grow` allows a resumed run to have modules that its checkpoint does not hold. `start_from` are the exported weights
    that a run begins with which has no checkpoint yet. Raises TrainingError and CheckpointError; the checkpoint that
    was written last stays as it was.
    """
    world = World.join(recipe)
    try:
        return _fit(task, recipe, out, minutes, console or Console(), grow, start_from, world)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _out_of_memory(recipe) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):  # how torch says it of a processor's memory
            raise _out_of_memory(recipe) from error
        raise
    except OSError as error:
        raise TrainingError(
            f"can't write to {out}: {error.strerror or error}; the checkpoint that was written last is untouched, "
            "make room and run the same command again"
        ) from error
    finally:
        # A wrapped module that outlives its group of processes may never end.
        task.modules.update({name: bare(module) for name, module in task.modules.items()})
        world.leave()


def _fit(
    task: Task,
    recipe: Recipe,
    out: Path,
    minutes: float,
    console: Console,
    grow: bool,
    start_from: Path | None,
    world: World,
) -> int:
    torch.set_num_threads(recipe.threads)
    cv2.setNumThreads(1)  # before workers are forked: in a worker, after OpenCV has been used, this never returns
    torch.manual_seed(recipe.seed)
    out.mkdir(parents=True, exist_ok=True)
    where = device(recipe)
    averaged = _prepare(task, recipe, where)
    resumed = _resume(task, averaged, recipe, out, grow, start_from)
    step, images, pending = resumed.step, resumed.images, resumed.pending
    if step:
        anew = f"; started anew: {', '.join(resumed.fresh)}" if resumed.fresh else ""
        console.print(f"resumed at step {step}, {images} images{anew}")
    for name, module in task.modules.items():
        task.modules[name] = world.wrap(module)
    loader = DataLoader(
        _Samples(task, recipe.seed),
        batch_sampler=_numbers(recipe, world, step),  # type: ignore[arg-type]  # endless, and never asked its length
        num_workers=recipe.workers,
        prefetch_factor=4 if recipe.workers else None,
        pin_memory=where.type == "cuda",
    )
    batches = iter(loader)  # its workers are forked before anything starts threads
    records = Records(out, step, recipe.steps, console) if world.rank == 0 else None
    started = saved = time.monotonic()
    first_image = images

    def save() -> None:
        if world.rank == 0:
            checkpoint.save(out / CHECKPOINT, task, averaged, recipe, step, images, pending)

    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(records or contextlib.ExitStack()):
        for batch in batches:
            late = time.monotonic() - started > minutes * 60
            if step >= recipe.steps or world.any(late, where):
                break
            set_learning_rate(task, recipe, step)
            for module in task.modules.values():
                module.train()
            batch = {name: value.to(where, non_blocking=True) for name, value in batch.items()}
            for name, value in task.train_step(batch, step / recipe.steps).items():
                pending.setdefault(name, []).append(value)
            averaged.update(task.modules["network"], step)
            step, images = step + 1, images + recipe.batch
            if records is not None:
                records.advance(step)
            if step % LOG_EVERY == 0 or step == recipe.steps:
                losses = world.mean({name: sum(each) / len(each) for name, each in pending.items()}, where)
                rate = (images - first_image) / (time.monotonic() - started)
                pending = {}
                if records is not None:
                    weights = task.schedule.at(step / recipe.steps) if isinstance(task, Illustrated) else {}
                    left_min = (recipe.steps - step) * recipe.batch / rate / 60
                    counts = {"step": step, "images": images, "images_per_s": round(rate, 2)}
                    records.add(counts, losses, weights, left_min)
            if time.monotonic() - saved > recipe.save_every_s:
                save()
                saved = time.monotonic()
                if records is not None and records.wants_pictures and isinstance(task, Illustrated):
                    records.show(task.pictures(batch), step)
    save()
    return step


def _prepare(task: Task, recipe: Recipe, where: torch.device) -> checkpoint.AveragedWeights:
    """Takes the task to its device, in the precision of the recipe."""
    for module in task.modules.values():
        module.to(where, memory_format=torch.channels_last)
        if recipe.compile:
            module.compile()
    if precision(recipe) == "fp16":
        for name, optimizer in task.optimizers.items():
            task.optimizers[name] = ScaledOptimizer(optimizer, torch.amp.GradScaler(where.type))
    return checkpoint.AveragedWeights(task.modules["network"], recipe.ema_decay)


def _resume(
    task: Task, averaged: checkpoint.AveragedWeights, recipe: Recipe, out: Path, grow: bool, start_from: Path | None
) -> checkpoint.Resumed:
    """From the run's own checkpoint, else from weights that were exported, else from nothing."""
    if (out / CHECKPOINT).exists():
        return checkpoint.restore(checkpoint.read(out / CHECKPOINT), task, averaged, recipe, grow)
    if start_from is not None:
        return checkpoint.start(start_from, task, averaged, recipe)
    return checkpoint.Resumed(0, 0, [], {})


def _out_of_memory(recipe: Recipe) -> TrainingError:
    smaller = max(recipe.batch // 2, 1)
    return TrainingError(
        f"out of memory with {recipe.batch} pictures of {recipe.size_px} px a step: try --batch {smaller}; "
        "the checkpoint that was written last is untouched"
    )
