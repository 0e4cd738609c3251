"""A camera driver, a clock and clips that tests script."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.generic]

YUYV, MJPG = (int(cv2.VideoWriter.fourcc(*code)) for code in ("YUYV", "MJPG"))
UNPLUGGED, BROKEN = "unplugged", "broken"


class FakeCapture:
    """cv2.VideoCapture, scripted: `show` queues a picture, BROKEN or UNPLUGGED; `grab` blocks until there is one.

    `modes` maps a pixel format to the (width, height, rate) that the driver grants in it, whatever is asked for.
    """

    def __init__(self, modes: Mapping[int, tuple[int, int, float]] | None = None, *, opens: bool = True) -> None:
        self._modes = modes or {YUYV: (1280, 720, 30.0)}
        self._opens = opens
        self._script: queue.Queue[Picture | str] = queue.Queue()
        self._grabbed: Picture | str = BROKEN
        self.format = YUYV
        self.released = threading.Event()

    def show(self, *items: Picture | str) -> FakeCapture:
        for item in items:
            self._script.put(item)
        return self

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self._opens  # and it stays so when the camera is unplugged

    def grab(self) -> bool:
        self._grabbed = self._script.get()
        return not (isinstance(self._grabbed, str) and self._grabbed == UNPLUGGED)

    def retrieve(self) -> tuple[bool, Picture | None]:
        return (False, None) if isinstance(self._grabbed, str) else (True, self._grabbed)

    def get(self, prop: int) -> float:
        width, height, rate = self._modes[self.format]
        known = {
            cv2.CAP_PROP_FOURCC: self.format,
            cv2.CAP_PROP_FRAME_WIDTH: width,
            cv2.CAP_PROP_FRAME_HEIGHT: height,
            cv2.CAP_PROP_FPS: rate,
        }
        return float(known[prop])

    def set(self, prop: int, value: float) -> bool:
        if prop == cv2.CAP_PROP_FOURCC:
            if int(value) not in self._modes:
                return False
            self.format = int(value)
        return True

    def release(self) -> None:
        self.released.set()


class FakeClock:
    """Time that only passes in `sleep` and `advance`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    sleep = advance


def grey(level: int, size: tuple[int, int] = (64, 48)) -> NDArray[np.uint8]:
    """A picture of one grey level; `size` is (width, height)."""
    return np.full((size[1], size[0], 3), level, np.uint8)


def write_clip(path: Path, frames: int, rate: float = 25.0, size: tuple[int, int] = (64, 48)) -> Path:
    """A video whose frame n has the grey level 16 * n."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    for n in range(frames):
        writer.write(grey(16 * n, size))
    writer.release()
    return path


def number_of(image: NDArray[np.uint8]) -> int:
    """Which frame of `write_clip` it is."""
    return round(float(image.mean()) / 16)
