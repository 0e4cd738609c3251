"""The training loop: samples in, steps, checkpoints out. A flat story, the same for every network."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from train import checkpoint
from train.config import Recipe
from train.hardware import ScaledOptimizer, TrainingError, World, bare, device, precision
from train.run_log import Records
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
    anew: bool = False,
) -> int:
    """Trains until the last step, for `minutes` or until Ctrl-C; resumes what is in `out`. Gives the step reached.

    `grow` allows a resumed run to have modules that its checkpoint does not hold. `start_from` are the exported weights
    that a run begins with which has no checkpoint yet; `anew` takes the network alone and counts steps from 0. Raises
    TrainingError and CheckpointError; the checkpoint that was written last stays as it was.
    """
    world = World.join(recipe)
    try:
        run = _Run(task, recipe, out, console or Console(), world)
        run.resume(grow, start_from, anew)
        run.train(minutes)
        return run.step
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


class _Run:
    """Where a training stands: its step, the images seen, the average of the weights, the losses not yet logged."""

    def __init__(self, task: Task, recipe: Recipe, out: Path, console: Console, world: World) -> None:
        torch.set_num_threads(recipe.threads)
        cv2.setNumThreads(1)  # before workers are forked: in a worker, after OpenCV has been used, this never returns
        torch.manual_seed(recipe.seed)
        out.mkdir(parents=True, exist_ok=True)
        self.step = self.images = 0
        self._task, self._recipe, self._out, self._console, self._world = task, recipe, out, console, world
        self._where = device(recipe)
        self._averaged = _prepare(task, recipe, self._where)
        self._pending: dict[str, list[float]] = {}

    def resume(self, grow: bool, start_from: Path | None, anew: bool) -> None:
        """Goes on from the run's own checkpoint, else from weights that were exported, else from nothing."""
        if (self._out / CHECKPOINT).exists():
            content = checkpoint.read(self._out / CHECKPOINT)
            resumed = checkpoint.restore(content, self._task, self._averaged, self._recipe, grow)
        elif start_from is not None:
            resumed = checkpoint.start(start_from, self._task, self._averaged, self._recipe, anew)
        else:
            return
        self.step, self.images, self._pending = resumed.step, resumed.images, resumed.pending
        anew = f"; started anew: {', '.join(resumed.fresh)}" if resumed.fresh else ""
        self._console.print(f"resumed at step {self.step}, {self.images} images{anew}")

    def train(self, minutes: float) -> None:
        """Until the last step, for `minutes` or until Ctrl-C; a checkpoint is there afterwards."""
        for name, module in self._task.modules.items():
            self._task.modules[name] = self._world.wrap(module)
        batches = iter(self._loader())  # its workers are forked before anything starts threads
        records = Records(self._out, self.step, self._recipe.steps, self._console) if self._world.rank == 0 else None
        started = saved = time.monotonic()
        first_image = self.images
        with contextlib.suppress(KeyboardInterrupt), contextlib.closing(records or contextlib.ExitStack()):
            for batch in batches:
                late = time.monotonic() - started > minutes * 60
                if self.step >= self._recipe.steps or self._world.any(late, self._where):
                    break
                batch = {name: value.to(self._where, non_blocking=True) for name, value in batch.items()}
                self._take(batch)
                if records is not None:
                    records.advance(self.step)
                if self.step % LOG_EVERY == 0 or self.step == self._recipe.steps:
                    self._log(records, (self.images - first_image) / (time.monotonic() - started))
                if time.monotonic() - saved > self._recipe.save_every_s:
                    self._save()
                    saved = time.monotonic()
                    if records is not None and records.wants_pictures and isinstance(self._task, Illustrated):
                        records.show(self._task.pictures(batch), self.step)
        self._save()

    def _loader(self) -> DataLoader[Sample]:
        return DataLoader(
            _Samples(self._task, self._recipe.seed),
            batch_sampler=_numbers(self._recipe, self._world, self.step),  # type: ignore[arg-type]  # never asked its length
            num_workers=self._recipe.workers,
            prefetch_factor=4 if self._recipe.workers else None,
            pin_memory=self._where.type == "cuda",
        )

    def _take(self, batch: Mapping[str, Tensor]) -> None:
        """One step."""
        set_learning_rate(self._task, self._recipe, self.step)
        for module in self._task.modules.values():
            module.train()
        for name, value in self._task.train_step(batch, self.step / self._recipe.steps).items():
            self._pending.setdefault(name, []).append(value)
        self._averaged.update(self._task.modules["network"], self.step)
        self.step, self.images = self.step + 1, self.images + self._recipe.batch

    def _log(self, records: Records | None, rate: float) -> None:
        """The mean losses since the last time, over all processes; `rate` in images a second."""
        losses = self._world.mean({name: sum(each) / len(each) for name, each in self._pending.items()}, self._where)
        self._pending = {}
        if records is not None:
            schedule = self._task.schedule if isinstance(self._task, Illustrated) else None
            weights = schedule.at(self.step / self._recipe.steps) if schedule else {}
            left_min = (self._recipe.steps - self.step) * self._recipe.batch / rate / 60
            counts = {"step": self.step, "images": self.images, "images_per_s": round(rate, 2)}
            records.add(counts, losses, weights, left_min)

    def _save(self) -> None:
        if self._world.rank == 0:
            checkpoint.save(
                self._out / CHECKPOINT,
                self._task,
                self._averaged,
                self._recipe,
                self.step,
                self.images,
                self._pending,
            )


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


def _out_of_memory(recipe: Recipe) -> TrainingError:
    smaller = max(recipe.batch // 2, 1)
    return TrainingError(
        f"out of memory with {recipe.batch} pictures of {recipe.size_px} px a step: try --batch {smaller}; "
        "the checkpoint that was written last is untouched"
    )
