"""Measures the camera in PipeWire on this machine: python -m scripts.harness.readers.measure [SECONDS]

A camera of numbered frames at 1280x720 and 30 per second passes through the daemon with the real networks to GStreamer.
Prints one JSON object: time until the camera is listed, time until a reader's first frame, losses, age of a frame at
the reader, and cost while no program reads. Times depend on this machine and its other `load`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from occlufix_vcam.core.errors import OccluFixError
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.runtime.daemon import Daemon, Parts
from occlufix_vcam.sources import SourceOptions
from occlufix_vcam.sources.demo.source import Demo
from occlufix_vcam.sources.pace import Pace
from occlufix_vcam.system.v4l2 import OWN_LABEL
from scripts.harness.readers import film, numbered, product, session

ROUNDS = 3
IDLE_S = 20.0


class NumberedCamera:
    """Camera that is opened on demand; it notes when it captured each frame."""

    description, identity, size, rate = "numbered frames", "0", (1280, 720), 30.0

    def __init__(self, diary: Path) -> None:
        demo = Demo("demo", SourceOptions(*self.size, self.rate, realtime=False))
        first = round(product.MASKED_S * self.rate)
        self._faces = [demo.render(first + step) for step in range(30)]
        self._diary = diary
        self._pace = Pace(self.rate, True, time.monotonic, time.sleep)
        self._index = 0
        self._written: Any = None

    def open(self) -> NumberedCamera:
        """Opens it; its clock starts then."""
        self._pace = Pace(self.rate, True, time.monotonic, time.sleep)
        self._index = 0
        self._written = self._diary.open("a")
        return self

    def read(self, timeout: float) -> Frame | None:
        due = self._pace.wait(self._index, timeout)
        if due is None:
            return None
        captured_at = time.monotonic()
        image = numbered.stamp(self._faces[due % len(self._faces)], due % numbered.MANY)
        self._index = due + 1
        self._written.write(f"{due % numbered.MANY} {captured_at}\n")
        self._written.flush()
        return Frame(image, due, captured_at)

    def close(self) -> None:
        self._written.close()


def run_daemon(diary: Path) -> None:
    camera = NumberedCamera(diary)
    parts = Parts(open_camera=lambda _: camera.open(), find_camera=lambda _: camera.description)
    daemon = Daemon(Settings().but(sinks=("pipewire",), source="0"), parts)
    sys.stdout.write(f"built {time.monotonic()}\n")
    sys.stdout.flush()
    daemon.run()


def measure(folder: Path, seconds: float) -> dict[str, Any]:
    told: dict[str, Any] = {"load before": os.getloadavg()[0]}
    with session.pipewire_session(folder) as environment:
        forget_files()
        told["cold start"] = start_to_menu(environment)
        told["warm starts"] = [start_to_menu(environment) for _ in range(ROUNDS)]
        told |= idle(environment, folder)
        diary, log = folder / "diary.txt", folder / "daemon.log"
        diary.touch()
        command = [sys.executable, "-m", "scripts.harness.readers.measure", "--daemon", str(diary)]
        with session.background(command, {**environment, "PYTHONPATH": str(product.ROOT)}, log):
            session.wait_for(lambda: OWN_LABEL in session.things(environment, "Node"), "the camera in the list")
            opened = [first_pictures(environment, folder) for _ in range(ROUNDS)]
            told["open to first picture, s"] = [round(any_picture, 2) for any_picture, _ in opened]
            told["open to first camera picture, on demand, s"] = [round(camera, 2) for _, camera in opened]
            told |= watch(environment, folder, diary, seconds)
    told["load after"] = os.getloadavg()[0]
    return told


def forget_files() -> None:
    """Makes the system read the program and its libraries from disk again, except those that others have open."""
    for folder in (Path(sys.prefix), product.ROOT / "engines", product.ROOT / "occlufix_vcam"):
        for file in folder.rglob("*"):
            if file.is_file() and not file.is_symlink():
                with file.open("rb") as opened:
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def start_to_menu(environment: dict[str, str]) -> dict[str, float]:
    """Seconds from the command line `start` to the camera in PipeWire's list, and to the loaded networks."""
    command = [sys.executable, "-m", "occlufix_vcam", "start", "--foreground", "--source=demo", "--sink=pipewire"]
    log = Path(environment["XDG_RUNTIME_DIR"]) / "start.log"
    began = time.monotonic()
    with session.background(command, {**environment, "PYTHONPATH": str(product.ROOT)}, log):
        session.wait_for(lambda: OWN_LABEL in session.things(environment, "Node"), "the camera in the list")
        listed = time.monotonic() - began
        session.wait_for(lambda: has_networks(environment), "the networks", within=60)
        ready = time.monotonic() - began
    session.wait_for(lambda: OWN_LABEL not in session.things(environment, "Node"), "the camera's leaving")
    return {"listed, s": round(listed, 2), "networks ready, s": round(ready, 2)}


