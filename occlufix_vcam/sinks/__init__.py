"""Sinks of frames: their contract and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from occlufix_vcam.core.errors import Trouble
from occlufix_vcam.core.frame import Frame

#: To add a sink: one file, and one line here. `--sink NAME` opens it by its name.
SINKS = {
    "v4l2": "occlufix_vcam.sinks.v4l2:V4l2Camera",
    "pyvirtualcam": "occlufix_vcam.sinks.virtual_camera:VirtualCamera",
    "pipewire": "occlufix_vcam.sinks.pipewire:PipeWireCamera",
    "recorder": "occlufix_vcam.sinks.recorder:Recorder",
    "null": "occlufix_vcam.sinks.null:Null",
}

#: Sinks that other programs list as a camera, by system, best first. "auto" opens every one that exists, because
#: programs differ in where they look. Their modules also have a `find_virtual_cameras`.
VIRTUAL_CAMERAS: dict[str, tuple[str, ...]] = {
    "linux": ("v4l2", "pipewire"),
    "win32": ("pyvirtualcam",),
    "darwin": ("pyvirtualcam",),
}


class FrameSink(Protocol):
    """Accepts frames of any size, one after another, at the caller's pace. Used by one thread."""

    @property
    def name(self) -> str:
        """Display name: the device or the file."""
        ...

    def send(self, frame: Frame) -> None:
        """Sends a frame. Raises SinkUnavailable if it can accept no more."""
        ...

    def close(self) -> None:
        """Closes it. Raises SinkUnavailable if sent frames could not be kept. A second call does nothing."""
        ...


@runtime_checkable
class Watchable(FrameSink, Protocol):
    """Sink that knows its readers. Without any it gets a placeholder frame per second, and the camera stays closed.

    A sink without `viewers` (such as a recording) wants every frame.
    """

    def viewers(self) -> Sequence[str]:
        """Current readers: "program (pid)", or as much of that as is known. Called at every frame, so it never blocks.

        Raises SinkUnavailable if the sink is gone.
        """
        ...


@runtime_checkable
class Flawed(FrameSink, Protocol):
    """Sink that may have a flaw though it works."""

    @property
    def flaw(self) -> Trouble:
        """Description of the flaw; both texts are empty if there is none. Any thread may read it."""
        ...


@dataclass(frozen=True, slots=True)
class VirtualCameraInfo:
    """Virtual camera, or a kind of one that is missing; `problem` is "" if it is ready.

    `flaw` is what is wrong with one that still works; `hint` fixes either.
    """

    backend: str
    name: str
    path: str
    problem: str = ""
    hint: str = ""
    flaw: str = ""
