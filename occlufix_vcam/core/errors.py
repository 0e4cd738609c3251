"""Everything that can go wrong and is not our own fault: what happened, what to do, and the exit code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong while it runs, and what to do about it: one line each; `hint` is "" where nothing need be done."""

    what: str
    hint: str = ""


def trouble_of(error: Exception) -> Trouble:
    """What an error says, whatever kind it is."""
    return Trouble(getattr(error, "message", str(error)), getattr(error, "hint", ""))


class OccluFixError(Exception):
    """`message` says what happened, `hint` what to do about it: one line each."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(OccluFixError):
    """Wrong usage or wrong settings."""

    exit_code = 2


class DeviceError(OccluFixError):
    """A camera, a clip, a virtual camera or a recording failed."""

    exit_code = 3


class CameraNotFound(DeviceError):
    """There is no such camera, clip or picture."""


class CameraBusy(DeviceError):
    """Another program holds the camera."""


class CameraLost(DeviceError):
    """The camera was there and is gone, or stopped sending pictures."""


class SinkUnavailable(DeviceError):
    """A sink could not be opened or stopped taking pictures."""
