"""What training runs on: the device, its precision, and how a loss goes down there, alone or with other processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from train.config import Recipe


class TrainingError(Exception):
    """Training can't go on; the message says why, and what to do where something can be done."""


def device(recipe: Recipe) -> torch.device:
    """The device of the recipe; `auto` is the GPU where there is one. Raises TrainingError."""
    wanted = recipe.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda"):
        if not torch.cuda.is_available():
            raise TrainingError(
                "this machine has no CUDA that torch can use: install torch's build for your GPU (pytorch.org), "
                "or leave out --device"
            )
        return torch.device(wanted if ":" in wanted else f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
    if wanted != "cpu":
        raise TrainingError(f"there is no device `{wanted}`; there are: auto, cpu, cuda, cuda:N")
    return torch.device(wanted)


def precision(recipe: Recipe) -> str:
    """`bf16`, `fp16` or `off`. `auto` is bf16 where it is native, else fp16 on a GPU and full precision elsewhere."""
    if recipe.autocast != "auto":
        return recipe.autocast
    if device(recipe).type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    can = torch.cpu.get_capabilities()
    return "bf16" if can.get("amx_bf16") or can.get("avx512_bf16") else "off"


def autocast(recipe: Recipe) -> contextlib.AbstractContextManager[Any]:
    """Mixed precision as the recipe sets it; keep squares and logarithms outside."""
    kind = precision(recipe)
    if kind == "off":
        return contextlib.nullcontext()
    return torch.autocast(device(recipe).type, dtype=torch.bfloat16 if kind == "bf16" else torch.float16)


class ScaledOptimizer:
    """An optimiser whose loss is scaled up before the way back: gradients in fp16 would vanish otherwise."""

    def __init__(self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        self.optimizer = optimizer
        self.scaler = scaler

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    def state_dict(self) -> dict[str, Any]:
        return {**self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes a state with or without a scaler's: a run may go on in another precision."""
        self.optimizer.load_state_dict({name: value for name, value in state.items() if name != "scaler"})
        if state.get("scaler"):
            self.scaler.load_state_dict(dict(state["scaler"]))


def descend(
    loss: Tensor, optimizer: torch.optim.Optimizer | ScaledOptimizer, module: nn.Module, clip: float = 5.0
) -> None:
    """One step down `loss`, with the gradient's norm clipped. A scaled step that overflows is left out."""
    if not isinstance(optimizer, ScaledOptimizer):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()
        return
    optimizer.optimizer.zero_grad(set_to_none=True)
    optimizer.scaler.scale(loss).backward()
    optimizer.scaler.unscale_(optimizer.optimizer)
    nn.utils.clip_grad_norm_(module.parameters(), clip)
    optimizer.scaler.step(optimizer.optimizer)
    optimizer.scaler.update()


def check_finite(losses: Mapping[str, Tensor]) -> None:
    """Raises TrainingError with the name of the first loss that is not finite.

    It waits for the device, once for all of them: once a step is enough.
    """
    finite = torch.stack([value.detach().float() for value in losses.values()]).isfinite().tolist()
    for name, is_finite in zip(losses, finite, strict=True):
        if not is_finite:
            raise TrainingError(f"the loss `{name}` is not finite")


def detached(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The losses without their graphs, still on their device: a float would wait for it."""
    return {name: value.detach() for name, value in losses.items()}


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together: torchrun's, or this one alone. Each takes its share of every batch."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def join(recipe: Recipe) -> ProcessGroup:
        """Joins the others that torchrun started, if any. Raises TrainingError where the batch can't be shared."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return ProcessGroup()
        if recipe.batch % size:
            raise TrainingError(f"a batch of {recipe.batch} can't be shared by {size} processes; change --batch")
        chosen = device(recipe)
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        return ProcessGroup(torch.distributed.get_rank(), size)

    def leave(self) -> None:
        if self.size > 1:
            torch.distributed.destroy_process_group()

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over all processes; on GPUs batch norm sees the whole batch too."""
        if self.size == 1 or not any(parameter.requires_grad for parameter in module.parameters()):
            return module
        if next(module.parameters()).is_cuda:
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return DistributedDataParallel(module)

    def mean(self, values: Mapping[str, float], where: torch.device) -> dict[str, float]:
        """The mean of each value over all processes."""
        if self.size == 1 or not values:
            return dict(values)
        each = torch.tensor(list(values.values()), dtype=torch.float64, device=where)
        torch.distributed.all_reduce(each)
        return dict(zip(values, (each / self.size).tolist(), strict=True))

    def any(self, flag: bool, where: torch.device) -> bool:
        """Whether it is so for one of the processes: they have to stop together."""
        if self.size == 1:
            return flag
        flags = torch.tensor([float(flag)], device=where)
        torch.distributed.all_reduce(flags)
        return bool(flags.item() > 0)


def bare(module: nn.Module) -> nn.Module:
    """The module itself, without what joins it to other processes."""
    return module.module if isinstance(module, DistributedDataParallel) else module
