"""The product in a session of its own: a clip whose pictures are numbered, and the command line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from occlufix_vcam.client.client import ControlClient
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.state import StateFolder
from occlufix_vcam.core.status import Status
from occlufix_vcam.sinks.recorder import Recorder
from occlufix_vcam.sources import SourceOptions
from occlufix_vcam.sources.demo.source import Demo
from scripts.harness.readers import numbered

ROOT = Path(__file__).resolve().parents[3]
RATE = 30.0
#: Of the demo: from here on its face wears a mask, so the networks have work to do.
MASKED_S = 2.2


def make_clip(path: Path, pictures: int, size: tuple[int, int] = (1280, 720)) -> None:
    """The demo's masked face, numbered from 0 on. Its frames differ, and so do their numbers."""
    with (
        closing(Demo("demo", SourceOptions(*size, RATE, realtime=False))) as demo,
        closing(Recorder(str(path), size=size, rate=RATE)) as recorder,
    ):
        masked = round(MASKED_S * RATE)
        for number in range(pictures):
            image = demo.render(masked + number % masked)
            recorder.send(Frame(numbered.stamp(image, number), number, 0.0))


def run(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "occlufix_vcam", *arguments]
    return subprocess.run(command, cwd=ROOT, env=dict(environment), capture_output=True, text=True, timeout=120)


def status(environment: Mapping[str, str]) -> Status:
    """Of the daemon that runs there."""
    with ControlClient(StateFolder(Path(environment["OCCLUFIX_STATE_DIR"]))) as client:
        return client.status()


@contextmanager
def started(environment: Mapping[str, str], *arguments: str) -> Iterator[str]:
    """The daemon, running as long as the block lasts; what `start` printed."""
    begun = run(environment, "start", *arguments)
    assert begun.returncode == 0, begun.stderr
    try:
        yield begun.stdout
    finally:
        run(environment, "stop")
