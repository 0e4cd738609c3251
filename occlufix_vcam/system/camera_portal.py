"""The desktop's portal, through which sandboxed programs request cameras: programs that the user has refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

_STORE = "org.freedesktop.impl.portal.PermissionStore"
_LOOKUP = (_STORE, f"/{_STORE.replace('.', '/')}", _STORE, "Lookup", "ss", "devices", "camera")
_WITHIN_S = 2.0
AGAIN_S = 30.0


def ask(command: Sequence[str]) -> str:
    """Output of the command; "" if it cannot run or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def refused_programs(ask: Callable[[Sequence[str]], str] = ask) -> list[str]:
    """Identities of programs that the portal keeps from every camera, because the user refused them."""
    try:
        answer = json.loads(ask(("busctl", "--user", "--json=short", "call", *_LOOKUP)))
        permissions: dict[str, list[str]] = answer["data"][0]
    except (ValueError, LookupError, TypeError):  # no program has asked yet, or there is no portal
        return []
    return sorted(program for program, answers in permissions.items() if program and "no" in answers)


class Refusals:
    """Refused programs, refreshed in the background while they are read; no caller waits for the answer."""

    def __init__(
        self,
        refused: Callable[[], list[str]] = refused_programs,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._refused, self._clock = refused, clock
        self._programs: list[str] = []
        self._ask()

    def _ask(self) -> None:
        self._asked_at = self._clock()
        self._asking = threading.Thread(target=self._answer, name="portal")
        self._asking.start()

    def _answer(self) -> None:
        self._programs = self._refused()

    def newest(self) -> list[str]:
        """What is known so far."""
        if self._clock() - self._asked_at >= AGAIN_S and not self._asking.is_alive():
            self._ask()
        return self._programs

    def close(self) -> None:
        self._asking.join()


def refusal(programs: Sequence[str]) -> tuple[str, str]:
    """Description of the refused programs and what to do; two empty texts if there are none."""
    if not programs:
        return "", ""
    commands = " and ".join(f"run `flatpak permission-set devices camera {program} yes`" for program in programs)
    return (
        f"the desktop refuses cameras to {', '.join(programs)}, as chosen earlier",
        f"to allow them again: {commands}",
    )
