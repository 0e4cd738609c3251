"""A program on a display of its own: started, watched until it shows the restored picture, ended."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from scripts.harness.readers import product, session
from scripts.harness.readers.programs import films, sight, table
from scripts.harness.readers.programs.films import Films
from scripts.harness.readers.programs.screen import may_show_film, screen
from scripts.harness.readers.session import background

SCREEN = "1600x1000"
#: Networks, a program and a display that is drawn by the processor share one machine.
PICTURES, RATE = 24, 10.0
WITHIN_S = 120.0
#: Frames with different numbers that a program has to show, so that a picture that stands still is none.
FRAMES = 3


class NotShown(AssertionError):
    """A program did not show the camera's picture."""


@contextmanager
def camera(folder: Path) -> Iterator[tuple[dict[str, str], Films]]:
    """A PipeWire session with the camera in it, that restores the bare film; yields the films, too."""
    made = films.load(folder) if (folder / "restored.mp4").exists() else films.make(folder, PICTURES, rate=RATE)
    with session.pipewire_session(folder / "session", inside=table.inside) as running:
        # On a busy machine, too, only frames that the networks have seen go out.
        environment = {**running, "OCCLUFIX_RATE": str(RATE), "OCCLUFIX_ON_FAILURE": "hold"}
        with product.started(environment, f"--source={made.bare_path}", "--sink=pipewire"):
            product.wait_for_networks(environment)
            yield environment, made


def prove(name: str, environment: Mapping[str, str], made: Films, folder: Path) -> dict[str, Any]:
    """What the screenshots of a program on the camera in PipeWire prove; the last one is kept in `folder`.

    Raises NotShown.
    """
    program = table.PROGRAMS[name]
    assert program.pipewire is not None
    command = table.inside(program.pipewire(folder, table.NODE))
    for _ in range(program.starts - 1):
        try:
            return _watch(command, environment, made, folder)
        except Crashed:
            continue
    return _watch(command, environment, made, folder)


class Crashed(NotShown):
    """It ended by a signal."""


def _watch(command: list[str], environment: Mapping[str, str], made: Films, folder: Path) -> dict[str, Any]:
    log, seen, newest = folder / "program.log", dict[int, sight.Sighting](), None
    with (
        screen(environment, folder, SCREEN) as (around, look),
        background(command, around, log) as process,
    ):
        began = time.monotonic()
        while len(seen) < FRAMES:
            _check(process, began, f"newest sighting {newest}; it said: {log.read_text(errors='replace')[-1500:]}")
            shot = look()
            cv2.imwrite(str(folder / "screenshot.png"), shot)
            newest = sight.find(shot, made) if may_show_film(shot) else None
            if newest is not None and newest.is_restored:
                seen[newest.number] = newest
            time.sleep(0.2)
    return {"numbers": list(seen), "seconds": round(time.monotonic() - began, 1), **newest.told()}


def _check(process: subprocess.Popen[bytes], began: float, told: str) -> None:
    code = process.poll()
    if code is not None:
        raise (Crashed if code < 0 or code > 128 else NotShown)(f"it ended with {code}; {told}")
    if time.monotonic() - began > WITHIN_S:
        raise NotShown(f"not within {WITHIN_S:.0f} s; {told}")
