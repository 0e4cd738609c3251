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

TYPE_CHECKING = False
if TYPE_CHECKING:  # as typing has it, which takes its time as well
    from collections.abc import Sequence
    from typing import Any

TIMEOUT_S = 5.0
LONGEST_ANSWER = 4096
WANTED = {(): None, ("on",): True, ("off",): False}


def quick_toggle(arguments: Sequence[str]) -> str | None:
    """What `toggle` prints once it is done; None where the arguments are others, or nobody answers as usual."""
    command, *rest = arguments or [""]
    if command != "toggle" or tuple(rest) not in WANTED:
        return None
    try:
        with open(control_file(), encoding="utf-8") as file:  # noqa: PTH123  without pathlib
            address = json.load(file)
        connection = socket.create_connection(("127.0.0.1", address["port"]), timeout=TIMEOUT_S)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    with connection:
        answer = _ask(connection, address, WANTED[tuple(rest)])
    status, _, value = answer.partition(b"\r\n\r\n")
    if not status.startswith(b"HTTP/1.1 200"):
        return None  # it was refused, and nothing has changed
    return "on" if json.loads(value)["enabled"] else "off"


def control_file() -> str:
    """The daemon's control.json, where StateFolder has it."""
    folder = os.environ.get("OCCLUFIX_STATE_DIR", "")
    if not folder and sys.platform == "linux" and "XDG_STATE_HOME" not in os.environ and os.environ.get("HOME"):
        folder = f"{os.environ['HOME']}/.local/state/occlufix-vcam"
    if not folder:
        from occlufix_vcam.core.state import StateFolder

        folder = str(StateFolder().path)
    return f"{folder}/control.json"


def _ask(connection: socket.socket, address: dict[str, Any], wanted: bool | None) -> bytes:
    """The whole answer. Raises OccluFixError: asking again might switch it back."""
    body = json.dumps({"enabled": wanted})
    head = (
        f"POST /v1/toggle HTTP/1.1\r\nHost: 127.0.0.1:{address['port']}\r\n"
        f"Authorization: Bearer {address.get('token')}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    answer = b""
    try:
        connection.sendall((head + body).encode())
        while len(answer) < LONGEST_ANSWER and (more := connection.recv(LONGEST_ANSWER)):
            answer += more
    except OSError as error:
        from occlufix_vcam.core.errors import OccluFixError

        raise OccluFixError(
            f"the running OccluFix Camera (process {address.get('pid')}) does not answer: {error}",
            "end that process, then start again",
        ) from error
    return answer
