"""When the engines are timed: once the daemon was idle for a moment or busy for long; not on a choice of one's own."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from occlufix_vcam.core.settings import Settings
from occlufix_vcam.runtime.daemon import Daemon
from occlufix_vcam.runtime.idle_autotune import BUSY_LOOKS, IDLE_LOOKS, autotune_when_idle

LOOK_S = 0.001


@dataclass
class Posing:
    """A daemon that is in one state after the other; `seen` is set when it was asked so often."""

    states: list[str]
    settings: Settings = field(default_factory=Settings)
    seen: threading.Event = field(default_factory=threading.Event)

    @property
    def state(self) -> str:
        if len(self.states) == 1:
            self.seen.set()
            return self.states[0]
        return self.states.pop(0)


def await_timing() -> None:
    """Until the thread that times has ended; it may have ended already."""
    for thread in threading.enumerate():
        if thread.name == "timing":
            thread.join(20)


def run(daemon: Posing, marker: Path, until: threading.Event | None = None) -> bool:
    """Whether the command ran to its end while the daemon was there."""
    code = f"import pathlib; pathlib.Path({str(marker)!r}).write_text('')"
    with autotune_when_idle(cast(Daemon, cast(Any, daemon)), (sys.executable, "-c", code), LOOK_S):
        (until or daemon.seen).wait(20)
        if until is None:
            await_timing()
    return marker.exists()


@pytest.mark.parametrize("states", [["starting", *["idle"] * IDLE_LOOKS, ""], [*["running"] * BUSY_LOOKS, ""]])
def test_it_times_when_it_disturbs_least(states: list[str], tmp_path: Path) -> None:
    daemon = Posing(states)
    daemon.states = states[:-1]
    assert run(daemon, tmp_path / "ran")


def test_a_daemon_that_is_looked_at_now_and_then_is_left_in_peace(tmp_path: Path) -> None:
    daemon = Posing([*["idle"] * (IDLE_LOOKS - 1), "running"] * 3 + ["loading"])
    assert not run(daemon, tmp_path / "ran", daemon.seen)


@pytest.mark.parametrize("own", [{"backend": "fake"}, {"precision": "fp32"}])
def test_a_choice_of_ones_own_is_not_timed(own: dict[str, str], tmp_path: Path) -> None:
    assert not run(Posing(["idle"], Settings(**own)), tmp_path / "ran")


def test_a_command_that_hangs_ends_with_the_daemon() -> None:
    daemon = Posing(["idle"])
    with autotune_when_idle(cast(Daemon, cast(Any, daemon)), (sys.executable, "-c", "input()"), LOOK_S):
        daemon.seen.wait(20)
    assert not [thread for thread in threading.enumerate() if thread.name == "timing"]


def test_a_command_that_is_not_there_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    daemon = Posing(["idle"])
    with autotune_when_idle(cast(Daemon, cast(Any, daemon)), ("/nowhere/python",), LOOK_S):
        daemon.seen.wait(20)
        await_timing()
    assert "could not time the engines" in caplog.text


def test_a_killed_daemon_leaves_no_timing_behind() -> None:
    """The command's input closes with the process that started it, whatever ended that one."""
    script = (
        "import subprocess, sys, time\n"
        "from occlufix_vcam.runtime.idle_autotune import COMMAND\n"
        "child = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        timing = psutil.Process(int(daemon.stdout.readline()))
        daemon.kill()
    gone, _ = psutil.wait_procs([timing], timeout=20)
    assert gone or timing.status() == psutil.STATUS_ZOMBIE
