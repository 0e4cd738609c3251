"""The other end of the control API: what the command line (and later tray and page) uses to reach the daemon."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import httpx

from occlufix_vcam.errors import OccluFixError
from occlufix_vcam.state import NotRunning, StateFolder

if TYPE_CHECKING:
    from occlufix_vcam.daemon import Status  # it brings OpenCV, for which `status` need not wait

TIMEOUT_S = 5.0


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

    def change_settings(self, changes: dict[str, object]) -> dict[str, Any]:
        return self._ask("PATCH", "/v1/settings", changes)

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, json=body)
            answer: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ControlError(
                f"the running OccluFix Camera (process {self.address.pid}) does not answer: {error}",
                "end that process, then start again",
            ) from error
        if response.is_error:
            detail = answer.get("detail")
            told = detail if isinstance(detail, dict) else {"message": str(detail)}
            raise ControlError(str(told.get("message")), str(told.get("hint", "")))
        return answer
