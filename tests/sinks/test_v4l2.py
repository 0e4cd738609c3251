"""The writer for v4l2loopback, on nodes that are played: what goes out, in which order, what is said if it can't."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from occlufix_vcam.core.errors import SinkUnavailable, Trouble
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.sinks.v4l2 import V4l2Camera, find_virtual_cameras
from occlufix_vcam.system import v4l2
from occlufix_vcam.system.linux import LinuxMachine
from tests.harness.sinks import FakeLoopback, FakeReaders, frame_of


def node(index: int, name: str = v4l2.OWN_LABEL, **changes: bool) -> v4l2.VideoNode:
    facts = {"loopback": True, "captures": False, "accepts": True, **changes}
    return v4l2.VideoNode(index, f"/dev/video{index}", name, **facts)


OURS, OTHER = node(9), node(4, "Dummy video device (0x0000)")
WEBCAM = v4l2.VideoNode(0, "/dev/video0", "Webcam", loopback=False, captures=True, accepts=False)


class Desk:
    """The nodes of a system, what was opened of them, and who holds them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *nodes: v4l2.VideoNode) -> None:
        self.fakes = {each.path: FakeLoopback(each.path) for each in nodes}
        self.errors: dict[str, OSError] = {}
        self.holders: dict[str, list[str]] = {}
        self.readers: list[FakeReaders] = []
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(v4l2, "video_nodes", lambda virtual_only=False: list(nodes))
        monkeypatch.setattr(v4l2, "holders", lambda path: self.holders.get(path, []))

    def open(self, target: str = "auto", size: tuple[int, int] = (64, 48), rate: float = 30.0) -> V4l2Camera:
        return V4l2Camera(target, size=size, rate=rate, open_node=self._open_node, watch=self._watch)

    def _open_node(self, path: str) -> FakeLoopback:
        if path in self.errors:
            raise self.errors[path]
        return self.fakes[path]

    def _watch(self, path: str) -> FakeReaders:
        self.readers.append(FakeReaders(path))
        return self.readers[-1]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(monkeypatch, WEBCAM, OTHER, OURS)


def test_the_node_with_our_label_is_taken_first(desk: Desk) -> None:
    assert desk.open().name == "/dev/video9 (v4l2loopback)"
    assert not desk.fakes["/dev/video4"].steps


@pytest.mark.parametrize("target", ["/dev/video4", "dummy video device (0x0000)"])
def test_a_node_by_path_or_name(desk: Desk, target: str) -> None:
    assert "video4" in desk.open(target).name


def test_the_first_picture_is_out_before_anybody_is_told(desk: Desk) -> None:
    camera = desk.open(rate=12.5)
    fake = desk.fakes["/dev/video9"]
    assert fake.steps == ["format", "start", "picture"] and fake.rate == 12.5
    assert camera.viewers() == []


def test_a_picture_that_goes_out_again_is_not_converted_again(desk: Desk) -> None:
    camera, fake = desk.open(), desk.fakes["/dev/video9"]
    frame = frame_of((64, 48))
    camera.send(frame)
    frame.image.flags.writeable = True
    frame.image[:] = 0
    camera.send(frame)
    assert np.array_equal(fake.sent[-1], fake.sent[-2])


