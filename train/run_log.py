"""The log of a run: log.jsonl always, TensorBoard where it is installed, a progress bar in a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engines.contract import Image

LOG = "log.jsonl"


class RunLog:
    """Writes into a run's folder. Of an earlier part of the run, what lies after `step` (killed then) is forgotten."""

    def __init__(self, out: Path, step: int, steps: int, console: Console) -> None:
        self._log = out / LOG
        self._console = console
        if self._log.exists():
            lines = self._log.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = "".join(line for line in lines if _step_of(line) <= step)
            self._log.write_text(kept, encoding="utf-8")
        self._board = _open_board(out, step)
        columns = (
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._bar = self._progress.add_task("fit", total=steps, completed=step, said="")
        self._progress.start()

    def advance(self, step: int) -> None:
        self._progress.update(self._bar, completed=step)

    def add(
        self, record: Mapping[str, Any], losses: Mapping[str, float], weights: Mapping[str, float], left_min: float
    ) -> None:
        """A line of the log: counts in `record`, the losses' means, and what each loss weighs now."""
        content = {**record, **{name: round(value, 5) for name, value in losses.items()}}
        if weights:
            content["weights"] = {name: round(value, 5) for name, value in weights.items()}
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")
        step, rate = record["step"], record["images_per_s"]
        said = f"{rate:.1f} images/s  " + "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
        if self._console.is_terminal:
            self._progress.update(self._bar, said=said)
        else:
            self._console.print(f"step {step}  {left_min:.0f} min left  {said}", soft_wrap=True)
        if self._board is not None:
            for name, value in losses.items():
                self._board.add_scalar(f"loss/{name}", value, step)
            for name, value in weights.items():
                self._board.add_scalar(f"weight/{name}", value, step)
            self._board.add_scalar("images_per_s", rate, step)

    @property
    def wants_pictures(self) -> bool:
        return self._board is not None

    def show(self, picture: Image, step: int) -> None:
        """A grid of pictures (HxWx3 uint8 BGR) for TensorBoard."""
        if self._board is not None:
            self._board.add_image("pictures", np.ascontiguousarray(picture[..., ::-1]), step, dataformats="HWC")

    def close(self) -> None:
        self._progress.stop()
        if self._board is not None:
            self._board.close()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # cut off in the middle


def _open_board(out: Path, step: int) -> Any:
    """A TensorBoard writer, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"), purge_step=step)
