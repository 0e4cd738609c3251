"""Every expected failure: what happened, what to do, and the exit code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong during a run and what to do about it: one line each. `hint` is "" if nothing is needed."""

    what: str
    hint: str = ""


def trouble_of(error: Exception) -> Trouble:
    """Trouble that an error of any kind describes."""
    return Trouble(getattr(error, "message", str(error)), getattr(error, "hint", ""))


class OccluFixError(Exception):
    """Expected failure. `message` says what happened, `hint` what to do about it: one line each."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


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
