"""Checkpoints: written whole or not at all, read without executing anything that they hold."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from train.config import Recipe
from train.hardware import bare
from train.task import Task


class CheckpointError(Exception):
    """A checkpoint can't be used; the message says why."""


class AveragedWeights:
    """Exponential moving average of a network's weights and buffers."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Follows the network; the first steps follow faster, since the start is noise."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, value in bare(network).state_dict().items():
            if value.dtype.is_floating_point:
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes over what a checkpoint holds, on the device where the network is."""
        for name, value in self.state.items():
            value.copy_(state[name])


def save(
    path: Path,
    task: Task,
    averaged: AveragedWeights,
    recipe: Recipe,
    step: int,
    images: int,
    pending: Mapping[str, list[float]],
) -> None:
    """Writes everything a run needs to go on, to a temporary file first. Raises OSError (a full disk, say).

    `pending` are the losses of the steps since the last line of the log.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    content = {
        "modules": {name: bare(module).state_dict() for name, module in task.modules.items()},
        "optimizers": {name: optimizer.state_dict() for name, optimizer in task.optimizers.items()},
        "averaged": averaged.state,
        "recipe": asdict(recipe),
        "step": step,
        "images": images,
        "pending": dict(pending),
        "random": torch.get_rng_state(),
        "versions": {"torch": str(torch.__version__), "python": platform.python_version(), "git": _git_head()},
    }
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except RuntimeError as error:  # what torch raises when a write fails
        raise OSError(errno.EIO, f"the checkpoint can't be written: {str(error).splitlines()[0]}") from error
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint. Raises CheckpointError for what is none, or holds more than tensors and values."""
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(f"{path} is not a checkpoint that can be read safely: {first}") from error
    if not isinstance(content, dict) or "averaged" not in content or "step" not in content:
        raise CheckpointError(f"{path} is not a checkpoint of this program")
    return content


@dataclass(frozen=True)
class Resumed:
    """Where a run goes on; `fresh` names the modules that the checkpoint did not hold and that start from scratch."""

    step: int
    images: int
    fresh: list[str]
    pending: dict[str, list[float]]


def restore(
    content: dict[str, Any], task: Task, averaged: AveragedWeights, recipe: Recipe, grow: bool = False
) -> Resumed:
    """Puts a checkpoint's state into `task`.

    A module that it does not hold in the task's shape (a discriminator that was added since) is an error, and with
    `grow` starts anew; the network itself never does. Raises CheckpointError.
    """
    if content["recipe"]["network"] != recipe.network:
        raise CheckpointError(f"this checkpoint is of `{content['recipe']['network']}`, not of `{recipe.network}`")
    fresh = [name for name, module in task.modules.items() if not _fits(module, content["modules"].get(name, {}))]
    if "network" in fresh:
        _load(task.modules["network"], content["modules"].get("network", {}), "network")
    if fresh and not grow:
        names = ", ".join(f"`{name}`" for name in fresh)
        raise CheckpointError(
            f"this checkpoint has no {names} as the recipe wants it; go on with --grow (what is missing starts "
            "from scratch), or start another run with --out"
        )
    for name in task.modules.keys() - fresh:
        task.modules[name].load_state_dict(content["modules"][name])
        if name in task.optimizers:
            task.optimizers[name].load_state_dict(content["optimizers"][name])
    averaged.load(content["averaged"])
    torch.set_rng_state(content["random"])
    return Resumed(int(content["step"]), int(content["images"]), fresh, content.get("pending", {}))


def write_weights(path: Path, content: Mapping[str, Any]) -> None:
    """The averaged network and its discriminators out of a checkpoint's content, in half precision: a quarter of it.

    Another run can start from this file (`start`). It is written whole or not at all; raises OSError.
    """
    modules = content["modules"] | {"network": content["averaged"]}
    tensors = {
        f"{name}/{key}": (value.half() if value.is_floating_point() else value).contiguous()
        for name, state in modules.items()
        for key, value in state.items()
    }
    facts = {"network": content["recipe"]["network"], "step": str(content["step"]), "images": str(content["images"])}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        save_file(tensors, temporary, facts)
        temporary.replace(path)
    except SafetensorError as error:
        raise OSError(errno.EIO, f"the weights can't be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def start(path: Path, task: Task, averaged: AveragedWeights, recipe: Recipe, anew: bool = False) -> Resumed:
    """Puts what `write_weights` wrote into `task`, whose optimisers start from scratch. Raises CheckpointError.

    With `anew` only the network is taken: steps count from 0, and discriminators, learning rate and ramps begin again.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  it is no dict
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} has no weights that can be read: {error}") from error
    if facts.get("network") != recipe.network:
        raise CheckpointError(f"{path} is of `{facts.get('network')}`, not of `{recipe.network}`")
    step, images = 0 if anew else int(facts["step"]), int(facts["images"])  # what the network saw, it saw
    if step >= recipe.steps:
        raise CheckpointError(f"{path} is at step {step} already; give a larger total with --steps")
    taken = ["network"] if anew else list(task.modules)
    for name in taken:
        mine = {key.removeprefix(f"{name}/"): tensors[key] for key in tensors if key.startswith(f"{name}/")}
        _load(task.modules[name], _with_its_parts(task.modules[name], mine), name)
    averaged.load(task.modules["network"].state_dict())
    return Resumed(step, images, ["optimisers", *(name for name in task.modules if name not in taken)], {})


def _with_its_parts(module: nn.Module, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`state` with the module's own NEW_PARTS where it has nothing of them, and without those that the module lacks."""
    names: tuple[str, ...] = getattr(module, "NEW_PARTS", ())
    own = module.state_dict()
    lacking = tuple(name for name in names if not any(key.startswith(name) for key in state))
    kept = {key: value for key, value in state.items() if key in own or not key.startswith(names)}
    return {key: value for key, value in own.items() if key.startswith(lacking)} | kept


def _fits(module: nn.Module, state: Mapping[str, torch.Tensor]) -> bool:
    wanted = module.state_dict()
    return wanted.keys() == state.keys() and all(state[name].shape == value.shape for name, value in wanted.items())


def load_averaged(path: Path, network: nn.Module) -> dict[str, Any]:
    """Puts a checkpoint's averaged weights into `network`; gives the checkpoint's content."""
    content = read(path)
    _load(network, content["averaged"], "network")
    network.eval()
    return content


def _load(module: nn.Module, state: dict[str, torch.Tensor], name: str) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(f"the checkpoint's `{name}` has another shape: {first}") from error


def _git_head() -> str:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, cwd=Path(__file__).parent
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"
