"""What holds for every entry of SINKS."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from occlufix_vcam.sinks import SINKS, FrameSink, Watchable
from occlufix_vcam.sinks.null import Null
from occlufix_vcam.sinks.pipewire import PipeWireCamera
from occlufix_vcam.sinks.recorder import Recorder
from occlufix_vcam.sinks.v4l2 import V4l2Camera
from occlufix_vcam.sinks.virtual_camera import VirtualCamera
from occlufix_vcam.system import v4l2
from tests.harness.sinks import FakeLoopback, FakeNode, FakePyvirtualcam, FakeReaders, frame_of

SIZE, RATE = (64, 48), 30.0
Opener = Callable[[Path], FrameSink]


def open_virtual_camera(_: Path) -> FrameSink:
    module = FakePyvirtualcam({"v4l2loopback": ["/dev/video9"]})
    return VirtualCamera("auto", size=SIZE, rate=RATE, pyvirtualcam=module)


def open_v4l2(_: Path) -> FrameSink:
    return V4l2Camera("auto", size=SIZE, rate=RATE, open_node=FakeLoopback, watch=FakeReaders)


OPENERS: dict[str, Opener] = {
    "v4l2": open_v4l2,
    "pyvirtualcam": open_virtual_camera,
    "pipewire": lambda _: PipeWireCamera("auto", size=SIZE, rate=RATE, open_node=FakeNode, refused=list),
    "recorder": lambda folder: Recorder(str(folder / "call.mp4"), size=SIZE, rate=RATE),
    "null": lambda _: Null("null", size=SIZE, rate=RATE),
}


@pytest.fixture(params=SINKS)
def sink(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FrameSink:
    node = v4l2.VideoNode(9, "/dev/video9", v4l2.OWN_LABEL, loopback=True, captures=False, accepts=True)
    monkeypatch.setattr(v4l2, "video_nodes", lambda virtual_only=False: [node])
    monkeypatch.setattr(sys, "platform", "linux")
    return OPENERS[request.param](tmp_path)


def test_it_has_a_name(sink: FrameSink) -> None:
    assert sink.name
    sink.close()


@pytest.mark.parametrize("size", [(64, 48), (65, 49), (64, 64), (48, 640), (3840, 2160)])
def test_it_takes_frames_of_any_size_and_leaves_them_as_they_are(sink: FrameSink, size: tuple[int, int]) -> None:
    frame = frame_of(size)
    for _ in range(2):
        sink.send(frame)
    sink.send(frame_of(SIZE))
    assert (frame.image == 200).all()
    sink.close()


def test_it_can_be_closed_twice(sink: FrameSink, tmp_path: Path) -> None:
    sink.send(frame_of(SIZE))
    sink.close()
    before = sorted(tmp_path.iterdir())
    sink.close()
    assert sorted(tmp_path.iterdir()) == before


def test_it_can_be_closed_unused_and_leaves_nothing(sink: FrameSink, tmp_path: Path) -> None:
    sink.close()
    assert not list(tmp_path.iterdir())


def test_who_can_tell_its_readers_does_so_until_it_is_closed(sink: FrameSink) -> None:
    if isinstance(sink, Watchable):
        assert all(isinstance(name, str) for name in sink.viewers())
    sink.close()
