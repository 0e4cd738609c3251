"""Rounds in which the daemon ends, by `stop` or by kill -9."""

from __future__ import annotations

import os
import signal
import time

import psutil

from scripts.harness.endurance.scene import Scene, read_in_order
from scripts.harness.endurance.tally import Tally


def end_again_and_again(scene: Scene, rounds: int, kill: bool) -> Tally:
    """Starts the daemon, reads it, ends it; every other time while a program still reads."""
    tally = Tally()
    for number in range(rounds + 1):
        if number == 1:  # what the session's programs open once is open by now
            tally = Tally(before=scene.count())
        with tally.round():
            _start_and_end(scene, tally, kill, while_read=number % 2 == 0)
    scene.settle(tally, scene.count)
    return tally


def _start_and_end(scene: Scene, tally: Tally, kill: bool, while_read: bool) -> None:
    began = time.monotonic()
    scene.start()
    tally.note(start=time.monotonic() - began)
    pid = scene.status()["pid"]
    try:
        with scene.reader() as reader:
            tally.note(read=read_in_order(reader, scene.pictures))
            if while_read:
                _end(scene, pid, kill)
        if not while_read:
            _end(scene, pid, kill)
        tally.note(gone=scene.wait_until_gone(pid))
    finally:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def _end(scene: Scene, pid: int, kill: bool) -> None:
    if kill:
        os.kill(pid, signal.SIGKILL)
    else:
        scene.stop()
