"""Every expected failure: what happened, what to do, and the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong during a run and what to do about it: one line each. `hint` is "" if nothing is needed.

    `code` names it for clients that have their own words for it, in which `values` appear; "" if nobody has any.
    """

    what: str
    hint: str = ""
    code: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


def trouble_of(error: Exception) -> Trouble:
    """Trouble that an error of any kind describes."""
    return Trouble(
        getattr(error, "message", str(error)),
        getattr(error, "hint", ""),
        getattr(error, "code", ""),
        getattr(error, "values", {}),
    )


class OccluFixError(Exception):
    """Expected failure. `message` says what happened, `hint` what to do about it: one line each.

    `code` and `values`: see Trouble.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", code: str = "", **values: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.values = {name: str(value) for name, value in values.items()}


class ConfigError(OccluFixError):
    """Wrong usage or settings."""

    exit_code = 2


class DeviceError(OccluFixError):
    """A camera, a clip, a virtual camera or a recording failed."""

    exit_code = 3


class CameraNotFound(DeviceError):
    """There is no such camera, clip or image."""


class CameraBusy(DeviceError):
    """Another program holds the camera."""


class CameraLost(DeviceError):
    """The camera disappeared or stopped sending frames."""


class SinkUnavailable(DeviceError):
    """A sink could not be opened, or no longer accepts frames."""
