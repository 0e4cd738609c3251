"""Sources of frames: their contract and their table."""

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
    """A clip that does not loop has ended."""


class CameraSource(Protocol):
    """Delivers frames, one after another. Used by one thread.

    `size` is (width, height) of the first frame, later ones may differ; `rate` is frames per second, measured for
    cameras; `description` is the display name.
    """

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def rate(self) -> float: ...

    @property
    def description(self) -> str: ...

    @property
    def identity(self) -> str:
        """Name with which `open_source` finds this same source again, even if it was connected elsewhere meanwhile."""
        ...

    def read(self, timeout: float) -> Frame | None:
        """Next frame; None if none came within `timeout` seconds.

        Raises CameraLost if the camera is gone, EndOfClip if a clip has ended.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Options of a source; each source uses its own. `realtime` False: every frame, as fast as possible."""

    width: int = 1280
    height: int = 720
    rate: float = 30.0
    loop: bool = True
    realtime: bool = True


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """Connected camera: its index and, on Linux, its path.

    With `identity`, `open_source` finds this same camera again, even if it was connected elsewhere meanwhile.
    """

    index: int
    name: str
    path: str
    identity: str = ""

    @property
    def description(self) -> str:
        """Display name."""
        return f"{self.name} ({self.path or self.index})"
