"""Where frames go: the contract of a sink, the table of sinks, the one door to open them by, several at once."""

from __future__ import annotations

import logging
import pkgutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from occlufix_vcam.errors import ConfigError, SinkUnavailable
from occlufix_vcam.frame import Frame

log = logging.getLogger(__name__)

#: To add a sink: one file, and one line here. `--sink NAME` opens it by its name.
SINKS = {
    "virtual_camera": "occlufix_vcam.sinks.virtual_camera:VirtualCamera",
    "pipewire": "occlufix_vcam.sinks.pipewire:PipeWireCamera",
    "recorder": "occlufix_vcam.sinks.recorder:Recorder",
    "null": "occlufix_vcam.sinks.null:Null",
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


@dataclass(frozen=True, slots=True)
class VirtualCameraInfo:
    """A virtual camera, or a kind of it that is missing; `problem` is "" where it is ready, `hint` mends it."""

    backend: str
    name: str
    path: str
    problem: str = ""
    hint: str = ""


def open_sink(name: str, *, size: tuple[int, int], rate: float, path: Path | None = None) -> FrameSink:
    """Opens "auto" (the virtual camera that is there), a name in SINKS, or a virtual camera by name or path.

    `size` is (width, height) of what goes out, `path` the recorder's file. Raises SinkUnavailable with every
    backend's reason, ConfigError for a recorder without a file.
    """
    kind = name if name in SINKS else "virtual_camera"
    if kind == "recorder" and path is None:
        raise ConfigError("the recorder needs a file to write to", "name one: `--record FILE.mp4`")
    target = str(path) if kind == "recorder" else name
    sink: FrameSink = pkgutil.resolve_name(SINKS[kind])(target, size=size, rate=rate)
    return sink


def list_virtual_cameras() -> list[VirtualCameraInfo]:
    """Every virtual camera and every kind of it that this system knows, the best first."""
    from occlufix_vcam.sinks.virtual_camera import find_virtual_cameras

    return find_virtual_cameras()


class Sinks:
    """Several sinks as one. One that fails is closed, told of once, and left out from then on."""

    def __init__(
        self, sinks: Sequence[FrameSink], on_failure: Callable[[FrameSink, Exception], None] | None = None
    ) -> None:
        self._open = list(sinks)
        self._on_failure = on_failure
        self.failures: dict[str, str] = {}

    @property
    def open(self) -> tuple[FrameSink, ...]:
        """Those that still take frames."""
        return tuple(self._open)

    @property
    def name(self) -> str:
        return ", ".join(sink.name for sink in self._open) or "none"

    def send(self, frame: Frame) -> None:
        """Raises SinkUnavailable with every reason when none is left."""
        for sink in tuple(self._open):
            try:
                sink.send(frame)
            except Exception as error:  # noqa: BLE001 - whatever breaks one sink must not stop the others
                self._leave_out(sink, error)
        if not self._open:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.failures.items())
            raise SinkUnavailable(f"no sink is left ({reasons})" if reasons else "there is no sink", "open another")

    def close(self) -> None:
        """Closes all, the last first; then raises the trouble that came of it."""
        with ExitStack() as closing_all:
            while self._open:
                closing_all.callback(self._open.pop(0).close)

    def _leave_out(self, sink: FrameSink, error: Exception) -> None:
        self._open.remove(sink)
        self.failures[sink.name] = str(error)
        log.warning("sink %s failed: %s", sink.name, error)
        try:
            sink.close()
        except Exception as trouble:  # noqa: BLE001 - the same; the first error is the one that counts
            log.warning("sink %s did not close well: %s", sink.name, trouble)
        if self._on_failure is not None:
            self._on_failure(sink, error)
