"""The camera on v4l2loopback, in a virtual machine: listed, read by real programs, unplugged, killed, started again.

One boot for all checks (`scripts/harness/in_machine`); the reason of a skip names what is missing to have the machine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from occlufix_vcam.core.frame import Frame
from occlufix_vcam.sinks.recorder import Recorder
from occlufix_vcam.sources import SourceOptions
from occlufix_vcam.sources.demo.source import Demo
from scripts.harness.in_machine import CHECKS
from scripts.harness.in_machine.scene import CLIP_PICTURES, RATE, SIZE
from scripts.harness.readers import numbered
from scripts.vm.machine import NoMachine, find
from tests.harness.in_machine import settle

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 660.0
OUT_OF_TIME = 124  # of a machine's command

pytestmark = pytest.mark.timeout(LIMIT_S + 400)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each check found in the machine."""
    try:
        machine = find()
    except NoMachine as reason:
        pytest.skip(f"NOT PROVED HERE: no virtual machine: {reason}")
    folder = tmp_path_factory.mktemp("machine")
    clip = folder / "numbered.mp4"
    make_clip(clip)
    command = [sys.executable, "-m", "scripts.harness.in_machine", str(clip)]
    status = machine.run(command, folder, LIMIT_S, ROOT)
    told: dict[str, dict[str, Any]] = {}
    if (folder / "found.json").exists():
        told = json.loads((folder / "found.json").read_text())
    if status == OUT_OF_TIME:
        reason = f"NOT PROVED HERE: {LIMIT_S:.0f} s were over before the machine came to it; this computer is too busy"
        told = {**{name: {"skipped": reason} for name in CHECKS}, **told}
    sys.stdout.write((folder / "console").read_text(errors="replace")[-6000:])
    return told


def make_clip(path: Path) -> None:
    """The demo's face with numbers and colours, slow enough for an emulated processor."""
    width, height = SIZE
    options = SourceOptions(width, height, RATE, realtime=False)
    with (
        closing(Demo("demo", options)) as demo,
        closing(Recorder(str(path), size=SIZE, rate=RATE)) as recorder,
    ):
        for number in range(CLIP_PICTURES):
            recorder.send(Frame(numbered.stamp(demo.render(number), number), number, 0.0))


@pytest.mark.parametrize("name", CHECKS)
def test_in_the_machine(name: str, found: dict[str, dict[str, Any]], record_property: Callable[..., None]) -> None:
    settle(name, found, record_property)
