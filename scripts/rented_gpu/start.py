"""Starts one of the runs, or goes on with it, and sends its weights back every two minutes.

    python3 -m scripts.rented_gpu.start coarse --data DATA --work WORK --back BACK --minutes 8.5 [options of `fit`]

BACK is what returns from the machine. A run goes on from its checkpoint in WORK; on a new machine from what came back
from the lost one (--pieces). Else it starts from the run before it, from the same places; else from what ships.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from scripts.rented_gpu import weights_back
from train import checkpoint
from train.loop import CHECKPOINT
from train.run_log import LOG

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "train" / "weights" / "restore.safetensors"
#: How often it is looked whether the run has written a checkpoint; it writes one every two minutes.
LOOK_S = 2.0


@dataclass(frozen=True)
class Run:
    """What `fit` is told, and the run whose weights it starts with."""

    options: tuple[str, ...]
    after: str | None = None


_JUDGED = (
    *("--workers", "15", "--full-weights", "--freeze-statistics", "--adversaries-from", "0.02"),
    *("--weight", "adv_projected=0.03", "--weight", "feature_matching=0.5", "--weight", "identity=1"),
)
#: Stages 1, 3 and 6 of docs/experiments.md, for a machine that makes some 300 samples a second with 15 workers.
RUNS = {
    "coarse": Run(("--size", "128", "--batch", "64", "--steps", "2400", "--learning-rate", "4e-4", *_JUDGED)),
    "full": Run(
        ("--size", "256", "--batch", "32", "--steps", "2400", "--learning-rate", "2e-4", *_JUDGED), after="coarse"
    ),
    "settle": Run(
        ("--size", "256", "--batch", "64", "--steps", "1000", "--learning-rate", "2e-5", *_JUDGED), after="full"
    ),
}


def starting_weights(name: str, work: Path, pieces: Path) -> list[str]:
    """The options of `fit` for the weights of a run: its own that came back, else those of the run before it."""
    if _there(name, work, pieces):
        return ["--start-from", str(_weights(name, work))]
    before = RUNS[name].after
    file = _weights(before, work) if before is not None and _there(before, work, pieces) else SHIPPED
    return ["--start-from", str(file), "--anew"]


def _there(name: str, work: Path, pieces: Path) -> bool:
    """Whether there are weights of a run, on this machine or in pieces that came back from another."""
    return _weights(name, work).is_file() or weights_back.fetch(name, pieces, _weights(name, work))


def _weights(name: str, work: Path) -> Path:
    return work / f"{name}.safetensors"


def follow(training: subprocess.Popen[bytes], run: Path, back: Path) -> int:
    """Sends each new checkpoint of a run back until its process ends; gives that one's exit code."""
    sent = _written(run)
    while training.poll() is None:
        time.sleep(LOOK_S)
        sent = _send_new(run, back, sent)
    _send_new(run, back, sent)
    return training.returncode


def _send_new(run: Path, back: Path, sent: int) -> int:
    """Sends the run's checkpoint if it is another than the one that was sent; gives when it was written."""
    written = _written(run)
    if written != sent:
        content = checkpoint.read(run / CHECKPOINT)
        checkpoint.write_weights(_weights(run.name, run.parent), content)
        weights_back.send(_weights(run.name, run.parent), content["step"], run.name, back)
        shutil.copy(run / LOG, back / f"{run.name}-{LOG}")
    return written


def _written(run: Path) -> int:
    """When the run's checkpoint was written, 0 without one."""
    return (run / CHECKPOINT).stat().st_mtime_ns if (run / CHECKPOINT).is_file() else 0


def command(name: str, data: Path, work: Path, pieces: Path, minutes: float, more: Iterable[str]) -> list[str]:
    """The command line that trains a run, or goes on with it."""
    fit = [sys.executable, "-m", "train", "fit", "restore", "--data", str(data), "--out", str(work / name)]
    return [*fit, "--minutes", str(minutes), *starting_weights(name, work, pieces), *RUNS[name].options, *more]


def main(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help=f"one of {', '.join(RUNS)}")],
    data: Annotated[Path, typer.Option(help="the data that was unpacked")] = Path("data"),
    work: Annotated[Path, typer.Option(help="folder of the runs")] = Path("runs"),
    back: Annotated[Path, typer.Option(help="folder that comes back")] = Path("back"),
    pieces: Annotated[Path, typer.Option(help="folder of what came back from a machine that is lost")] = Path("pieces"),
    minutes: Annotated[float, typer.Option(help="stop after this time; start again to go on")] = 8.5,
) -> None:
    """Trains a run; options that follow go to `fit`."""
    if run not in RUNS:
        raise typer.BadParameter(f"there is no run `{run}`; there are: {', '.join(RUNS)}")
    back.mkdir(parents=True, exist_ok=True)
    work = work.resolve()
    training = subprocess.Popen(command(run, data.resolve(), work, pieces, minutes, context.args), cwd=ROOT)
    raise SystemExit(follow(training, work / run, back))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(main)
    app()
