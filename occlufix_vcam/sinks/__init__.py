"""Where frames go: the contract of a sink and the table of sinks."""

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

#: The sinks that other programs list as a camera, by system, the best first: "auto" opens each that is there, as some
#: programs look here and some there. Their modules also have a `find_virtual_cameras`.
VIRTUAL_CAMERAS: dict[str, tuple[str, ...]] = {
    "linux": ("v4l2", "pipewire"),
    "win32": ("pyvirtualcam",),
    "darwin": ("pyvirtualcam",),
}


class FrameSink(Protocol):
    """Takes frames of any size, one after another, at the pace of its caller. Used by one thread."""

    @property
    def name(self) -> str:
        """What a person calls it: the device or the file."""
        ...

    def send(self, frame: Frame) -> None:
        """Raises SinkUnavailable when it can take no more."""
        ...

    def close(self) -> None:
        """Raises SinkUnavailable where what was sent could not be kept. A second call does nothing."""
        ...


@runtime_checkable
class Watchable(FrameSink, Protocol):
    """A sink that knows its readers. Without any it gets a placeholder frame a second, and the camera stays closed.

    A sink without `viewers` (a recording, say) wants every picture.
    """

    def viewers(self) -> Sequence[str]:
        """Who reads it now: "program (pid)", or as much of that as is known. Asked at every frame, so never blocks.

        Raises SinkUnavailable when the sink is gone.
        """
        ...


@runtime_checkable
class Flawed(FrameSink, Protocol):
    """A sink that may be wrong though it works."""

    @property
    def flaw(self) -> Trouble:
        """How; with an empty text where all is well. May be asked for by any thread."""
        ...


@dataclass(frozen=True, slots=True)
class VirtualCameraInfo:
    """A virtual camera, or a kind of it that is missing; `problem` is "" where it is ready.

    `flaw` is what is wrong with one that works all the same; `hint` mends either.
    """

    backend: str
    name: str
    path: str
    problem: str = ""
    hint: str = ""
    flaw: str = ""
