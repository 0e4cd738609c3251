"""The camera is open while there are readers, and only then."""

from __future__ import annotations

import threading

import pytest

from occlufix_vcam.core.errors import CameraBusy, CameraLost, CameraNotFound
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.runtime import capture as capture_module
from tests.harness.daemon import Stage
from tests.harness.fakes import WAIT_S, ReadSink, ScriptedCamera, running


def test_without_readers_the_camera_stays_closed_and_the_start_has_succeeded() -> None:
    stage = Stage()
    stage.sinks[0] = ReadSink()
    stage.daemon.run(on_running=stage.daemon.stop)
    assert stage.cameras == [stage.camera]


def test_a_reader_opens_the_camera_and_the_last_one_closes_it(read_stage: Stage) -> None:
    sink, second = read_stage.sink, ScriptedCamera()
    read_stage.cameras.append(second)
    status = read_stage.daemon.status()
    assert (status["state"], status["camera_open"], status["viewers"]) == ("idle", False, 0)
    sink.readers = ("chrome (7)", "zoom (8)")
    read_stage.show(9)
    status = read_stage.daemon.status()
    assert status["camera_open"] and status["camera"] == "scripted camera"
    assert (status["viewers"], status["readers"]) == (2, ["chrome (7)", "zoom (8)"])
    sink.readers = ()
    assert read_stage.camera.closed.wait(WAIT_S)
    sink.wait_for(lambda sink: sink.sent[-1].index == -1)  # the next reader does not see what was before the camera
    sink.readers = ("obs (9)",)
    read_stage.show(11, second)
    assert not second.closed.is_set()


def test_a_clock_that_jumps_as_over_a_sleep_closes_no_camera_that_is_read(read_stage: Stage) -> None:
    sink = read_stage.sink
    sink.readers = ("chrome (7)",)
    read_stage.show(9)
    for level in (30, 40):
        read_stage.clock.advance(3600)
        read_stage.show(level)
    assert not read_stage.camera.closed.is_set()
    status = read_stage.daemon.status()
    assert (status["state"], status["trouble"]) == ("running", {})


def test_a_camera_that_fails_after_a_sleep_comes_back_by_itself(read_stage: Stage) -> None:
    second = ScriptedCamera()
    read_stage.cameras += [CameraBusy("not awake yet"), second]
    read_stage.sink.readers = ("chrome (7)",)
    read_stage.show(9)
    read_stage.clock.advance(3600)
    read_stage.camera.fail(CameraLost("it sent no picture for 3 s"))
    read_stage.show(50, second)
    assert read_stage.daemon.status()["trouble"] == {}


def test_a_preview_opens_the_camera_too(read_stage: Stage) -> None:
    with read_stage.daemon.watched():
        read_stage.show(9)
    assert read_stage.camera.closed.wait(WAIT_S)


def test_a_camera_that_is_busy_when_the_first_reader_comes_is_tried_again(read_stage: Stage) -> None:
    read_stage.cameras.insert(0, CameraBusy("held by another program"))
    read_stage.sink.readers = ("chrome (7)",)
    read_stage.show(9)
    assert read_stage.daemon.status()["trouble"] == {}


def test_a_camera_that_is_not_there_ends_the_start_though_nobody_reads() -> None:
    stage = Stage()
    stage.cameras, stage.sinks = [CameraNotFound("no camera")], [ReadSink()]
    with pytest.raises(CameraNotFound):
        stage.daemon.run()


def test_always_on_keeps_the_camera_open_for_nobody() -> None:
    stage = Stage(always_on=True)
    stage.sink = stage.sinks[0] = ReadSink()
    with running(stage.daemon):
        stage.wait_until_running()
        assert stage.daemon.status()["camera_open"] and stage.daemon.status()["viewers"] == 0


def test_the_stop_does_not_wait_for_a_camera_that_takes_long_to_open() -> None:
    stage = Stage()
    may_open, opening = threading.Event(), threading.Event()

    def open_slowly(settings: Settings) -> ScriptedCamera:
        opening.set()
        assert may_open.wait(WAIT_S)
        return stage.camera

    stage.open_camera = open_slowly
    with running(stage.daemon):
        assert opening.wait(WAIT_S)
    assert not stage.camera.closed.is_set()
    may_open.set()
    assert stage.camera.closed.wait(WAIT_S)


def test_the_same_camera_is_waited_for_within_a_call_and_another_taken_for_the_next(read_stage: Stage) -> None:
    asked: list[str] = []
    second, cameras = ScriptedCamera(), {"by-id": read_stage.camera}
    read_stage.camera.identity = "by-id"

    def open_camera(settings: Settings) -> ScriptedCamera:
        asked.append(settings.source)
        if settings.source not in cameras:
            raise CameraNotFound("unplugged")
        return cameras[settings.source]

    read_stage.open_camera = open_camera
    cameras["auto"] = read_stage.camera
    read_stage.sink.readers = ("chrome (7)",)
    read_stage.show(9)
    del cameras["by-id"]
    cameras["auto"] = second
    read_stage.camera.fail(CameraLost("unplugged"))
    read_stage.sink.wait_for(lambda sink: asked[-2:] == ["by-id", "by-id"])
    read_stage.sink.readers = ()
    read_stage.sink.wait_for(lambda sink: read_stage.daemon.state == "idle")
    read_stage.sink.readers = ("chrome (7)",)
    read_stage.show(11, second)
    assert asked[-2:] == ["by-id", "auto"]


def test_a_camera_that_does_not_open_is_said(read_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_module, "SLOW_OPENING_S", 0.0)
    may_open = threading.Event()

    def open_slowly(settings: Settings) -> ScriptedCamera:
        assert may_open.wait(WAIT_S)
        return read_stage.camera

    read_stage.open_camera = open_slowly
    read_stage.sink.readers = ("chrome (7)",)
    read_stage.sink.wait_for(lambda sink: "does not open" in read_stage.daemon.status()["trouble"].get("capture", ""))
    may_open.set()
    read_stage.show(9)
    assert read_stage.daemon.status()["trouble"] == {}


def test_nobody_is_named_as_a_reader_of_a_sink_that_is_gone(read_stage: Stage) -> None:
    read_stage.sinks.append(again := ReadSink())
    read_stage.sink.readers = ("chrome (7)",)
    read_stage.sink.wait_for(lambda sink: read_stage.daemon.status()["viewers"] == 1)
    read_stage.sink.break_off()
    again.wait_for_more()
    assert read_stage.daemon.status()["viewers"] == 0
