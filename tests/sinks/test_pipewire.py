"""The camera in PipeWire, without PipeWire: what is written to the node, and what is said if there is none."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest

from occlufix_vcam.core.errors import SinkUnavailable, Trouble
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.sinks import libpipewire
from occlufix_vcam.sinks.libpipewire import PipeWireError, buffer_needs, load_library, video_format
from occlufix_vcam.sinks.opening import open_sink
from occlufix_vcam.sinks.pipewire import PipeWireCamera, find_virtual_cameras
from occlufix_vcam.sinks.pipewire_node import Registry
from occlufix_vcam.system.camera_portal import AGAIN_S, Refusals, refused_programs
from tests.harness.sinks import FakeNode, frame_of
from tests.harness.sources import FakeClock


def opened(size: tuple[int, int] = (64, 48)) -> tuple[PipeWireCamera, FakeNode]:
    nodes: list[FakeNode] = []

    def open_node(name: str, size: tuple[int, int], rate: float) -> FakeNode:
        nodes.append(FakeNode(name, size, rate))
        return nodes[0]

    return PipeWireCamera("auto", size=size, rate=30, open_node=open_node, refused=list), nodes[0]


def nothing_there(*_: object) -> FakeNode:
    raise PipeWireError("no session answers", "log in to a desktop")


def test_it_is_listed_under_our_name() -> None:
    assert opened()[1].name == "OccluFix Camera"


@pytest.mark.parametrize(
    ("bgr", "yuv"),
    [
        ((255, 255, 255), (235, 128, 128)),
        ((0, 0, 0), (16, 128, 128)),
        ((0, 0, 255), (82, 90, 240)),
        ((0, 255, 0), (145, 54, 34)),
        ((255, 0, 0), (41, 240, 110)),
    ],
    ids=["white", "black", "red", "green", "blue"],
)
def test_colours_are_those_of_a_webcam(bgr: tuple[int, ...], yuv: tuple[int, ...]) -> None:
    """BT.601 in the limited range, as the offered format says."""
    camera, node = opened()
    camera.send(Frame(np.full((48, 64, 3), bgr, np.uint8), 0, 0.0))
    luma, blue, red = node.sent[0][..., 0], node.sent[0][:, 0::2, 1], node.sent[0][:, 1::2, 1]
    for plane, expected in zip((luma, blue, red), yuv, strict=True):
        assert abs(plane.astype(int) - expected).max() <= 1


def test_odd_sizes_grow_by_one_pixel() -> None:
    assert opened((65, 49))[1].size == (66, 50)


def test_nothing_is_sent_while_nobody_watches() -> None:
    camera, node = opened()
    node.watched = False
    camera.send(frame_of((64, 48)))
    assert node.sent == [] and camera.viewers() == []


def test_a_picture_that_goes_out_again_is_the_same() -> None:
    camera, node = opened()
    first, second = frame_of((64, 48), 50), frame_of((64, 48), 150)
    for frame in (first, first, second):
        camera.send(frame)
    assert (node.sent[0] == node.sent[1]).all() and (node.sent[1] != node.sent[2]).any()


def test_who_watches_is_named_as_far_as_it_is_known() -> None:
    camera, node = opened()
    assert camera.viewers() == ["a program"]
    node.programs = ["Firefox (12)"]
    assert camera.viewers() == ["Firefox (12)"]


def test_a_session_that_ended_is_said() -> None:
    camera, node = opened()
    node.lost = "connection error"
    for use in (camera.viewers, lambda: camera.send(frame_of((64, 48)))):
        with pytest.raises(SinkUnavailable, match="is gone: connection error") as caught:
            use()
        assert "systemctl --user restart" in caught.value.hint


def test_no_session_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SinkUnavailable, match="no session answers") as caught:
        PipeWireCamera("auto", size=(64, 48), rate=30, open_node=nothing_there)
    assert caught.value.hint == "log in to a desktop"
    monkeypatch.setattr(sys, "platform", "linux")
    (found,) = find_virtual_cameras(nothing_there, list)  # type: ignore[arg-type]
    assert (found.problem, found.hint) == ("no session answers", "log in to a desktop")


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libpipewire, "LIBRARY", "libpipewire-of-nowhere.so.0")
    load_library.cache_clear()
    with pytest.raises(SinkUnavailable, match="libpipewire-of-nowhere") as caught:
        open_sink("pipewire", size=(64, 48), rate=30)
    assert "install PipeWire" in caught.value.hint


def test_other_systems_have_no_pipewire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert find_virtual_cameras(nothing_there) == []  # type: ignore[arg-type]


def test_another_camera_than_ours_is_not_opened_in_its_place() -> None:
    with pytest.raises(SinkUnavailable, match="no camera /dev/video9 of ours"):
        PipeWireCamera("/dev/video9", size=(64, 48), rate=30, open_node=FakeNode)


ANSWER = """{"type":"a{sas}v","data":[{"":["yes"],"org.mozilla.firefox":["no"],"us.zoom.Zoom":["yes"]},{}]}"""


def test_programs_that_the_desktop_refuses_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = refused_programs(lambda _: ANSWER)
    assert refused == ["org.mozilla.firefox"]
    camera = PipeWireCamera("auto", size=(64, 48), rate=30, open_node=FakeNode, refused=lambda: refused)
    camera.close()  # by now it has asked
    assert "refuses cameras to org.mozilla.firefox" in camera.flaw.what
    assert "flatpak permission-set devices camera org.mozilla.firefox yes" in camera.flaw.hint
    monkeypatch.setattr(sys, "platform", "linux")
    (found,) = find_virtual_cameras(lambda: FakeNode("", (2, 2), 1), lambda: refused)  # type: ignore[arg-type,return-value]
    assert found.problem == "" and "refuses" in found.flaw and "permission-set" in found.hint


def test_who_is_refused_while_it_runs_is_named_soon_after() -> None:
    clock = FakeClock()
    answers: list[list[str]] = [[], ["org.mozilla.firefox"]]
    refusals = Refusals(lambda: answers.pop(0), clock)
    refusals.close()
    assert refusals.newest() == [] and len(answers) == 1
    clock.advance(AGAIN_S)
    refusals.newest()
    refusals.close()
    assert refusals.newest() == ["org.mozilla.firefox"] and answers == []


@pytest.mark.parametrize(
    "answer", ["", "no such table", "{}", '{"data":[]}', '{"data":[{}]}', '{"data":[{"a":["ask"]}]}']
)
def test_where_nobody_was_refused_nothing_is_said(answer: str) -> None:
    assert refused_programs(lambda _: answer) == []
    camera = PipeWireCamera("auto", size=(64, 48), rate=30, open_node=FakeNode, refused=list)
    assert camera.flaw == Trouble("")


def test_readers_are_found_through_their_links() -> None:
    registry = Registry()
    registry.add(40, "PipeWire:Interface:Client", {"application.name": "Firefox", "application.process.id": "1234"})
    registry.add(41, "PipeWire:Interface:Node", {"node.name": "capture", "client.id": "40"})
    registry.add(42, "PipeWire:Interface:Node", {"node.name": "recorder"})
    for number, (source, reader) in enumerate([(7, 41), (7, 42), (8, 42), (7, 41)]):
        facts = {"link.output.node": str(source), "link.input.node": str(reader)}
        registry.add(50 + number, "PipeWire:Interface:Link", facts)
    assert registry.readers_of(7) == ["Firefox (1234)", "recorder"]
    registry.remove(50)
    registry.remove(53)
    assert registry.readers_of(7) == ["recorder"]
    registry.remove(42)
    assert registry.readers_of(7) == ["a program"]


@pytest.mark.parametrize(("access", "name"), [("unrestricted", "OBS (77)"), ("portal", "OBS")])
def test_the_portals_process_is_not_taken_for_the_readers(access: str, name: str) -> None:
    registry = Registry()
    facts = {"application.name": "OBS", "pipewire.sec.pid": "77", "pipewire.access": access}
    registry.add(40, "PipeWire:Interface:Client", facts)
    registry.add(41, "PipeWire:Interface:Node", {"client.id": "40"})
    registry.add(42, "PipeWire:Interface:Link", {"link.output.node": "7", "link.input.node": "41"})
    assert registry.readers_of(7) == [name]


def test_a_session_manager_is_seen() -> None:
    registry = Registry()
    registry.add(3, "PipeWire:Interface:Metadata", {"metadata.name": "settings"})
    assert not registry.managed.is_set()
    registry.add(4, "PipeWire:Interface:Metadata", {"metadata.name": "default"})
    assert registry.managed.is_set()


def test_formats_are_written_as_pipewire_reads_them() -> None:
    """Sizes of the outer value and of every value in it add up, and each starts at a multiple of 8."""
    for pod in (video_format((1280, 720), 30), *buffer_needs((1280, 720))):
        size, kind = struct.unpack_from("=II", pod)
        assert kind == 15 and size == len(pod) - 8
        place = 16
        while place < len(pod):
            (length,) = struct.unpack_from("=I", pod, place + 8)
            place += 16 + -(-length // 8) * 8
        assert place == len(pod)
    assert struct.pack("=II", 1280, 720) in video_format((1280, 720), 30)
    for rate, fraction in ((30.0, (30, 1)), (29.97, (2997, 100)), (30000 / 1001, (30000, 1001)), (7.5, (15, 2))):
        assert struct.pack("=II", *fraction) in video_format((1280, 720), rate)
