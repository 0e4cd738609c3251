"""What holds for every entry of SOURCES."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from occlufix_vcam.core.frame import Frame
from occlufix_vcam.sources import SOURCES, CameraInfo, CameraSource, SourceOptions
from occlufix_vcam.sources.camera import Camera
from occlufix_vcam.sources.clip import Clip
from occlufix_vcam.sources.demo.source import Demo
from tests.harness.sources import FakeCapture, grey, write_clip

Opener = Callable[[Path], CameraSource]


class SteadyCapture(FakeCapture):
    """A camera of 200 frames a second, until it is released."""

    def grab(self) -> bool:
        self._grabbed = grey(7)
        return not self.released.wait(0.005)


def open_camera(_: Path) -> CameraSource:
    capture = SteadyCapture()
    webcam = CameraInfo(0, "Webcam", "/dev/video0")
    return Camera("0", SourceOptions(), open_capture=lambda _: capture, cameras=lambda: [webcam])


def open_clip(folder: Path) -> CameraSource:
    return Clip(str(write_clip(folder / "clip.mp4", 4)), SourceOptions(rate=100))


def open_demo(_: Path) -> CameraSource:
    return Demo("demo", SourceOptions(width=64, height=48, rate=100))


OPENERS: dict[str, Opener] = {"camera": open_camera, "clip": open_clip, "demo": open_demo}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> CameraSource:
    return OPENERS[request.param](tmp_path)


def first(source: CameraSource) -> Frame:
    frame = source.read(2)
    assert frame is not None
    return frame


def test_it_says_what_it_is(source: CameraSource) -> None:
    assert source.size == (64, 48) and source.rate > 0 and source.description
    source.close()


def test_its_frames_are_what_flows(source: CameraSource) -> None:
    before = time.monotonic()
    image = first(source).image
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8
    assert image.flags.c_contiguous and not image.flags.writeable
    assert before - 5 < first(source).captured_at <= time.monotonic()
    source.close()


def test_its_frames_count_upwards(source: CameraSource) -> None:
    one, two = first(source), first(source)
    assert one.index == 0 and two.index > one.index and two.captured_at >= one.captured_at
    source.close()


def test_a_frame_does_not_change_once_it_is_out(source: CameraSource) -> None:
    frame = first(source)
    copy = frame.image.copy()
    first(source)
    assert np.array_equal(frame.image, copy)
    source.close()


@pytest.fixture
def threads_before() -> set[threading.Thread]:
    return set(threading.enumerate())


def test_it_can_be_closed_twice_and_leaves_no_thread(
    threads_before: set[threading.Thread], source: CameraSource
) -> None:
    first(source)
    source.close()
    source.close()
    assert set(threading.enumerate()) <= threads_before
