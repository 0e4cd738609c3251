"""What the training loop knows of a network: its weights, its samples, its step, its figures and its export."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from engines.contract import Image
from train.config import Recipe
from train.hardware import ScaledOptimizer
from train.schedule import LossSchedule

Sample = dict[str, np.ndarray]


@dataclass(frozen=True)
class ModelIO:
    """What `python -m train export` writes: the network with uint8 NHWC inputs and outputs, batch first.

    `inputs` and `outputs` map a name to its shape with N = 1; `dynamic` names the axes that may vary, by tensor.
    """

    module: nn.Module
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    dynamic: Mapping[str, Mapping[int, str]]


class Task(Protocol):
    """One network's training, made from a recipe and the folder that holds the data."""

    name: str
    modules: dict[str, nn.Module]  # all that has weights; "network" is the one that ships, EMA follows it
    optimizers: dict[str, Optimizer | ScaledOptimizer]  # the loop may put wrapped ones into either

    def sample(self, rng: np.random.Generator) -> Sample:
        """One training sample, arrays of equal shape from call to call. Runs in worker processes."""
        ...

    def train_step(self, batch: Mapping[str, Tensor], progress: float) -> dict[str, Tensor]:
        """One optimiser step. `progress` is 0..1 over the recipe; returns the losses by name, unweighted, detached."""
        ...

    def model_io(self, network: nn.Module) -> ModelIO: ...


@runtime_checkable
class Illustrated(Protocol):
    """A task that can also say what its losses weigh, and show what it does."""

    schedule: LossSchedule

    def pictures(self, batch: Mapping[str, Tensor]) -> Image:
        """A grid of some of a batch: HxWx3 uint8 BGR."""
        ...


@runtime_checkable
class SharesData(Protocol):
    """A task with data that its worker processes can share."""

    def open_data(self) -> None:
        """Opens it, before workers are forked. Raises DataError."""
        ...


TASKS = {
    "restore": "train.tasks.restore:RestoreTask",
    "hidden": "train.tasks.hidden:HiddenTask",
    "faces": "train.tasks.faces:FacesTask",
    "embed": "train.tasks.embed:EmbedTask",
}


def load_task(recipe: Recipe, data: Path) -> Task:
    """The task of `recipe.network`, with `data` as the folder that holds train/, eval/, occluders/, ..."""
    module, _, name = TASKS[recipe.network].partition(":")
    task: Any = getattr(importlib.import_module(module), name)
    torch.manual_seed(recipe.seed)  # its networks begin the same
    return task(recipe, data)


#: Where a network's figures come from: a function of runners by name, the data, a folder for sheets or None, how many
#: pictures of each kind at most or None, processor threads, and a console for progress or None.
EVALUATIONS = {
    "restore": "train.evaluation.restoration.evaluate:evaluate",
    "hidden": "train.evaluation.hidden:evaluate",
    "faces": "train.evaluation.faces:evaluate",
    "embed": "train.evaluation.embed:evaluate",
}

#: The networks whose choices are made on people kept from training (`dev`), so that `eval` is for the end.
DEV_SETS = ("restore",)


def split_option(network: str, split: str) -> dict[str, str]:
    """The argument that makes an evaluation use `split`; of those without a dev set, none."""
    return {"split": split} if network in DEV_SETS else {}


def load_evaluation(network: str) -> Any:
    """The function of EVALUATIONS; it gives a train.evaluation.report.EvalReport."""
    module, _, name = EVALUATIONS[network].partition(":")
    return getattr(importlib.import_module(module), name)
