"""Weights in files small enough to come back, so that a run that is lost loses minutes.

Two sets take turns: while one is being replaced, the other is whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from scripts.rented_gpu import blocks

#: A file that comes back is smaller than 16 MiB; so are these.
PIECE_BYTES = 12 * blocks.MIB
SETS = ("a", "b")


def send(weights: Path, step: int, run: str, folder: Path) -> None:
    """Puts the weights of a run at a step into `folder`, in pieces, in the place of the older set."""
    name = f"{run}-{min(SETS, key=lambda each: _step(folder / f'{run}-{each}.json'))}"
    (folder / f"{name}.json").unlink(missing_ok=True)
    pieces = blocks.split(weights.read_bytes(), name, folder, PIECE_BYTES)
    blocks.replace(folder / f"{name}.json", json.dumps({"step": step, "pieces": pieces}).encode())


def fetch(run: str, folder: Path, out: Path) -> bool:
    """Joins the newest set of `run` that is whole into the file `out`; whether there is one."""
    for note in _notes(run, folder):
        try:
            content = blocks.join(json.loads(note.read_text(encoding="utf-8"))["pieces"], folder)
        except blocks.KitError:
            continue
        out.parent.mkdir(parents=True, exist_ok=True)
        blocks.replace(out, content)
        return True
    return False


def _notes(run: str, folder: Path) -> Iterator[Path]:
    """The notes of the sets that came back, the newest first."""
    notes = (folder / f"{run}-{name}.json" for name in SETS)
    yield from sorted((note for note in notes if note.is_file()), key=_step, reverse=True)


def _step(note: Path) -> int:
    return int(json.loads(note.read_text(encoding="utf-8"))["step"]) if note.is_file() else -1
