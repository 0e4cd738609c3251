"""Finds the fastest engine while the machine is idle, in a process of its own at low priority.

The result takes effect at the next start. `doctor` and `build-engine` do the same at once.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from occlufix_vcam.runtime.daemon import Daemon

#: Idle time, or else running time, in checks of LOOK_S.
LOOK_S = 1.0
IDLE_LOOKS, BUSY_LOOKS = 5, 90
PATIENCE_S = 0.2
COMMAND = (sys.executable, "-m", "engines", "--end-with-stdin")
ROOT = Path(__file__).resolve().parents[2]  # folder in which `-m engines` finds it, installed or not

log = logging.getLogger(__name__)


@contextmanager
def autotune_when_idle(daemon: Daemon, command: tuple[str, ...] = COMMAND, look_s: float = LOOK_S) -> Iterator[None]:
    """Times the engines once during the block, at the least disturbing moment; the end of the block cancels it."""
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(daemon, command, look_s, ended), name="timing")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watch(daemon: Daemon, command: tuple[str, ...], look_s: float, ended: threading.Event) -> None:
    idle = busy = 0
    while idle < IDLE_LOOKS and busy < BUSY_LOOKS:
        if ended.wait(look_s):
            return
        idle = idle + 1 if daemon.state == "idle" else 0
        busy += daemon.state == "running"
    if daemon.settings.backend == daemon.settings.precision == "auto":
        _run(command, lambda: ended.wait(PATIENCE_S))


def _run(command: tuple[str, ...], give_up: Callable[[], bool]) -> None:
    try:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with process:
            psutil.Process(process.pid).nice(psutil.IDLE_PRIORITY_CLASS if psutil.WINDOWS else 19)
            while process.poll() is None:
                if give_up():
                    process.kill()
    except (OSError, psutil.Error) as error:
        log.warning("could not time the engines: %s", error)
        return
    log.info("the engines were timed" if process.returncode == 0 else "timing the engines was cancelled")
