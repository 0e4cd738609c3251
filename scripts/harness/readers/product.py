"""The product in a session of its own: a clip with numbered frames, and the command line."""

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
from scripts.harness.readers import numbered, session

ROOT = Path(__file__).resolve().parents[3]
RATE = 30.0
#: From this moment of the demo its face wears a mask, so that the networks have work to do.
MASKED_S = 2.2


def make_clip(path: Path, pictures: int, size: tuple[int, int] = (1280, 720), rate: float = RATE) -> None:
    """Writes the demo's masked face, numbered from 0 on. Frames differ, and so do their numbers."""
    with (
        closing(Demo("demo", SourceOptions(*size, rate, realtime=False))) as demo,
        closing(Recorder(str(path), size=size, rate=rate)) as recorder,
    ):
        masked = round(MASKED_S * rate)
        for number in range(pictures):
            image = demo.render(masked + number % masked)
            recorder.send(Frame(numbered.stamp(image, number), number, 0.0))


def run(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "occlufix_vcam", *arguments]
    return subprocess.run(command, cwd=ROOT, env=dict(environment), capture_output=True, text=True, timeout=120)


def status(environment: Mapping[str, str]) -> Status:
    """Status of the daemon in that session."""
    with ControlClient(StateFolder(Path(environment["OCCLUFIX_STATE_DIR"]))) as client:
        return client.status()


def wait_for_networks(environment: Mapping[str, str], within: float = 120.0) -> None:
    """Waits until the daemon has loaded its networks: before that, it shows what the camera sees."""
    session.wait_for(lambda: "restore" in status(environment)["engine"], "the networks", within=within)


@contextmanager
def started(environment: Mapping[str, str], *arguments: str) -> Iterator[str]:
    """Runs the daemon during the block; yields the output of `start`."""
    begun = run(environment, "start", *arguments)
    assert begun.returncode == 0, begun.stderr
    try:
        yield begun.stdout
    finally:
        run(environment, "stop")
