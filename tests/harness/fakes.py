"""A camera, a sink and a pipeline that tests script and watch; all of them wait on conditions, none sleeps."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from engines.contract import Image
from occlufix_vcam.core.errors import SinkUnavailable, Trouble
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.telemetry import Telemetry
from occlufix_vcam.pipeline import FrameSummary
from occlufix_vcam.runtime.daemon import Daemon

WAIT_S = 60.0


class ScriptedCamera:
    """Gives what the test puts: frames, or errors to raise."""

    def __init__(self, size: tuple[int, int] = (64, 48), rate: float = 100.0) -> None:
        self.size, self.rate, self.description, self.identity = size, rate, "scripted camera", "auto"
        self.closed = threading.Event()
        self._script: queue.Queue[Frame | Exception] = queue.Queue()
        self._index = 0

    def show(self, level: int, size: tuple[int, int] | None = None) -> None:
        """A picture of one grey level, captured now."""
        width, height = size or self.size
        self.give(np.full((height, width, 3), level, np.uint8))

    def give(self, image: Image) -> None:
        self._script.put(Frame(image, self._index, time.monotonic()))
        self._index += 1

    def fail(self, error: Exception) -> None:
        self._script.put(error)

    def read(self, timeout: float) -> Frame | None:
        try:
            item = self._script.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        self.closed.set()


def middle(frame: Frame) -> int:
    """The grey level in the middle of a frame: its sides may be bars."""
    height, width = frame.image.shape[:2]
    return int(frame.image[height // 2, width // 2, 0])


class WatchedSink:
    """Remembers what was sent; `break_off` makes it fail from then on."""

    name = "watched sink"

    def __init__(self) -> None:
        self.sent: list[Frame] = []
        self.flaw = Trouble("")
        self.closed = threading.Event()
        self.close_error: Exception | None = None
        self._broken = False
        self._changed = threading.Condition()

    def send(self, frame: Frame) -> None:
        with self._changed:
            if self._broken:
                raise SinkUnavailable("the sink is gone")
            self.sent.append(frame)
            self._changed.notify_all()

    def break_off(self) -> None:
        with self._changed:
            self._broken = True

    def close(self) -> None:
        self.closed.set()
        if self.close_error is not None:
            raise self.close_error

    def levels(self) -> list[int]:
        """The grey level of each camera picture sent; placeholder frames are left out."""
        return [middle(frame) for frame in self.sent if frame.index >= 0]

    def wait_for(self, seen: Callable[[WatchedSink], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: seen(self), WAIT_S), f"sent so far: {self.levels()}"

    def wait_for_more(self, pictures: int = 1) -> None:
        """Until so many more were sent than now."""
        sent = len(self.sent)
        self.wait_for(lambda sink: len(sink.sent) >= sent + pictures)

    def wait_for_level(self, level: int) -> None:
        """Until a picture of that level was sent, and something after it: then the daemon has counted it too."""
        self.wait_for(lambda sink: level in sink.levels()[:-1])


class ReadSink(WatchedSink):
    """A sink that says who reads it: `readers`."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: tuple[str, ...] = ()

    def viewers(self) -> tuple[str, ...]:
        return self.readers


class InvertingPipeline:
    """Restores by inverting, so that a touched picture is told from an untouched one."""

    def __init__(self) -> None:
        self.telemetry = Telemetry()
        self.closed = threading.Event()
        self.mark: str | None = None
        self.calls = 0
        self.error: Exception | None = None
        self.entered = threading.Event()
        self.may_finish = threading.Event()
        self.may_finish.set()

    def __call__(self, frame: Frame) -> tuple[Frame, FrameSummary]:
        self.calls += 1
        self.entered.set()
        assert self.may_finish.wait(WAIT_S)
        if self.error is not None:
            raise self.error
        self.telemetry.count("restored")
        restored = Frame(255 - frame.image, frame.index, frame.captured_at)
        return restored, FrameSummary(faces=1, restored=1, coverage=0.5)

    def close(self) -> None:
        self.closed.set()


def until(is_so: Callable[[], bool]) -> None:
    """Returns as soon as `is_so`; fails after WAIT_S."""
    pause, ends_at = threading.Event(), time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < ends_at, "it never came true"
        pause.wait(0.01)


@contextmanager
def running(daemon: Daemon) -> Iterator[list[Exception]]:
    """Runs `daemon` in a thread while the block lasts; gives what `run` raised."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            daemon.run()
        except Exception as error:  # noqa: BLE001  a test looks at whatever it was
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        daemon.stop()
        thread.join(WAIT_S)
        assert not thread.is_alive()
