"""What the daemon tells of itself: the keys of `status --json`."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from typing_extensions import TypedDict

from occlufix_vcam.core.telemetry import StageFigures


class WorkerName(StrEnum):
    """The workers of the daemon, as `status --json` names their trouble."""

    CAPTURE = "capture"
    PROCESS = "process"
    OUTPUT = "output"


#: "idle": nobody reads, the camera is closed.
State = Literal["starting", "loading", "running", "idle", "waiting", "stopping"]


class EngineFacts(TypedDict):
    """What runs a model, and why nothing better does."""

    backend: str
    device: str
    precision: str
    passed_over: list[dict[str, str]]


class Status(TypedDict):
    """What `status --json` prints. These keys are stable: later versions add, never rename."""

    state: State
    enabled: bool
    fps: float
    latency: StageFigures | None
    stages: dict[str, StageFigures]
    dropped: int
    frames: int
    first_picture_s: float | None
    faces: int
    restoring: int
    restored: int
    failed: int
    engine: dict[str, EngineFacts]
    building: dict[str, float]
    camera: str | None
    camera_open: bool
    size: tuple[int, int] | None
    sinks: list[str]
    viewers: int | None
    readers: list[str]
    trouble: dict[str, str]
    left_out: dict[str, str]
    hints: dict[str, str]
    uptime_s: float
    pid: int
    version: str
