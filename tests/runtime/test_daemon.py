"""The daemon from its start to its stop: what goes out, what it says of itself, and what ends it."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import get_type_hints

import pytest

from engines import EngineError, ModelMissing
from occlufix_vcam.core.errors import CameraNotFound, SinkUnavailable
from occlufix_vcam.core.status import Status
from occlufix_vcam.sources import EndOfClip
from tests.harness.daemon import Stage
from tests.harness.fakes import WAIT_S, running


def test_pictures_come_out_restored_and_are_counted(stage: Stage) -> None:
    stage.wait_until_running()
    status = stage.daemon.status()
    assert set(status) == set(get_type_hints(Status))
    assert status["state"] == "running" and status["enabled"]
    assert status["camera"] == "scripted camera" and status["sinks"] == ["watched sink"]
    assert status["frames"] >= 1 and status["faces"] == 1 and status["restored"] >= 1
    assert status["latency"] is not None and status["latency"]["p50_ms"] > 0
    assert {"wait", "out"} <= status["stages"].keys()


def test_a_placeholder_goes_out_before_the_first_picture(stage: Stage) -> None:
    stage.sink.wait_for(lambda sink: len(sink.sent) > 0)
    assert stage.sink.sent[0].index == -1 and stage.sink.sent[0].image.shape == (720, 1280, 3)
    assert stage.daemon.status()["state"] == "starting"


def test_the_last_picture_is_repeated_where_none_is_new(stage: Stage) -> None:
    stage.wait_until_running()
    stage.sink.wait_for_more(3)
    assert stage.sink.sent[-1] is stage.sink.sent[-2]


def test_off_passes_the_very_next_picture_untouched_and_runs_nothing(stage: Stage) -> None:
    stage.wait_until_running()
    assert stage.daemon.toggle() is False
    calls = stage.pipeline.calls
    stage.camera.show(77)
    stage.sink.wait_for_level(77)
    assert stage.pipeline.calls == calls
    assert stage.daemon.status()["enabled"] is False
    assert stage.daemon.toggle(True) is True
    stage.camera.show(78)
    stage.sink.wait_for_level(255 - 78)


def test_a_picture_under_way_at_the_switch_never_follows_a_newer_one(stage: Stage) -> None:
    stage.wait_until_running()
    stage.stall(10)
    stage.daemon.toggle(False)
    stage.camera.show(20)
    stage.sink.wait_for_level(20)
    stage.pipeline.may_finish.set()
    stage.sink.wait_for_more(4)
    assert 245 not in stage.sink.levels()


def test_pictures_pass_untouched_while_the_engines_are_made() -> None:
    stage = Stage()
    stage.may_build.clear()
    with running(stage.daemon):
        stage.camera.show(50)
        stage.sink.wait_for_level(50)
        status = stage.daemon.status()
        assert status["state"] == "loading" and status["bare"] == 0
        stage.may_build.set()
        stage.wait_until_running()


def test_nothing_untouched_goes_out_meanwhile_where_failures_must_not_pass() -> None:
    stage = Stage(on_failure="blank")
    stage.may_build.clear()
    with running(stage.daemon):
        stage.camera.show(50)
        stage.sink.wait_for(lambda sink: len(sink.sent) >= 5)
        assert stage.sink.levels() == []
        stage.may_build.set()
        stage.wait_until_running()


@pytest.mark.parametrize("error", [CameraNotFound("no camera"), RuntimeError("a bug")])
def test_what_fails_at_the_first_opening_ends_the_run(error: Exception) -> None:
    stage = Stage()
    stage.cameras = [error]
    with pytest.raises(type(error), match=str(error)):
        stage.daemon.run()


@pytest.mark.parametrize("error", [ModelMissing("no model"), EngineError("no engine")])
def test_a_model_or_engine_that_is_missing_ends_the_run(error: EngineError) -> None:
    stage = Stage()
    stage.pipelines = [error]
    with pytest.raises(type(error), match=error.message):
        stage.daemon.run()
    assert stage.camera_is_left_closed()


def test_a_sink_that_cannot_be_opened_ends_the_run() -> None:
    stage = Stage()
    stage.sinks = [SinkUnavailable("no virtual camera")]
    with pytest.raises(SinkUnavailable, match="no virtual camera"):
        stage.daemon.run()


def test_a_bug_in_a_worker_is_never_silent() -> None:
    stage = Stage()
    with running(stage.daemon) as raised:
        stage.wait_until_running()
        stage.camera.fail(RuntimeError("a bug"))
        assert stage.camera.closed.wait(WAIT_S)
    assert [str(error) for error in raised] == ["a bug"]


def test_the_end_of_a_clip_ends_the_run() -> None:
    stage = Stage()
    stage.camera.fail(EndOfClip())
    stage.daemon.run()
    assert stage.camera.closed.is_set()


def test_stopping_ends_every_worker_and_closes_everything() -> None:
    stage = Stage()
    before = threading.active_count()
    with running(stage.daemon) as raised:
        stage.wait_until_running()
    assert raised == []
    assert stage.camera.closed.is_set() and stage.sink.closed.is_set() and stage.pipeline.closed.is_set()
    assert threading.active_count() == before
    assert stage.daemon.status()["state"] == "stopping"


def test_opencv_is_there_before_the_threads_that_want_it() -> None:
    """Two threads that import it at the same time break it."""
    look = "import sys, occlufix_vcam.runtime.daemon; sys.exit('cv2' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look]).returncode == 0


def test_a_recording_that_is_broken_at_the_end_is_told() -> None:
    stage = Stage()
    stage.sink.close_error = SinkUnavailable("the disk is full")
    with running(stage.daemon) as raised:
        stage.wait_until_running()
    assert [str(error) for error in raised] == ["the disk is full"]


def test_a_run_of_given_length_ends_by_itself() -> None:
    stage = Stage()
    stage.daemon.run(seconds=0.0)
    assert stage.camera_is_left_closed()


def test_whoever_started_it_is_told_once_that_it_runs() -> None:
    stage = Stage()
    told: list[str] = []
    stage.camera.show(1)

    def on_running() -> None:
        told.append(stage.daemon.state)
        stage.daemon.stop()

    stage.daemon.run(on_running=on_running)
    assert told == ["running"]


def test_pictures_of_another_size_come_through(stage: Stage) -> None:
    stage.wait_until_running()
    before = stage.sink.sent[-1].image.shape
    stage.camera.show(30, size=(37, 91))
    stage.sink.wait_for_level(225)
    assert stage.sink.sent[-1].image.shape == before  # the output keeps its size, the frame gets bars


def test_what_goes_out_can_be_looked_at_with_what_it_was_made_of(stage: Stage) -> None:
    stage.wait_until_running()
    shown = stage.daemon.broadcast.after(0, WAIT_S)
    assert shown is not None and shown[1].image[0, 0, 0] == 254
