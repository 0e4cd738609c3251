"""Rounds in which the machine sleeps, or the session's programs restart."""

from __future__ import annotations

import os
import signal
import time

import psutil

from scripts.harness.endurance.scene import WATCHED, Scene, read_in_order
from scripts.harness.endurance.tally import Tally
from scripts.harness.readers import film, session


def sleep_again_and_again(scene: Scene, rounds: int, asleep_s: float) -> Tally:
    """Suspends the daemon alone, then the whole session, while a program reads; then resumes them."""
    tally = Tally()
    scene.start()
    pid = scene.status()["pid"]
    daemon = psutil.Process(pid)

    def count() -> dict[str, int]:
        return {**scene.count(), "daemon descriptors": daemon.num_fds(), "daemon threads": daemon.num_threads()}

    try:
        with scene.reader() as reader:
            read_in_order(reader, scene.pictures)
            tally.before = count()
            for number in range(rounds):
                others = [scene.session.pid(name) for name in WATCHED] if number % 2 else []
                with tally.round():
                    _halt([pid, *others], asleep_s)
                    _forget(reader)
                    tally.note(back=read_in_order(reader, scene.pictures))
                    session.wait_for(lambda: not scene.status()["trouble"], "the end of all trouble")
            scene.settle(tally, count)
    finally:
        scene.stop()
    return tally


def _halt(pids: list[int], seconds: float) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)


def _forget(reader: film.Film) -> None:
    """Discards what arrived before now."""
    while True:
        try:
            reader.next(within=0)
        except TimeoutError:
            return


def begin_session_again_and_again(scene: Scene, rounds: int) -> Tally:
    """Restarts WirePlumber, or PipeWire and WirePlumber, under a running daemon."""
    tally = Tally()
    scene.start()
    daemon = psutil.Process(scene.status()["pid"])

    def count() -> dict[str, int]:
        return {"daemon descriptors": daemon.num_fds(), "daemon threads": daemon.num_threads()}

    try:
        with scene.reader() as reader:
            read_in_order(reader, scene.pictures)
        for number in range(rounds + 2):
            if number == 2:
                tally = Tally(before=count())
            parts = ("wireplumber",) if number % 2 else ("wireplumber", "pipewire")
            with tally.round():
                for name in parts:
                    scene.session.end(name)
                for name in reversed(parts):
                    scene.session.start(name)
                tally.note(listed=session.wait_for(scene.is_listed, "the camera in the list"))
                with scene.reader() as reader:
                    tally.note(read=read_in_order(reader, scene.pictures))
                session.wait_for(lambda: not scene.status()["trouble"], "the end of all trouble")
        session.wait_for(lambda: scene.status()["state"] == "idle", "the idle state")
        scene.settle(tally, count)
    finally:
        scene.stop()
    return tally
