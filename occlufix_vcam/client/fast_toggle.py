"""`toggle` without a wait: one request to the daemon, with nothing imported that it can do without.

The whole command line takes a fifth of a second to import, twice as long as a switch may take; even pathlib, data
classes and platformdirs would take longer than the request. Where anything is out of the ordinary this gives way to the
whole command line, which knows every error and what to do about it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # as typing has it, which takes its time as well
    from collections.abc import Sequence
    from typing import Any

TIMEOUT_S = 5.0
LONGEST_ANSWER = 4096
WANTED = {(): None, ("on",): True, ("off",): False}
DEADLINE_HEADER = "Request-Deadline"  # as core/deadline.py has it, which would have to be imported


def quick_toggle(arguments: Sequence[str]) -> str | None:
    """What `toggle` prints once it is done; None for other arguments, or without the usual answer."""
    command, *rest = arguments or [""]
    if command != "toggle" or tuple(rest) not in WANTED:
        return None
    folder = state_folder()
    if not _held(f"{folder}/daemon.lock"):
        return None  # a program that listens on a killed daemon's port is not asked
    try:
        with open(f"{folder}/control.json", encoding="utf-8") as file:  # noqa: PTH123  without pathlib
            address = json.load(file)
        connection = socket.create_connection(("127.0.0.1", address["port"]), timeout=TIMEOUT_S)
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None
    wanted = WANTED[tuple(rest)]
    with connection:
        answer = _ask(connection, address, wanted)
    status, _, body = answer.partition(b"\r\n\r\n")
    if not status.startswith(b"HTTP/1.1 200"):
        return None  # it was refused, and nothing has changed
    return "on" if _enabled(body, address, wanted) else "off"


def state_folder() -> str:
    """Where StateFolder has it."""
    folder = os.environ.get("OCCLUFIX_STATE_DIR", "")
    if not folder and sys.platform == "linux" and "XDG_STATE_HOME" not in os.environ and os.environ.get("HOME"):
        folder = f"{os.environ['HOME']}/.local/state/occlufix-vcam"
    if not folder:
        from occlufix_vcam.core.state import StateFolder

        folder = str(StateFolder().path)
    return folder


def _held(lock: str) -> bool:
    """Whether a daemon holds its lock, as filelock takes it; False also where that can't be told."""
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except OSError:
        return False
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _ask(connection: socket.socket, address: dict[str, Any], wanted: bool | None) -> bytes:
    """The whole answer. Raises OccluFixError: asking again might switch it back."""
    body = json.dumps({"enabled": wanted})
    head = (
        f"POST /v1/toggle HTTP/1.1\r\nHost: 127.0.0.1:{address['port']}\r\n"
        f"Authorization: Bearer {address.get('token')}\r\nContent-Type: application/json\r\n"
        f"{DEADLINE_HEADER}: {time.time() + TIMEOUT_S:.3f}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    answer, ends_at = b"", time.monotonic() + TIMEOUT_S
    try:
        connection.sendall((head + body).encode())
        while len(answer) < LONGEST_ANSWER and (more := connection.recv(LONGEST_ANSWER)):
            answer += more
            # Each recv has its own timeout: a peer that trickles would hold us for as long as it likes.
            connection.settimeout(max(0.001, ends_at - time.monotonic()))
    except OSError as error:
        raise _no_answer(address, str(error)) from error
    return answer


def _enabled(body: bytes, address: dict[str, Any], wanted: bool | None) -> bool:
    """What the answer says. Raises OccluFixError where it is not what the daemon would say."""
    try:
        enabled = json.loads(body)["enabled"]
    except (ValueError, LookupError, TypeError, RecursionError):
        enabled = None
    if not isinstance(enabled, bool) or wanted not in (None, enabled):
        raise _no_answer(address, "another program answered on its port")
    return enabled


def _no_answer(address: dict[str, Any], why: str) -> Exception:
    from occlufix_vcam.core.errors import OccluFixError

    return OccluFixError(
        f"the running OccluFix Camera (process {address.get('pid')}) does not answer: {why}",
        "end that process, then start again",
    )
