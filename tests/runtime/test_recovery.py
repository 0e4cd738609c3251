"""What fails or hangs while the daemon runs: what goes out meanwhile, and how it comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from engines import EngineRunError
from occlufix_vcam.core.errors import CameraLost, CameraNotFound, SinkUnavailable, Trouble
from occlufix_vcam.runtime import supervisor as supervisor_module
from occlufix_vcam.runtime.frame_selector import LAST_PICTURE_S, SLOW_PICTURE_S
from occlufix_vcam.runtime.processing import FAILURES_IN_A_ROW
from occlufix_vcam.sinks import fan_out
from occlufix_vcam.sinks.fan_out import LeftOut, Sinks
from tests.harness.daemon import Stage
from tests.harness.fakes import InvertingPipeline, ScriptedCamera, WatchedSink, middle, running, until


@pytest.mark.parametrize(
    ("policy", "goes_out"),
    [
        ("passthrough", lambda sink, sent: 99 in sink.levels()),
        ("hold", lambda sink, sent: len(sink.sent) > sent + 3 and sink.levels()[-1] == 254),
        ("blank", lambda sink, sent: sink.sent[-1].index == -1 and sink.sent[-1].image.max() > 100),
    ],
)
def test_a_picture_that_fails_follows_the_policy(policy: str, goes_out: Callable[[WatchedSink, int], bool]) -> None:
    stage = Stage(on_failure=policy)
    with running(stage.daemon):
        stage.wait_until_running()
        stage.pipeline.error = ValueError("a bug")
        stage.show_to_pipeline(99)
        sent = len(stage.sink.sent)
        stage.sink.wait_for(lambda sink: goes_out(sink, sent))
        assert stage.daemon.status()["failed"] >= 1
        stage.pipeline.error = None
        stage.camera.show(3)
        stage.sink.wait_for_level(252)


def test_an_engine_that_fails_again_and_again_is_made_anew(stage: Stage) -> None:
    fresh = InvertingPipeline()
    stage.pipelines.append(fresh)
    stage.wait_until_running()
    stage.pipeline.error = EngineRunError("the device is lost")
    for number in range(FAILURES_IN_A_ROW):
        stage.show_to_pipeline(100 + number)
        stage.sink.wait_for_level(100 + number)
    stage.pipeline = fresh
    while not fresh.calls:
        stage.camera.show(5)
        fresh.entered.wait(0.1)
    stage.sink.wait_for_level(250)


def test_a_lost_camera_is_said_and_opened_again(stage: Stage) -> None:
    second = ScriptedCamera()
    stage.cameras += [CameraNotFound("no camera"), second]
    stage.wait_until_running()
    stage.camera.fail(CameraLost("unplugged"))
    stage.sink.wait_for(lambda sink: sink.sent[-1].index == -1)  # the placeholder frame that says so
    second.show(6)
    stage.sink.wait_for_level(249)
    assert stage.camera.closed.is_set()
    assert stage.daemon.status()["trouble"] == {}


def test_a_lost_camera_shows_in_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE_S", 60.0)
    stage = Stage()
    with running(stage.daemon):
        stage.wait_until_running()
        stage.camera.fail(CameraLost("unplugged"))
        stage.sink.wait_for(lambda sink: sink.sent[-1].index == -1)
        status = stage.daemon.status()
    assert status["state"] == "waiting" and status["trouble"] == {"capture": "unplugged"}


def test_a_sink_that_is_gone_is_opened_again_and_the_recording_goes_on_in_another_file() -> None:
    stage, second = Stage(record="film.mp4"), WatchedSink()
    stage.sinks += [SinkUnavailable("not yet"), second]
    with running(stage.daemon):
        stage.wait_until_running()
        stage.sink.break_off()
        second.wait_for(lambda sink: len(sink.sent) > 0)
    assert stage.sink.closed.is_set()
    assert [str(settings.record) for settings in stage.sink_settings] == ["film.mp4"] * 3


def test_a_camera_that_comes_back_with_another_size_needs_no_other_sink(stage: Stage) -> None:
    stage.cameras.append(second := ScriptedCamera(size=(32, 24)))
    stage.wait_until_running()
    stage.camera.fail(CameraLost("unplugged"))
    second.show(40)
    stage.sink.wait_for_level(215)
    assert len(stage.sink_settings) == 1 and not stage.sink.closed.is_set()


def test_a_hundred_times_unplugged_and_back_again_leave_nothing(stage: Stage) -> None:
    stage.wait_until_running()
    threads = threading.active_count()
    last = stage.camera
    for round_ in range(100):
        stage.cameras.append(following := ScriptedCamera())
        last.fail(CameraLost("unplugged"))
        level = 20 + round_
        following.show(level)
        stage.sink.wait_for(lambda sink, level=level: 255 - level in sink.levels()[-20:])
        assert last.closed.is_set()
        last = following
    assert threading.active_count() <= threads + 1 and not stage.sink.closed.is_set()


def test_a_slow_pipeline_lowers_the_rate_and_no_picture_goes_out_untouched(stage: Stage) -> None:
    stage.wait_until_running()
    stage.stall(10)
    stage.clock.advance(LAST_PICTURE_S)
    since = len(stage.sink.levels())
    for level in range(20, 25):
        stage.camera.show(level)
        stage.sink.wait_for_more()
    status = stage.daemon.status()
    assert status["trouble"]["process"].startswith("restoring takes over") and status["hints"]["process"]
    stage.clock.advance(SLOW_PICTURE_S)
    stage.sink.wait_for(lambda sink: sink.sent[-1].index == -1 and middle(sink.sent[-1]) == 254)  # the last, marked
    stage.pipeline.may_finish.set()
    stage.sink.wait_for_level(255 - 24)
    assert set(stage.sink.levels()[since:]) <= {254, 255 - 10, 255 - 24}
    assert stage.daemon.status()["bare"] == 0 and stage.daemon.status()["freezes"] >= 1


def test_that_restoring_is_slow_is_said_between_two_slow_pictures_and_no_longer_than_it_is(stage: Stage) -> None:
    stage.wait_until_running()
    stage.stall(10)
    stage.clock.advance(LAST_PICTURE_S)
    stage.pipeline.may_finish.set()
    stage.sink.wait_for_level(255 - 10)
    until(lambda: "process" in stage.daemon.status()["trouble"])
    stage.clock.advance(SLOW_PICTURE_S)
    assert "process" not in stage.daemon.status()["trouble"]


@pytest.mark.parametrize(("policy", "is_picture"), [("passthrough", True), ("hold", True), ("blank", False)])
def test_a_pipeline_that_hangs_never_leaves_the_last_picture_without_a_sign(policy: str, is_picture: bool) -> None:
    stage = Stage(on_failure=policy)
    with running(stage.daemon):
        stage.wait_until_running()
        stage.stall(10)
        stage.sink.wait_for(lambda sink: sink.sent[-1].index == -1)
        assert (middle(stage.sink.sent[-1]) == 254) is is_picture
        stage.pipeline.may_finish.set()


def test_a_camera_that_says_nothing_is_said(stage: Stage) -> None:
    stage.wait_until_running()
    stage.sink.wait_for(lambda sink: sink.sent[-1].index == -1)
    stage.camera.show(3)
    stage.sink.wait_for(lambda sink: sink.sent[-1].index > 0)
    assert stage.sink.levels()[-1] == 255 - 3  # restored: the pipeline of these tests inverts


def test_what_is_wrong_with_the_sinks_is_told_with_what_to_do() -> None:
    stage = Stage()
    stage.sink.flaw = Trouble("browsers do not list it", "set it up")
    why = SinkUnavailable("no session", "log in")
    stage.sinks_opened = Sinks([stage.sink], left_out=[LeftOut("pipewire", why, WatchedSink)])
    with running(stage.daemon):
        stage.wait_until_running()
        status = stage.daemon.status()
    assert status["trouble"] == {"watched sink": "browsers do not list it"}
    assert status["left_out"] == {"pipewire": "no session"}
    assert status["hints"] == {"watched sink": "set it up", "pipewire": "log in"}


def test_a_sink_that_is_lost_beside_another_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out, "FIRST_PAUSE_S", 0.0)
    stage = Stage()
    lost, again = WatchedSink(), WatchedSink()
    both = Sinks([stage.sink, lost], [None, lambda: again])
    stage.sinks_opened = both
    with running(stage.daemon):
        stage.wait_until_running()
        lost.break_off()
        again.wait_for_more(2)
        assert stage.daemon.status()["trouble"] == {}