def has_networks(environment: dict[str, str]) -> bool:
    try:
        return "restore" in product.status(environment)["engine"]
    except OccluFixError:
        return False  # it does not listen yet


def idle(environment: dict[str, str], folder: Path) -> dict[str, Any]:
    """Time from the last reader to the closed camera, and the daemon's share of a core from then on."""
    with product.started(environment, "--source=demo", "--sink=pipewire"):
        daemon = psutil.Process(product.status(environment)["pid"])
        closed = []
        for _ in range(ROUNDS):
            with film.film(environment, folder / "reader.log") as reader:
                reader.next()
                session.wait_for(lambda: product.status(environment)["camera_open"], "the camera's opening")
            closed.append(
                session.wait_for(lambda: not product.status(environment)["camera_open"], "the camera's closing")
            )
        time.sleep(IDLE_S)  # a measurement, not a test: waits for one-time work of the idle daemon
        before = daemon.cpu_times()
        time.sleep(IDLE_S)
        after = daemon.cpu_times()
    share = (after.user + after.system - before.user - before.system) / IDLE_S
    return {"camera closed after the last reader, s": [round(s, 2) for s in closed], "idle, % of a core": 100 * share}


def first_pictures(environment: dict[str, str], folder: Path) -> tuple[float, float]:
    """Seconds from a reader's start to its first frame, and to its first camera frame."""
    with film.film(environment, folder / "reader.log") as reader:
        arrived, picture = reader.next()
        first = arrived
        while numbered.read(numbered.grey_of(picture)) is None:
            arrived, picture = reader.next()
        opened_at = reader.opened_at
    time.sleep(4)  # a measurement, not a test: waits until the camera is closed again
    return first - opened_at, arrived - opened_at


def watch(environment: dict[str, str], folder: Path, diary: Path, seconds: float) -> dict[str, Any]:
    diary.write_text("")
    with film.film(environment, folder / "reader.log") as reader:
        seen = list(_numbers(reader, seconds))
    taken_at = {int(number): float(at) for number, at in (line.split() for line in diary.read_text().splitlines())}
    numbers = [number for number, _ in seen]
    steps = numbered.steps(numbers)
    fresh = [(number, at) for step, (number, at) in zip([1, *steps], seen, strict=True) if step > 0]
    ages_ms = [1000 * (at - taken_at[number]) for number, at in fresh]
    span = sum(steps) + 1
    return {
        "seconds": seconds,
        "pictures that the camera took": span,
        "pictures that arrived": len(fresh),
        "lost, %": round(100 * (span - len(fresh)) / span, 2),
        "repeated": sum(step == 0 for step in steps),
        "out of order": sum(step < 0 for step in steps),
        "age at the reader, ms": {f"p{p}": round(float(np.percentile(ages_ms, p)), 1) for p in (50, 95, 99)},
    }


def _numbers(reader: film.Film, seconds: float) -> Iterator[tuple[int, float]]:
    """Numbers with their arrival times, from the second second on: before that, the networks are warming up."""
    begin = end = None
    while end is None or time.monotonic() < end:
        arrived, picture = reader.next()
        number = numbered.read(numbered.grey_of(picture))
        if number is None:
            continue
        if begin is None:
            begin, end = arrived + 2, arrived + 2 + seconds
        if arrived >= begin:
            yield number, arrived


def main() -> None:
    if sys.argv[1:2] == ["--daemon"]:
        run_daemon(Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        told = measure(Path(folder), float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
    sys.stdout.write(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
