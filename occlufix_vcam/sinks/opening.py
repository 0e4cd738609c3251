"""Opens a sink by name, and lists the virtual cameras of this machine."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

from occlufix_vcam.core.errors import ConfigError, SinkUnavailable
from occlufix_vcam.sinks import SINKS, VIRTUAL_CAMERAS, FrameSink, VirtualCameraInfo

_ANY = ("auto", "virtual_camera")


def open_sink(
    name: str, *, size: tuple[int, int], rate: float, path: Path | None = None, **options: object
) -> FrameSink:
    """Opens "auto" (the first virtual camera that opens), a name in SINKS, or a virtual camera by name or path.

    `size` is the output's (width, height), `path` the recorder's file, `options` are others of it. Raises
    SinkUnavailable with the reason of every kind, and ConfigError for a recorder without a file.
    """
    if name == "recorder" and path is None:
        raise ConfigError("the recorder needs a file to write to", "name one: `--record FILE.mp4`")
    kinds = (name,) if name in SINKS else VIRTUAL_CAMERAS.get(sys.platform, ("pyvirtualcam",))
    target = str(path) if name == "recorder" else "auto" if name in _ANY or name in SINKS else name
    errors: list[SinkUnavailable] = []
    for kind in kinds:
        try:
            sink: FrameSink = pkgutil.resolve_name(SINKS[kind])(target, size=size, rate=rate, **options)
            return sink
        except SinkUnavailable as error:
            errors.append(error)
    raise none_opened(errors)


def check_names(names: Sequence[str]) -> None:
    """Raises SinkUnavailable for a name that is neither a sink nor a virtual camera of this machine."""
    unknown = [name for name in names if name not in SINKS and name not in _ANY and not Path(name).exists()]
    if not unknown:
        return
    known = {label for camera in list_virtual_cameras() for label in (camera.name, camera.path)}
    for name in unknown:
        if name not in known:
            raise SinkUnavailable(
                f"there is no sink or virtual camera {name}",
                "run `occlufix-vcam devices` to list them",
                code="no_such_sink",
                sink=name,
            )


def none_opened(errors: Sequence[SinkUnavailable]) -> SinkUnavailable:
    """One error with every reason."""
    if len(errors) == 1:
        return errors[0]
    return SinkUnavailable("; ".join(error.message for error in errors), errors[0].hint, code="no_virtual_camera")


def list_virtual_cameras() -> list[VirtualCameraInfo]:
    """Every virtual camera and every kind of one on this system, best first."""
    found: list[VirtualCameraInfo] = []
    for kind in VIRTUAL_CAMERAS.get(sys.platform, ()):
        module = SINKS[kind].partition(":")[0]
        found += pkgutil.resolve_name(f"{module}:find_virtual_cameras")()
    return found
