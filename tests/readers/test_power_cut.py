"""The power fails while a recording runs: what there is of it plays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from scripts.harness.power_cut import recorded_until_power_cut
from scripts.vm.machine import NoMachine, find

LIMIT_S = 400.0
#: From one moment at which the disk has everything to the next, with the fragment that has not ended yet and the time
#: that the disk takes.
MAY_BE_LOST_S = 4.0

pytestmark = pytest.mark.timeout(LIMIT_S + 200)


def test_a_recording_survives_a_power_cut(tmp_path: Path, record_property: Callable[..., None]) -> None:
    try:
        machine = find()
    except NoMachine as reason:
        pytest.skip(f"NOT PROVED HERE: no virtual machine: {reason}")
    missing = [program for program in ("mkfs.ext4", "e2fsck", "debugfs") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"NOT PROVED HERE: no {missing[0]}")
    recorded = recorded_until_power_cut(machine, tmp_path, seconds=12.0, rate=5.0, limit_s=LIMIT_S)
    with av.open(str(tmp_path / "part.mp4")) as film:
        times = [frame.time for frame in film.decode(video=0)]
    assert times == sorted(times)
    record_property("found", {"recorded": recorded, "plays": times[-1]})
    assert recorded - MAY_BE_LOST_S <= times[-1] <= recorded
