"""Starts the daemon in the background and waits until it runs or has reported why it does not."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from occlufix_vcam.client.client import ControlClient, ControlError
from occlufix_vcam.core.errors import DeviceError, OccluFixError
from occlufix_vcam.core.state import NotRunning, StateFolder

if TYPE_CHECKING:
    from occlufix_vcam.core.status import Status

#: From its start until it answers, and from then until its first frame: a slow computer only reads libraries at first.
ANSWERS_WITHIN_S, FIRST_PICTURE_WITHIN_S = 120.0, 60.0
ENGINES_WITHIN_S = 20.0
POLL_S = 0.1
ERROR = "error: "  # prefix of the daemon's error message before it exits


class StartFailed(OccluFixError):
    """The daemon ended before it was ready: its messages and exit code."""

    def __init__(self, said: str, exit_code: int, log: str) -> None:
        lines = [line.strip() for line in said[max(said.rfind(ERROR), 0) :].splitlines() if line.strip()]
        message = lines[0].removeprefix(ERROR) if lines else f"the daemon ended with code {exit_code}"
        super().__init__(message, lines[1] if len(lines) > 1 else f"read the log: {log}")
        self.exit_code = exit_code if exit_code > 0 else 1


def launch(arguments: Sequence[str], state: StateFolder) -> tuple[Status, str] | None:
    """Runs `start` with `arguments` in its own process; returns its status and address once it runs.

    None if it has already ended well, as with a short clip. Raises StartFailed, DeviceError.
    """
    state.prepare()
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    command = [sys.executable, "-m", "occlufix_vcam", "start", "--detached", *arguments]
    with state.startup.open("wb") as told:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=told, stderr=told, **apart)
    try:
        return _await_running(child, state)
    except BaseException:
        child.terminate()
        raise


def _await_running(child: subprocess.Popen[bytes], state: StateFolder) -> tuple[Status, str] | None:
    began, answered_at = time.monotonic(), None
    while child.poll() is None:
        now = time.monotonic()
        # Before it listens nothing answers, and while it ends nothing answers any more.
        with contextlib.suppress(NotRunning, ControlError), ControlClient(state) as client:
            status = client.status()
            answered_at = answered_at or now
            engines_take_long = status["frames"] > 0 and now - began > ENGINES_WITHIN_S
            if status["state"] in ("running", "idle") or engines_take_long:
                return status, client.address.url
        if answered_at is None and now - began > ANSWERS_WITHIN_S:
            raise _too_late("the daemon did not answer", ANSWERS_WITHIN_S, state)
        if answered_at is not None and now - answered_at > FIRST_PICTURE_WITHIN_S:
            raise _too_late("no frame was sent", FIRST_PICTURE_WITHIN_S, state)
        time.sleep(POLL_S)
    if child.returncode == 0:
        return None
    said = state.startup.read_text(encoding="utf-8", errors="replace")
    raise StartFailed(said, child.returncode, str(state.log))


def _too_late(what: str, limit_s: float, state: StateFolder) -> DeviceError:
    return DeviceError(f"{what} within {limit_s:.0f} s", f"read the log: {state.log}")
