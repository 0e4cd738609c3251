"""Status of the daemon: the keys of `status --json`."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from typing_extensions import TypedDict

from occlufix_vcam.core.telemetry import StageFigures


class WorkerName(StrEnum):
    """Workers of the daemon, by the names under which `status --json` reports their trouble."""

    CAPTURE = "capture"
    PROCESS = "process"
    OUTPUT = "output"


#: "idle": no program reads, and the camera is closed.
State = Literal["starting", "loading", "running", "idle", "waiting", "stopping"]


class EngineFacts(TypedDict):
    """Engine that runs a model, and why no better one does."""

    backend: str
    device: str
    precision: str
    passed_over: list[dict[str, str]]


class RecordingFacts(TypedDict):
    """A recording under way: its file, and when it began, in seconds since the epoch."""

    file: str
    began_at: float


class TroubleCode(TypedDict):
    """Names a trouble for clients that have their own words for it, in which `values` appear."""

    code: str
    values: dict[str, str]


class Status(TypedDict):
    """Output of `status --json`. These keys are stable: later versions add keys and never rename any."""

    state: State
    enabled: bool
    fps: float
    latency: StageFigures | None
    stages: dict[str, StageFigures]
    dropped: int
    freezes: int
    frames: int
    first_picture_s: float | None
    faces: int
    restoring: int
    restored: int
    failed: int
    bare: int
    coverage: float
    recognised: list[str]
    recording: RecordingFacts | None
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
    codes: dict[str, TroubleCode]
    uptime_s: float
    pid: int
    version: str
