"""Where frames come from: the contract of a source, the table of sources and the one door to open them by."""

from __future__ import annotations

import pkgutil
import stat
from dataclasses import dataclass
from pathlib import Path
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


def open_source(
    name: str,
    *,
    width: int = 1280,
    height: int = 720,
    rate: float = 30.0,
    loop: bool = True,
    realtime: bool = True,
) -> CameraSource:
    """Opens "auto" (the first camera), "demo", a camera by index, name or path, or a clip: a file or a folder.

    Raises CameraNotFound, CameraBusy or DeviceError, each with what to do.
    """
    options = SourceOptions(width, height, rate, loop, realtime)
    source: CameraSource = pkgutil.resolve_name(SOURCES[_kind(name)])(name, options)
    return source


def is_camera(name: str) -> bool:
    """Whether `name`, as `open_source` takes it, is a camera: something with a light that says it is open."""
    return _kind(name) == "camera"


def find_camera(name: str) -> CameraInfo:
    """The camera that `open_source` would open, without opening it. Raises CameraNotFound."""
    from occlufix_vcam.sources.camera import choose_camera, find_cameras

    return choose_camera(name, find_cameras())


def _kind(name: str) -> str:
    if name in SOURCES:
        return name
    path = Path(name).expanduser()
    try:
        return "camera" if stat.S_ISCHR(path.stat().st_mode) else "clip"
    except OSError:  # it is not there or not for us: the one who opens it says so
        looks_like_a_file = path.suffix != "" or len(path.parts) > 1
        return "clip" if looks_like_a_file and not name.startswith("/dev/") else "camera"


def list_cameras() -> list[CameraInfo]:
    """The cameras of this machine, without virtual ones of our own."""
    from occlufix_vcam.sources.camera import find_cameras

    return find_cameras()
