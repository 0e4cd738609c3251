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
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, Dataset

from train import checkpoint
from train.config import Recipe
from train.hardware import ProcessGroup, ScaledOptimizer, TrainingError, bare, device, precision
from train.run_log import RunLog
from train.task import Illustrated, Sample, SharesData, Task

CHECKPOINT = "last.pt"
LOG_EVERY = 50


class _Samples(Dataset[Sample]):
    """The endless samples of a run by their number: the same after each resumption, with any number of workers."""

    def __init__(self, task: Task, seed: int) -> None:
        self._task = task
        self._seed = seed

    def __getitem__(self, number: int) -> Sample:
        return self._task.sample(np.random.default_rng([self._seed, number]))


def _numbers(recipe: Recipe, world: ProcessGroup, step: int) -> Iterator[list[int]]:
    """The numbers of the samples of each step from `step` on: this process's share of the batch."""
    while True:
        first = step * recipe.batch
        yield list(range(first + world.rank, first + recipe.batch, world.size))
        step += 1


def set_learning_rate(task: Task, recipe: Recipe, step: int) -> None:
    """Warm-up, then a cosine down to 5 %, over the whole recipe. Scales each group's own `base_lr`."""
    warmup = min(1.0, (step + 1) / max(recipe.warm_up, 1))
    cosine = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / recipe.steps)))
    for optimizer in task.optimizers.values():
        for group in optimizer.param_groups:
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
    world = ProcessGroup.join(recipe)
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


class _PendingLosses:
    """The losses of the steps since the last line of the log. They stay on their device until they are logged."""

    def __init__(self, known: Mapping[str, list[float]] | None = None) -> None:
        self._known = {name: list(values) for name, values in (known or {}).items()}
        self._waiting: dict[str, list[Tensor]] = {}

    def add(self, losses: Mapping[str, Tensor]) -> None:
        for name, value in losses.items():
            self._waiting.setdefault(name, []).append(value)

    def floats(self) -> dict[str, list[float]]:
        for name, values in self._waiting.items():
            self._known.setdefault(name, []).extend(torch.stack(values).tolist())
        self._waiting.clear()
        return self._known

    def means(self) -> dict[str, float]:
        return {name: sum(values) / len(values) for name, values in self.floats().items()}


class _Run:
    """Where a training stands: its step, the images seen, the average of the weights, the losses not yet logged."""

    def __init__(self, task: Task, recipe: Recipe, out: Path, console: Console, world: ProcessGroup) -> None:
        torch.set_num_threads(recipe.threads)
        cv2.setNumThreads(1)  # before workers are forked: in a worker, after OpenCV has been used, this never returns
        torch.manual_seed(recipe.seed)
        out.mkdir(parents=True, exist_ok=True)
        self.step = self.images = 0
        self._task, self._recipe, self._out, self._console, self._world = task, recipe, out, console, world
        self._where = device(recipe)
        self._averaged = _prepare(task, recipe, self._where)
        self._base_rates = {
            name: [group["lr"] for group in optimizer.param_groups] for name, optimizer in task.optimizers.items()
        }
        self._pending = _PendingLosses()

    def resume(self, grow: bool, start_from: Path | None, anew: bool) -> None:
        """Goes on from the run's own checkpoint, else from weights that were exported, else from nothing.

        Learning rates are always the recipe's: a checkpoint's optimisers would bring those of the stage before.
        """
        self._take_state(grow, start_from, anew)
        for name, optimizer in self._task.optimizers.items():
            for group, rate in zip(optimizer.param_groups, self._base_rates[name], strict=True):
                group["base_lr"] = rate
        if self._recipe.freeze_statistics:
            _check_statistics(self._task.modules["network"])

    def _take_state(self, grow: bool, start_from: Path | None, anew: bool) -> None:
        if (self._out / CHECKPOINT).exists():
            content = checkpoint.read(self._out / CHECKPOINT)
            resumed = checkpoint.restore(content, self._task, self._averaged, self._recipe, grow)
        elif start_from is not None:
            resumed = checkpoint.start(start_from, self._task, self._averaged, self._recipe, anew)
        else:
            return
        self.step, self.images, self._pending = resumed.step, resumed.images, _PendingLosses(resumed.pending)
        anew = f"; started from scratch: {', '.join(resumed.fresh)}" if resumed.fresh else ""
        self._console.print(f"resumed at step {self.step}, {self.images} images{anew}")

    def train(self, minutes: float) -> None:
        """Until the last step, for `minutes` or until Ctrl-C; a checkpoint is there afterwards."""
        for name, module in self._task.modules.items():
            self._task.modules[name] = self._world.wrap(module)
        batches = iter(self._loader())  # its workers are forked before anything starts threads
        records = RunLog(self._out, self.step, self._recipe.steps, self._console) if self._world.rank == 0 else None
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
        if isinstance(self._task, SharesData):
            self._task.open_data()
        return DataLoader(
            _Samples(self._task, self._recipe.seed),
            batch_sampler=_numbers(self._recipe, self._world, self.step),  # type: ignore[arg-type]  # its length is never asked for
            num_workers=self._recipe.workers,
            prefetch_factor=4 if self._recipe.workers else None,
            pin_memory=self._where.type == "cuda",
        )

    def _take(self, batch: Mapping[str, Tensor]) -> None:
        """One step."""
        set_learning_rate(self._task, self._recipe, self.step)
        for module in self._task.modules.values():
            module.train()
        if self._recipe.freeze_statistics:
            freeze_statistics(self._task.modules["network"])
        self._pending.add(self._task.train_step(batch, self.step / self._recipe.steps))
        self._averaged.update(self._task.modules["network"], self.step)
        self.step, self.images = self.step + 1, self.images + self._recipe.batch

    def _log(self, records: RunLog | None, rate: float) -> None:
        """The mean losses since the last time, over all processes; `rate` in images a second."""
        losses = self._world.mean(self._pending.means(), self._where)
        self._pending = _PendingLosses()
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
                self._pending.floats(),
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


def freeze_statistics(network: nn.Module) -> None:
    """Lets batch norm use its running statistics and keep them; its scale and shift still learn."""
    for norm in _norms(network):
        norm.eval()


def _check_statistics(network: nn.Module) -> None:
    """Raises TrainingError for a network that has seen no picture: its statistics are made up."""
    if not any(int(norm.num_batches_tracked or 0) for norm in _norms(network)):
        raise TrainingError(
            "there are no statistics to freeze yet: train without --freeze-statistics first, or name weights with "
            "--start-from"
        )


def _norms(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def _out_of_memory(recipe: Recipe) -> TrainingError:
    smaller = max(recipe.batch // 2, 1)
    return TrainingError(
        f"out of memory with {recipe.batch} pictures of {recipe.size_px} px a step: try --batch {smaller}; "
        "the checkpoint that was written last is untouched"
    )
