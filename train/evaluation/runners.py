"""A network as a function of uint8 arrays, from a checkpoint or an ONNX file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from rich.console import Console

from train import checkpoint, loop
from train.config import Recipe
from train.data.face_set import DataError
from train.onnx_runner import Arrays, Runner, onnx_runner
from train.task import ModelIO, Task, load_task

T = TypeVar("T")

#: What of a recipe decides which weights a network has.
_PARTS = ("attention", "blocks", "copy")


def in_turn(networks: Mapping[str, T], threads: int, console: Console | None) -> Iterator[tuple[str, T]]:
    """Each network with its name, which goes to the console; torch computes in so many threads."""
    torch.set_num_threads(threads)
    for name, network in networks.items():
        if console is not None:
            console.print(f"looking with {name}")
        yield name, network


def torch_runner(model_io: ModelIO) -> Runner:
    """The network as torch computes it."""
    module = model_io.module.eval()

    @torch.no_grad()
    def run(feeds: Mapping[str, np.ndarray]) -> Arrays:
        outputs = module(*(torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in model_io.inputs))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return {name: output.numpy() for name, output in zip(model_io.outputs, outputs, strict=True)}

    return run


def names_of(paths: Sequence[Path]) -> dict[str, Path]:
    """A short name for each network, that tells it from the others: its file's, with as many folders as that takes."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.with_suffix("").parts[-depth:]) for path in paths]
        if len(set(names)) == len(paths):
            return dict(zip(names, paths, strict=True))
    raise DataError("the same network was given twice; give each once")


def open_runner(recipe: Recipe, data: Path, path: Path, threads: int) -> Runner:
    """An ONNX file, a checkpoint with the parts that it was trained with, or a run's folder.

    Raises DataError, CheckpointError.
    """
    if path.suffix == ".onnx":
        return onnx_runner(path, threads)
    file = path / loop.CHECKPOINT if path.is_dir() or not path.suffix else path
    task, _ = open_checkpoint(recipe, data, file)
    return torch_runner(task.model_io(task.modules["network"]))


def open_checkpoint(recipe: Recipe, data: Path, file: Path) -> tuple[Task, dict[str, Any]]:
    """The task of a checkpoint with the parts that it was trained with, its average loaded, and the file's content."""
    kept = checkpoint.read(file)["recipe"]
    if kept["network"] != recipe.network:
        raise checkpoint.CheckpointError(f"{file} is of `{kept['network']}`, not of `{recipe.network}`")
    task = load_task(recipe.but(**{part: kept[part] for part in _PARTS if part in kept}), data)
    return task, checkpoint.load_averaged(file, task.modules["network"])