def bars(size: tuple[int, int]) -> tuple[Frame, list[tuple[int, int, int]]]:
    """Eight bars and their colours in BGR."""
    width, height = size
    colours = [(b, g, r) for g in (20, 235) for r in (20, 235) for b in (20, 235)]
    image = np.repeat(np.array(colours, np.uint8), width // 8, axis=0)[None].repeat(height, axis=0)
    return Frame(np.ascontiguousarray(image), 0, 0.0), colours


def from_bt601(y: float, u: float, v: float) -> tuple[float, float, float]:
    """BGR of one limited-range BT.601 value, by the standard's own figures."""
    light, blue, red = (y - 16) * 255 / 219, (u - 128) * 255 / 224, (v - 128) * 255 / 224
    return light + 1.772 * blue, light - 0.344136 * blue - 0.714136 * red, light + 1.402 * red


def planes_of_i420(data: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, half = width * height, width * height // 4
    small = (height // 2, width // 2)
    return data[:y].reshape(height, width), data[y : y + half].reshape(small), data[y + half :].reshape(small)


def planes_of_yuyv(data: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pairs = data.reshape(height, width // 2, 4)
    return data.reshape(height, width, 2)[..., 0], pairs[..., 1], pairs[..., 3]


@pytest.mark.parametrize(("layout", "planes"), [("YU12", planes_of_i420), ("YUYV", planes_of_yuyv)])
def test_colours_are_those_of_bt601_in_limited_range(desk: Desk, layout: str, planes: Callable[..., object]) -> None:
    size = (128, 16)
    desk.fakes["/dev/video9"].keeps = (size, layout)
    camera = desk.open(size=size)
    frame, colours = bars(size)
    camera.send(frame)
    y, u, v = planes(desk.fakes["/dev/video9"].sent[-1], *size)
    for place, wanted in enumerate(colours):
        middle = 16 * place + 8
        seen = from_bt601(float(y[8, middle]), float(u[-1, middle // 2]), float(v[-1, middle // 2]))
        assert np.abs(np.subtract(seen, wanted)).max() <= 4, (wanted, seen)


def test_other_sizes_get_bars_and_odd_ones_are_made_even(desk: Desk) -> None:
    camera = desk.open(size=(63, 47))
    assert camera.size == (64, 48)
    camera.send(frame_of((20, 48)))
    seen = cv2.cvtColor(desk.fakes["/dev/video9"].sent[-1].reshape(72, 64), cv2.COLOR_YUV2BGR_I420)
    assert seen[:, 24:40].min() > 190 and seen[:, :20].max() < 10 and seen[:, 44:].max() < 10


@pytest.mark.parametrize("layout", ["YU12", "YUYV"])
def test_a_format_that_the_node_keeps_is_taken_over(desk: Desk, layout: str) -> None:
    desk.fakes["/dev/video9"].keeps = ((160, 90), layout)
    camera = desk.open()
    assert camera.size == (160, 90)
    camera.send(frame_of((64, 48)))


def test_a_node_that_only_takes_yuyv_gets_it(desk: Desk) -> None:
    fake = desk.fakes["/dev/video9"]
    wanted: list[str] = []

    def only_yuyv(size: tuple[int, int], layout: str) -> tuple[tuple[int, int], str]:
        wanted.append(layout)
        fake.format = (size, "YUYV")
        return fake.format

    fake.set_format = only_yuyv  # type: ignore[method-assign]
    assert desk.open().size == (64, 48) and wanted == ["YU12", "YUYV"]


def test_a_kept_format_that_we_cannot_make_is_said(desk: Desk) -> None:
    desk.fakes["/dev/video9"].keeps = ((160, 90), "MJPG")
    desk.holders["/dev/video9"] = ["zoom (7)"]
    with pytest.raises(SinkUnavailable, match="keeps the format MJPG 160x90 of an earlier program") as caught:
        desk.open("/dev/video9")
    assert "keep_format=0" in caught.value.hint and "zoom (7)" in caught.value.hint
    assert desk.fakes["/dev/video9"].closed == 1


def test_a_node_that_an_earlier_program_left_useless_is_woken(desk: Desk) -> None:
    fake = desk.fakes["/dev/video9"]
    fake.refuses = OSError(errno.EINVAL, "Invalid argument")
    start = fake.start

    def wake() -> None:
        start()
        fake.refuses = None

    fake.start = wake  # type: ignore[method-assign]
    assert desk.open("/dev/video9").size == (64, 48)
    assert fake.steps[:1] == ["start"] and fake.closed == 2


def test_a_node_that_stays_useless_is_said(desk: Desk) -> None:
    desk.fakes["/dev/video9"].refuses = OSError(errno.EINVAL, "Invalid argument")
    with pytest.raises(SinkUnavailable, match="Invalid argument"):
        desk.open("/dev/video9")


def test_who_reads_is_asked_of_the_node_that_was_opened(desk: Desk) -> None:
    camera = desk.open()
    desk.readers[0].names = ["chrome (7)"]
    assert camera.viewers() == ["chrome (7)"] and desk.readers[0].path == "/dev/video9"
    camera.close()
    assert desk.readers[0].closed == desk.fakes["/dev/video9"].closed == 1


def test_a_node_that_stops_is_sink_unavailable(desk: Desk) -> None:
    camera = desk.open()
    desk.fakes["/dev/video9"].broken = OSError(errno.ENODEV, "No such device")
    with pytest.raises(SinkUnavailable, match=r"video9 \(v4l2loopback\) stopped: .*No such device"):
        camera.send(frame_of((64, 48)))


def test_a_node_that_fails_at_its_first_picture_is_closed(desk: Desk) -> None:
    desk.fakes["/dev/video9"].broken = OSError(errno.EIO, "it took 3 of 4 bytes")
    with pytest.raises(SinkUnavailable, match="3 of 4"):
        desk.open()
    assert desk.fakes["/dev/video9"].closed == 1


# ---- what can be wrong, each with what to do ----


def said(desk: Desk, target: str = "auto") -> tuple[str, str]:
    with pytest.raises(SinkUnavailable) as caught:
        desk.open(target)
    assert "\n" not in caught.value.message and caught.value.hint
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(("can_load", "way"), [(True, "occlufix-vcam setup"), (False, "--sink null --record")])
def test_no_module(monkeypatch: pytest.MonkeyPatch, can_load: bool, way: str) -> None:
    monkeypatch.setattr(LinuxMachine, "can_load", can_load)
    message, hint = said(Desk(monkeypatch, WEBCAM))
    assert "v4l2loopback is not loaded" in message and way in hint


def test_a_node_that_another_program_writes_to_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, node(9, captures=True, accepts=False))
    desk.holders["/dev/video9"] = ["obs (42)"]
    message, hint = said(desk)
    assert "obs (42) uses it" in message and "devices=2" in hint


def test_a_node_that_says_so_only_when_it_is_opened_names_it_too(desk: Desk) -> None:
    desk.fakes["/dev/video9"].refuses = OSError(errno.EBUSY, "Device or resource busy")
    desk.holders["/dev/video9"] = ["obs (42)"]
    assert "obs (42) uses it" in said(desk, "/dev/video9")[0]


def test_a_node_whose_writer_went_without_a_word_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "video9" in Desk(monkeypatch, node(9, captures=True, accepts=False)).open().name


def test_too_few_nodes_name_every_one(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, node(4, "OBS", accepts=False, captures=True), node(5, "Droidcam", accessible=False))
    desk.holders["/dev/video4"] = ["obs (42)"]
    message, hint = said(desk)
    assert "video4: obs (42) uses it" in message and "video5: no permission" in message and "devices=2" in hint


def test_a_node_that_may_not_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    message, hint = said(Desk(monkeypatch, node(9, accessible=False)))
    assert "no permission" in message and "usermod -aG video" in hint


def test_a_node_that_is_not_there_names_those_that_are(desk: Desk) -> None:
    assert "there are: /dev/video9, /dev/video4" in said(desk, "/dev/video5")[0]


def test_the_next_node_is_tried(desk: Desk) -> None:
    desk.errors["/dev/video9"] = OSError(errno.EBUSY, "Device or resource busy")
    assert "video4" in desk.open().name


def test_a_module_without_exclusive_caps_works_and_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Desk(monkeypatch, node(9, captures=True)).open()
    assert "exclusive_caps=1" in camera.flaw.what
    (place,) = find_virtual_cameras()
    assert camera.flaw == Trouble(place.flaw, place.hint, code="virtual_camera_flawed")
    assert place.problem == "" and "setup" in place.hint


@pytest.mark.parametrize("label", ["OccluFix", '"OccluFix Camera'])
def test_a_label_that_the_module_changed_is_ours_and_is_said(monkeypatch: pytest.MonkeyPatch, label: str) -> None:
    camera = Desk(monkeypatch, OTHER, node(9, label)).open()
    assert "video9" in camera.name and f'listed as "{label}"' in camera.flaw.what


def test_nothing_is_wrong_with_a_good_one(desk: Desk) -> None:
    assert desk.open().flaw == Trouble("")
