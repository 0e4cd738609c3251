"""Opens a source by its name, and finds the cameras of this machine."""

from __future__ import annotations

import pkgutil
import stat
from pathlib import Path

from occlufix_vcam.sources import SOURCES, CameraInfo, CameraSource, SourceOptions


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
