"""The other end of the control API: what the command line and the tray icon use to reach the daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, cast

import httpx

from occlufix_vcam import __version__
from occlufix_vcam.errors import OccluFixError
from occlufix_vcam.state import NotRunning, StateFolder

if TYPE_CHECKING:
    from occlufix_vcam.daemon import Status  # it brings OpenCV, for which `status` need not wait
    from occlufix_vcam.enrolling import EnrolmentStatus

TIMEOUT_S = 5.0
CHANGE_TIMEOUT_S = 30.0  # a camera takes its time to open, and the old one again where it does not
ALIVE_TIMEOUT_S = 40.0


class ControlError(OccluFixError):
    """The daemon runs but does not answer, or refuses."""


class ControlClient:
    """One connection to the running daemon. Raises NotRunning where there is none, ControlError where it refuses."""

    def __init__(self, state: StateFolder, timeout: float = TIMEOUT_S) -> None:
        if not state.held():
            raise NotRunning
        self.address = state.read_control()
        # trust_env: a proxy that the environment names must never see the token.
        self._http = httpx.Client(
            base_url=self.address.url,
            headers={"Authorization": f"Bearer {self.address.token}"},
            timeout=timeout,
            trust_env=False,
        )

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def status(self) -> Status:
        return cast("Status", self._ask("GET", "/v1/status"))

    def toggle(self, enabled: bool | None = None) -> bool:
        return bool(self._ask("POST", "/v1/toggle", {"enabled": enabled})["enabled"])

    def stop(self) -> None:
        self._ask("POST", "/v1/stop")

    def settings(self) -> dict[str, Any]:
        return self._ask("GET", "/v1/settings")

    def change_settings(self, changes: dict[str, object], save: bool = False) -> dict[str, Any]:
        """Changes settings at once; with `save` also for the next start."""
        return self._ask("PATCH", "/v1/settings", changes, params={"save": save}, timeout=CHANGE_TIMEOUT_S)

    def enrol(self, name: str) -> EnrolmentStatus:
        """Begins to look at the camera for `name`; `enrolment` says how that goes."""
        return cast("EnrolmentStatus", self._ask("POST", "/v1/enroll", {"name": name}))

    def enrolment(self) -> EnrolmentStatus | None:
        return cast("EnrolmentStatus | None", self._ask("GET", "/v1/enroll/progress")["enrolment"])

    def cancel_enrolment(self) -> None:
        self._ask("POST", "/v1/enroll/cancel")

    def link(self) -> str:
        """The address that opens the control page, once and within a minute."""
        return f"{self.address.url}{self._ask('POST', '/v1/links')['path']}"

    def other_version(self) -> str | None:
        """The daemon's version where that is not ours."""
        return None if self.address.version == __version__ else self.address.version or "an earlier one"

    def events(self, every: float | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Names and values as the daemon tells them, until it stops; `every`: see the API. Raises ControlError."""
        params = {} if every is None else {"every": every}
        # The daemon says at least every quarter of a minute that it is alive.
        try:
            with self._http.stream("GET", "/v1/events", params=params, timeout=ALIVE_TIMEOUT_S) as response:
                if response.is_error:
                    response.read()
                    self._refuse(response)
                name = ""
                for line in response.iter_lines():
                    key, _, value = line.partition(": ")
                    if key == "event":
                        name = value
                    elif key == "data":
                        yield name, json.loads(value)
        except httpx.HTTPError as error:
            raise self._no_answer(error) from error

    def _ask(self, method: str, path: str, body: object = None, **more: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, json=body, **more)
            answer: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise self._no_answer(error) from error
        if response.is_error:
            self._refuse(response)
        return answer

    def _refuse(self, response: httpx.Response) -> NoReturn:
        if response.status_code in (404, 405) and (version := self.other_version()):
            raise ControlError(
                f"the running OccluFix Camera is another version ({version}, this is {__version__})",
                "`occlufix-vcam stop`, then start it again",
            )
        detail = response.json().get("detail")
        told = detail if isinstance(detail, dict) else {"message": str(detail)}
        raise ControlError(str(told.get("message")), str(told.get("hint", "")))

    def _no_answer(self, error: Exception) -> ControlError:
        return ControlError(
            f"the running OccluFix Camera (process {self.address.pid}) does not answer: {error}",
            "end that process, then start again",
        )
