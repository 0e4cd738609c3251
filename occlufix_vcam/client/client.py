"""Client of the control API, with which the command line and the tray icon reach the daemon.

It uses the standard library: larger HTTP clients take longer to import than the daemon takes to answer, and loopback
has no certificate, no proxy (which must never see the token) and no connection worth keeping.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, cast

from occlufix_vcam import __version__
from occlufix_vcam.core import deadline
from occlufix_vcam.core.errors import OccluFixError
from occlufix_vcam.core.state import NotRunning, StateFolder

if TYPE_CHECKING:
    from occlufix_vcam.core.status import Status
    from occlufix_vcam.enrollment.session import EnrolmentStatus

TIMEOUT_S = 5.0
CHANGE_TIMEOUT_S = 30.0  # a camera opens slowly, and the old one must reopen if it fails
ALIVE_TIMEOUT_S = 40.0
LONGEST_ANSWER = 16 * 1024 * 1024


class ControlError(OccluFixError):
    """The daemon runs but does not answer, or refuses the request."""


class ControlClient:
    """Sends requests to the running daemon. Raises NotRunning if there is none, ControlError if it refuses."""

    def __init__(self, state: StateFolder, timeout: float = TIMEOUT_S) -> None:
        if not state.held():
            raise NotRunning
        self.address = state.read_control()
        self._timeout = timeout

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Does nothing: no connection stays open between requests."""

    def status(self) -> Status:
        told = self._ask("GET", "/v1/status")
        if told.get("pid") != self.address.pid:
            raise self._no_answer("another program answered on its port")
        return cast("Status", told)

    def toggle(self, enabled: bool | None = None) -> bool:
        told = self._ask("POST", "/v1/toggle", {"enabled": enabled}).get("enabled")
        if not isinstance(told, bool) or enabled not in (None, told):
            raise self._no_answer("another program answered on its port")
        return told

    def show_bare(self) -> None:
        """Shows the untouched picture for two seconds."""
        self._ask("POST", "/v1/bare")

    def record(self, recording: bool) -> dict[str, Any]:
        """Starts a recording in the Videos folder, or ends it."""
        return self._ask("POST", "/v1/recording", {"recording": recording}, timeout=CHANGE_TIMEOUT_S)

    def stop(self) -> None:
        self._ask("POST", "/v1/stop")

    def settings(self) -> dict[str, Any]:
        return self._ask("GET", "/v1/settings")

    def change_settings(self, changes: dict[str, object], save: bool = False) -> dict[str, Any]:
        """Changes settings at once; with `save` also for the next start."""
        path = f"/v1/settings?save={str(save).lower()}"
        return self._ask("PATCH", path, changes, timeout=CHANGE_TIMEOUT_S)

    def devices(self) -> dict[str, Any]:
        """Cameras, virtual cameras, backends and engines, as in `devices --json`."""
        return self._ask("GET", "/v1/devices", timeout=CHANGE_TIMEOUT_S)

    def enroll(self, name: str) -> EnrolmentStatus:
        """Starts to enroll `name` at the camera; `enrolment` reports progress."""
        return cast("EnrolmentStatus", self._ask("POST", "/v1/enroll", {"name": name}))

    def enrollment(self) -> EnrolmentStatus | None:
        return cast("EnrolmentStatus | None", self._ask("GET", "/v1/enroll/progress")["enrolment"])

    def cancel_enrollment(self) -> None:
        self._ask("POST", "/v1/enroll/cancel")

    def link(self) -> str:
        """Address that opens the control page, once and within a minute."""
        return f"{self.address.url}{self._ask('POST', '/v1/links')['path']}"

    def link_file(self) -> Path | None:
        """A file of this user alone that leads to such an address; None where the daemon is too old to write one."""
        file = self._ask("POST", "/v1/links?file=true").get("file")
        return Path(file) if isinstance(file, str) else None

    def other_version(self) -> str | None:
        """Version of the daemon if it differs from ours."""
        return None if self.address.version == __version__ else self.address.version or "an earlier version"

    def events(self, every: float | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Names and values of the daemon's events, until it stops; for `every`, see the API. Raises ControlError."""
        path = "/v1/events" if every is None else f"/v1/events?every={every}"
        # The daemon sends a sign of life at least every 15 s.
        with closing(self._connection(ALIVE_TIMEOUT_S)) as connection:
            try:
                response = self._answer(connection, "GET", path)
                if response.status >= 400:
                    self._refuse(response.status, _json(response.read()))
                name = ""
                for line in response:
                    key, _, value = line.decode().rstrip("\n").partition(": ")
                    if key == "event":
                        name = value
                    elif key == "data":
                        yield name, json.loads(value)
            except (http.client.HTTPException, OSError, ValueError) as error:
                raise self._no_answer(error) from error

    def _ask(self, method: str, path: str, body: object = None, timeout: float | None = None) -> dict[str, Any]:
        timeout = timeout or self._timeout
        with closing(self._connection(timeout)) as connection, _cut_off(connection, timeout):
            try:
                response = self._answer(connection, method, path, body, deadline.header_for(timeout))
                answer = _json(response.read(LONGEST_ANSWER))
            except (http.client.HTTPException, OSError, ValueError) as error:
                raise self._no_answer(error) from error
        if response.status >= 400:
            self._refuse(response.status, answer)
        return answer

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.address.port, timeout=timeout)

    def _answer(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: object = None,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self.address.token}", "Content-Type": "application/json", **more}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection.getresponse()

    def _refuse(self, status: int, answer: dict[str, Any]) -> NoReturn:
        if status in (404, 405) and (version := self.other_version()):
            raise ControlError(
                f"another version of OccluFix Camera is running ({version}, this is {__version__})",
                "run `occlufix-vcam stop`, then start again",
            )
        detail = answer.get("detail")
        told: dict[str, Any] = detail if isinstance(detail, dict) else {"message": str(detail)}
        what, hint, code = (str(told.get(key, "")) for key in ("message", "hint", "code"))
        raise ControlError(what, hint, code, **told.get("values", {}))

    def _no_answer(self, why: object) -> ControlError:
        return ControlError(
            f"the running OccluFix Camera (process {self.address.pid}) does not answer: {why}",
            "end that process, then start again",
            code="no_answer",
        )


@contextlib.contextmanager
def _cut_off(connection: http.client.HTTPConnection, timeout: float) -> Iterator[None]:
    """Ends the connection after `timeout`: its own counts from the last byte, and a peer may trickle for ever."""

    def cut() -> None:
        with contextlib.suppress(OSError, AttributeError):  # it is closed, or was never open
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _json(answer: bytes) -> dict[str, Any]:
    """Decodes an object. Raises ValueError if it is none: another program answered."""
    told = json.loads(answer)
    if not isinstance(told, dict):
        raise ValueError("the answer is not a JSON object")
    return told
