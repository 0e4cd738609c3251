"""Programs in which people use a camera show the restored picture: the pixels of screenshots prove it.

Through PipeWire on this machine with the real networks; through V4L2 in the virtual machine, where the processor is
emulated: minutes for each program. Programs that take long are tried on request only.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

from scripts.harness.in_machine.scene import RATE, SIZE
from scripts.harness.readers import session
from scripts.harness.readers.programs import films, showing, sight, table
from scripts.vm.machine import NoMachine, find

ROOT = Path(__file__).resolve().parents[2]
#: Names of programs, or "all".
ASKED = os.environ.get("OCCLUFIX_PROGRAMS", "")
NOT_ASKED = "NOT PROVED HERE: too slow for every run; OCCLUFIX_PROGRAMS=all, or names, runs it"
QUICK = "gstreamer"


def is_asked(name: str) -> bool:
    return ASKED == "all" or name in ASKED.split()


IN_MACHINE = [name for name in table.by_v4l2() if is_asked(name)]
BOOT_S, PROGRAM_S = 300.0, 300.0


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], films.Films]]:
    """A session with the camera in it, and what it shows."""
    if absent := session.missing():
        pytest.skip(f"NOT PROVED HERE: no PipeWire session without {absent}")
    with showing.camera(tmp_path_factory.mktemp("camera")) as running:
        yield running


@pytest.mark.desktop
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", table.by_pipewire())
def test_a_program_shows_the_restored_picture_through_pipewire(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    program = table.PROGRAMS[name]
    if name != QUICK and not is_asked(name):
        pytest.skip(NOT_ASKED)
    if packages := table.absent(program):
        pytest.skip(f"NOT PROVED HERE: {packages} not installed")
    if version := table.too_old(program):
        pytest.skip(f"NOT PROVED HERE: {name} {version} reads no PipeWire camera")
    environment, made = request.getfixturevalue("shown")
    try:
        told = showing.prove(name, environment, made, tmp_path)
    except showing.Crashed as reason:
        if program.starts == 1:
            raise
        pytest.skip(f"NOT PROVED HERE: {name} itself crashed in each of {program.starts} starts: {reason}")
    assert len(told["numbers"]) == showing.FRAMES


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]], films.Films]:
    """What the machine told of each program, with its screenshots."""
    try:
        machine = find()
    except NoMachine as reason:
        pytest.skip(f"NOT PROVED HERE: no virtual machine: {reason}")
    folder = tmp_path_factory.mktemp("machine")
    made = films.make(folder, showing.PICTURES, SIZE, RATE)
    command = [sys.executable, "-m", "scripts.harness.in_machine.programs", str(made.restored_path), *IN_MACHINE]
    machine.run(command, folder, BOOT_S + PROGRAM_S * len(IN_MACHINE), ROOT, memory="4G")
    sys.stdout.write((folder / "console").read_text(errors="replace")[-6000:])
    return folder, json.loads((folder / "told.json").read_text()), made


@pytest.mark.timeout(BOOT_S + PROGRAM_S * len(table.by_v4l2()) + 120)
@pytest.mark.parametrize("name", table.by_v4l2())
def test_a_program_shows_the_restored_picture_through_v4l2(name: str, request: pytest.FixtureRequest) -> None:
    if name not in IN_MACHINE:
        pytest.skip(NOT_ASKED)
    if packages := table.absent(table.PROGRAMS[name]):
        pytest.skip(f"NOT PROVED HERE: {packages} not installed")
    folder, told, made = request.getfixturevalue("kept")
    assert name in told and "failed" not in told[name], told.get(name, "the machine ended before it came to it")
    for shots in ("[0-9].png", "other-*.png")[: 2 if name == "obs" else 1]:
        seen = [sight.find(cv2.imread(str(path)), made) for path in sorted((folder / name).glob(shots))]
        restored = {found.number for found in seen if found is not None and found.is_restored}
        assert len(restored) > 1, seen
