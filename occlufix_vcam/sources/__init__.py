"""Where frames come from: the contract of a source and the table of sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from occlufix_vcam.core.frame import Frame

#: To add a source: one file, and one line here. `--source NAME` opens it by its name.
SOURCES = {
    "camera": "occlufix_vcam.sources.camera:Camera",
    "clip": "occlufix_vcam.sources.clip:Clip",
    "demo": "occlufix_vcam.sources.demo.source:Demo",
}


class EndOfClip(Exception):
    """A clip that does not loop is over."""


class CameraSource(Protocol):
    """Frames, one after another. Used by one thread.

    `size` is (width, height) of the first frame, a later frame may differ; `rate` is frames a second, measured for
    cameras; `description` names the source to a person.
    """

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def rate(self) -> float: ...

    @property
    def description(self) -> str: ...

    @property
    def identity(self) -> str:
        """The name under which `open_source` finds this very source again, wherever it was plugged in meanwhile."""
        ...

    def read(self, timeout: float) -> Frame | None:
        """The next frame; None where none came within `timeout` seconds.

        Raises CameraLost when the camera is gone, EndOfClip when a clip is over.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What is asked of a source; each takes what concerns it. `realtime` False: as fast as possible, every frame."""

    width: int = 1280
    height: int = 720
    rate: float = 30.0
    loop: bool = True
    realtime: bool = True


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """A camera that is there: its index and, on Linux, its path.

    `identity` finds this very camera again, as `open_source` takes it, wherever it was plugged in meanwhile.
    """

    index: int
    name: str
    path: str
    identity: str = ""

    @property
    def description(self) -> str:
        """As a person reads it."""
        return f"{self.name} ({self.path or self.index})"
