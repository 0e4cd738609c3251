"""pyvirtualcam as the virtual camera sees it, and sinks that fail when they are told to."""

from __future__ import annotations

import threading
from enum import Enum
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from occlufix_vcam.core.errors import SinkUnavailable
from occlufix_vcam.core.frame import Frame


class PixelFormat(Enum):
    BGR = "24BG"
    I420 = "I420"


class FakePyvirtualcam(ModuleType):
    """`devices` maps a backend to the devices it opens; `formats` are the pixel formats that they take."""

    PixelFormat = PixelFormat

    def __init__(self, devices: dict[str, list[str]], formats: tuple[PixelFormat, ...] = (PixelFormat.BGR,)) -> None:
        super().__init__("pyvirtualcam")
        self.BACKENDS = dict.fromkeys(devices)
        self.devices, self.formats = devices, formats
        self.opened: list[FakeCamera] = []

    def Camera(  # noqa: N802 - pyvirtualcam's name
        self, width: int, height: int, fps: float, *, fmt: PixelFormat, backend: str, device: str | None = None
    ) -> FakeCamera:
        there = self.devices[backend]
        if fmt not in self.formats:
            raise RuntimeError(f"unsupported format {fmt}")
        if not there or (device is not None and device not in there):
            raise RuntimeError(f"{device or 'the camera'} could not be opened")
        self.opened.append(FakeCamera(width, height, fps, fmt, backend, device or there[0]))
        return self.opened[-1]


class FakeCamera:
    def __init__(self, width: int, height: int, fps: float, fmt: PixelFormat, backend: str, device: str) -> None:
        shapes = {PixelFormat.BGR: (height, width, 3), PixelFormat.I420: (height * 3 // 2, width)}
        self.fps, self.fmt, self.backend, self.device = fps, fmt, backend, device
        self._shape = shapes[fmt]
        self.sent: list[NDArray[np.uint8]] = []
        self.closed = 0
        self.broken = False

    def send(self, frame: NDArray[np.uint8]) -> None:
        if self.broken:
            raise RuntimeError("write failed")
        assert frame.shape == self._shape and frame.dtype == np.uint8 and frame.flags.c_contiguous
        self.sent.append(frame.copy())

    def close(self) -> None:
        self.closed += 1


class FakeNode:
    """A camera node in PipeWire: who reads it and whether it still is there are set by the test."""

    def __init__(self, name: str, size: tuple[int, int], rate: float) -> None:
        self.name, self.size, self.rate = name, size, rate
        self.watched, self.lost = True, ""
        self.programs: list[str] = []
        self.sent: list[NDArray[np.uint8]] = []
        self.closed = 0

    def readers(self) -> list[str]:
        return self.programs

    def send(self, picture: NDArray[np.uint8]) -> bool:
        assert picture.shape == (self.size[1], self.size[0], 2) and picture.flags.c_contiguous
        self.sent.append(picture.copy())
        return True

    def close(self) -> None:
        self.closed += 1


class FakeLoopback:
    """A node of v4l2loopback: `keeps` is the format that it has already, `refuses` what it answers to a format.

    Who reads is set by the test: `told` is what the module tells of it.
    """

    def __init__(self, path: str = "/dev/video9") -> None:
        self.path = path
        self.keeps: tuple[tuple[int, int], str] | None = None
        self.refuses: OSError | None = None
        self.broken: OSError | None = None
        self.told: int | None = None
        self.steps: list[str] = []
        self.format: tuple[tuple[int, int], str] | None = None
        self.rate = 0.0
        self.sent: list[NDArray[np.uint8]] = []
        self.closed = 0

    def set_format(self, size: tuple[int, int], layout: str) -> tuple[tuple[int, int], str]:
        if self.refuses:
            raise self.refuses
        self.steps.append("format")
        self.format = self.keeps or (size, layout)
        return self.format

    def set_rate(self, rate: float) -> None:
        self.rate = rate

    def start(self) -> None:
        self.steps.append("start")

    def write(self, picture: NDArray[np.uint8]) -> None:
        if self.broken:
            raise self.broken
        assert self.format and picture.dtype == np.uint8 and picture.flags.c_contiguous
        (width, height), layout = self.format
        assert picture.size == width * height * {"YU12": 3, "YUYV": 4}[layout] // 2
        self.steps.append("picture")
        self.sent.append(picture.copy())

    def usage(self) -> int | None:
        told, self.told = self.told, None
        return told

    def close(self) -> None:
        self.closed += 1


class FakeReaders:
    """Who reads, as the test says."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.names: list[str] = []
        self.closed = 0

    def now(self, usage: int | None) -> list[str]:
        return self.names

    def close(self) -> None:
        self.closed += 1


class FakeSink:
    """Counts; `breaks` makes `send` fail with that, `close_breaks` makes `close` fail."""

    def __init__(self, name: str, breaks: Exception | None = None, close_breaks: str = "") -> None:
        self.name, self.breaks, self.close_breaks = name, breaks, close_breaks
        self.sent = self.closed = 0
        self.was_closed = threading.Event()

    def send(self, frame: Frame) -> None:
        if self.breaks:
            raise self.breaks
        self.sent += 1

    def close(self) -> None:
        self.closed += 1
        self.was_closed.set()
        if self.close_breaks:
            raise SinkUnavailable(self.close_breaks)


def frame_of(size: tuple[int, int], level: int = 200, index: int = 0) -> Frame:
    """A read-only frame of one grey level; `size` is (width, height)."""
    image = np.full((size[1], size[0], 3), level, np.uint8)
    image.flags.writeable = False
    return Frame(image, index, 0.0)
