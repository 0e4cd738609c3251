"""The daemon in the virtual machine, and how long things take there."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from occlufix_vcam.system import v4l2

SIZE, RATE, CLIP_PICTURES = (640, 360), 5.0, 60
LOOPBACK, VIVID = "/dev/video10", "/dev/video0"
STATE = Path("/run/occlufix")
LOG = Path("/run/daemon.log")
PATIENCE_S = 240.0
PICTURES = 12


class Scene:
    """The one daemon, restarted if a check needs another source."""

    def __init__(self, clip: str) -> None:
        self.clip = clip
        self.source = ""
        self.daemon: subprocess.Popen[bytes] | Forked | None = None
        self.environment = {
            **os.environ,
            "OCCLUFIX_STATE_DIR": str(STATE),
            "OCCLUFIX_CONFIG": "/run/settings.toml",
            "OCCLUFIX_BACKEND": "fake",
            "OCCLUFIX_ENABLED": "false",
            "OCCLUFIX_WIDTH": str(SIZE[0]),
            "OCCLUFIX_HEIGHT": str(SIZE[1]),
            "OCCLUFIX_RATE": str(RATE),
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def start(self, source: str) -> float:
        """Seconds until programs can list it; the same daemon continues if it already has that source."""
        if self.daemon is not None and self.daemon.poll() is None and self.source == source:
            return 0.0
        self.end(signal.SIGTERM)
        command = [sys.executable, "-m", "occlufix_vcam", "start", "--foreground", f"--source={source}"]
        with LOG.open("ab") as log:
            self.daemon = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        self.source = source
        return self._until_listed()

    def fork(self, source: str) -> float:
        """Starts it in a process that has imported every module already, because imports are slow here."""
        self.daemon = Forked(["occlufix-vcam", "start", "--foreground", f"--source={source}"], self.environment)
        self.source = source
        return self._until_listed()

    def _until_listed(self) -> float:
        return until(lambda: captures(LOOPBACK), "the node to become a camera", self._alive)

    def end(self, how: signal.Signals) -> int | None:
        if self.daemon is None:
            return None
        self.daemon.send_signal(how)
        return self.daemon.wait(PATIENCE_S)

    def status(self) -> dict[str, Any]:
        """Raises OSError until the daemon listens."""
        address = json.loads((STATE / "control.json").read_text())
        request = urllib.request.Request(
            f"http://127.0.0.1:{address['port']}/v1/status", headers={"Authorization": f"Bearer {address['token']}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told: dict[str, Any] = json.loads(answer.read())
            return told

    def until(self, is_so: Callable[[dict[str, Any]], bool], what: str) -> float:
        """Seconds until the status meets a condition."""

        def look() -> bool:
            with contextlib.suppress(OSError, KeyError, ValueError):
                return is_so(self.status())
            return False

        return until(look, what, self._alive)

    def _alive(self) -> None:
        if self.daemon is None or self.daemon.poll() is not None:
            raise AssertionError(f"the daemon has ended: {LOG.read_text(errors='replace')[-1500:]}")


class Forked:
    """The command line in a forked process; provides the part of `Popen` that `Scene` uses."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        for name in MODULES:
            importlib.import_module(name)
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                with LOG.open("ab") as log:
                    for descriptor in (1, 2):
                        os.dup2(log.fileno(), descriptor)
                os.environ.update(environment)
                sys.argv = command
                importlib.import_module("occlufix_vcam.cli.app").main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException:  # noqa: BLE001  no code of the checks may run on in this process
                traceback.print_exc()
            finally:
                os._exit(code)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float) -> int | None:
        until(lambda: self.poll() is not None, "the daemon's end")
        return self.returncode


#: Everything that the daemon imports, sooner or later.
MODULES = (
    *("cv2", "uvicorn", "fastapi", "engines.backends.fake"),
    *(f"occlufix_vcam.{name}" for name in ("cli.app", "cli.daemon", "core.telemetry", "pipeline")),
    *(f"occlufix_vcam.runtime.{name}" for name in ("daemon", "idle_autotune")),
    *(f"occlufix_vcam.control.{name}" for name in ("api", "guard", "routes", "services")),
    *(f"occlufix_vcam.stages.{name}" for name in ("find", "hidden", "memory", "restore")),
    *(f"occlufix_vcam.sinks.{name}" for name in ("v4l2", "pipewire")),
)


def until(is_so: Callable[[], bool], what: str, look: Callable[[], None] = lambda: None) -> float:
    began = time.monotonic()
    while not is_so():
        look()
        assert time.monotonic() - began < PATIENCE_S, f"timed out waiting for {what}"
        time.sleep(0.1)
    return round(time.monotonic() - began, 1)


def run(*command: str, within: float = PATIENCE_S) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=within, check=False)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-500:]}"
    return done.stdout


def captures(device: str) -> bool:
    """Whether programs can list it as a camera now."""
    return bool(v4l2.query_capabilities(device)[1] & 0x1)
