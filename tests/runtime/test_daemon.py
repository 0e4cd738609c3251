"""The daemon with a scripted camera, a watched sink and an inverting pipeline: what goes out, and when it goes on."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import numpy as np
import pytest

from engines import EngineError, EngineRunError, ModelMissing
from occlufix_vcam.core.errors import CameraBusy, CameraLost, CameraNotFound, ConfigError, SinkUnavailable, Trouble
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.status import Status
from occlufix_vcam.core.telemetry import Telemetry
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.runtime import capture as capture_module
from occlufix_vcam.runtime import demand as demand_module
from occlufix_vcam.runtime import output as output_module
from occlufix_vcam.runtime import supervisor as supervisor_module
from occlufix_vcam.runtime.daemon import Daemon, Parts
from occlufix_vcam.runtime.processing import FAILURES_IN_A_ROW
from occlufix_vcam.runtime.supervisor import NeedsRestart, SwitchFailed
from occlufix_vcam.sinks import fan_out
from occlufix_vcam.sinks.fan_out import LeftOut, Sinks
from occlufix_vcam.sources import EndOfClip
from tests.harness.fakes import WAIT_S, InvertingPipeline, ReadSink, ScriptedCamera, WatchedSink, running, until


class JumpingClock:
    """The real time, and what the test adds to it."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


class Stage:
    """One daemon with its fakes; a list holds what each next opening gives: a fake, or an error to raise."""

    def __init__(self, **settings: object) -> None:
        self.camera, self.sink, self.pipeline = ScriptedCamera(), WatchedSink(), InvertingPipeline()
        self.cameras: list[ScriptedCamera | Exception] = [self.camera]
        self.sinks: list[WatchedSink | Exception] = [self.sink]
        self.pipelines: list[InvertingPipeline | Exception] = [self.pipeline]
        self.sinks_opened: Sinks | None = None
        self.sink_settings: list[Settings] = []
        self.may_build = threading.Event()
        self.may_build.set()
        self.open_camera = lambda settings: _next(self.cameras)
        parts = Parts(
            lambda settings: self.open_camera(settings), self._open_sinks, self._build_pipeline, self._find_camera
        )
        self.clock = JumpingClock()
        self.daemon = Daemon(Settings().but(**settings), parts, self.clock)

    def _find_camera(self, settings: Settings) -> str:
        if self.cameras and isinstance(self.cameras[0], CameraNotFound):
            raise self.cameras.pop(0)
        return "scripted camera"

    def _open_sinks(self, settings: Settings, size: tuple[int, int], rate: float) -> Sinks:
        self.sink_settings.append(settings)
        return self.sinks_opened or Sinks([_next(self.sinks)])

    def _build_pipeline(self, settings: Settings, telemetry: Telemetry, engines: EngineSet) -> Any:
        assert self.may_build.wait(WAIT_S)
        pipeline = _next(self.pipelines)
        pipeline.telemetry = telemetry
        return pipeline

    def camera_is_left_closed(self) -> bool:
        """Whether the camera was never opened, or is closed, be it only when its opening has come to an end."""
        return self.cameras == [self.camera] or self.camera.closed.wait(WAIT_S)

    def show(self, level: int, camera: ScriptedCamera | None = None) -> None:
        """Until such a picture went out; the first may be lost while the output still believes that nobody looks."""
        while not {level, 255 - level} & set(self.sink.levels()):
            (camera or self.camera).show(level)
            self.sink.wait_for_more()

    def wait_until_running(self) -> None:
        """A picture of level 1 went out restored, and something after it: then the daemon has counted it too."""
        while 254 not in self.sink.levels()[:-1]:
            self.camera.show(1)
            self.sink.wait_for_more()


def _next(script: list[Any]) -> Any:
    item = script.pop(0)
    if isinstance(item, Exception):
        raise item
    return item


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE_S", 0.0)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    with running(stage.daemon) as raised:
        yield stage
    assert raised == []


def test_pictures_come_out_restored_and_are_counted(stage: Stage) -> None:
    stage.wait_until_running()
    status = stage.daemon.status()
    assert set(status) == set(get_type_hints(Status))
    assert status["state"] == "running" and status["enabled"]
    assert status["camera"] == "scripted camera" and status["sinks"] == ["watched sink"]
    assert status["frames"] >= 1 and status["faces"] == 1 and status["restored"] >= 1
    assert status["latency"] is not None and status["latency"]["p50_ms"] > 0


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
    stage.pipeline.entered.clear()
    stage.pipeline.may_finish.clear()
    stage.camera.show(10)
    assert stage.pipeline.entered.wait(WAIT_S)
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
        assert stage.daemon.status()["state"] == "loading"
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
        stage.pipeline.entered.clear()
        stage.camera.show(99)
        assert stage.pipeline.entered.wait(WAIT_S)
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
        stage.pipeline.entered.clear()
        stage.camera.show(100 + number)
        assert stage.pipeline.entered.wait(WAIT_S)
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


def test_a_sink_that_is_gone_is_opened_again_without_recording_twice() -> None:
    stage, second = Stage(record="film.mp4"), WatchedSink()
    stage.sinks += [SinkUnavailable("not yet"), second]
    with running(stage.daemon):
        stage.wait_until_running()
        stage.sink.break_off()
        second.wait_for(lambda sink: len(sink.sent) > 0)
    assert stage.sink.closed.is_set()
    assert [str(settings.record) for settings in stage.sink_settings] == ["film.mp4", "None", "None"]


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
    stage.camera.show(30, size=(37, 91))
    stage.sink.wait_for_level(225)
    assert stage.sink.sent[-1].image.shape == (91, 37, 3)


def test_settings_of_a_daemon_that_does_not_run_yet_are_only_checked() -> None:
    daemon = Stage().daemon
    assert daemon.update({"on_failure": "hold", "width": 640})
    with pytest.raises(NeedsRestart, match="control_port"):
        daemon.update({"control_port": 640, "enabled": False})
    with pytest.raises(ConfigError, match="`enabledd`"):
        daemon.update({"enabledd": False})
    assert daemon.settings == Settings().but(on_failure="hold", width=640)


def test_another_camera_is_opened_while_the_sink_stays(stage: Stage) -> None:
    second = ScriptedCamera()
    stage.cameras.append(second)
    stage.wait_until_running()
    assert stage.daemon.update({"source": "another"})
    assert stage.daemon.settings.source == "another"
    assert stage.camera.closed.is_set()
    second.show(6)
    stage.sink.wait_for_level(249)
    assert not stage.sink.closed.is_set() and not stage.pipeline.closed.is_set()


@pytest.mark.parametrize("error", [CameraNotFound("it vanished"), ValueError("a bug")])
def test_a_camera_that_cannot_be_had_leaves_the_one_that_there_was(stage: Stage, error: Exception) -> None:
    again = ScriptedCamera()
    stage.cameras += [error, again]
    stage.wait_until_running()
    with pytest.raises(SwitchFailed, match=str(error)):
        stage.daemon.update({"source": "another", "on_failure": "hold"})
    again.show(6)
    stage.sink.wait_for_level(249)
    assert stage.daemon.settings == Settings() and stage.daemon.status()["trouble"] == {}


def test_a_lost_camera_need_not_be_waited_for_to_take_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE_S", 600.0)
    stage, second = Stage(), ScriptedCamera()
    stage.cameras.append(second)
    with running(stage.daemon):
        stage.wait_until_running()
        stage.camera.fail(CameraLost("unplugged"))
        stage.sink.wait_for(lambda sink: sink.sent[-1].index == -1)
        stage.daemon.update({"source": "another"})
        second.show(6)
        stage.sink.wait_for_level(249)
        assert stage.daemon.status()["trouble"] == {}


def test_other_sinks_go_on_with_the_picture_that_there_was(stage: Stage) -> None:
    second = WatchedSink()
    stage.sinks.append(second)
    stage.wait_until_running()
    stage.daemon.update({"sinks": ["another"]})
    second.wait_for(lambda sink: len(sink.sent) > 0)
    assert stage.sink.closed.is_set() and 254 in second.levels()[:1]


def test_what_the_pipeline_is_made_of_makes_a_new_one(stage: Stage) -> None:
    fresh = InvertingPipeline()
    stage.pipelines.append(fresh)
    stage.wait_until_running()
    stage.daemon.update({"max_faces": 2})
    assert stage.pipeline.closed.is_set()
    stage.camera.show(9)
    stage.sink.wait_for_level(246)


def test_a_change_that_fails_halfway_is_put_back_whole(stage: Stage) -> None:
    opened_what_there_was = threading.Event()

    def open_camera(settings: Settings) -> ScriptedCamera:
        if settings.source == "auto":
            opened_what_there_was.set()
        return ScriptedCamera()

    stage.wait_until_running()
    stage.open_camera = open_camera
    stage.sinks += [SinkUnavailable("no such sink"), WatchedSink()]
    with pytest.raises(SwitchFailed, match="no such sink"):
        stage.daemon.update({"source": "another", "sinks": ["another"]})
    assert opened_what_there_was.wait(WAIT_S)
    assert stage.daemon.settings == Settings()


def test_the_switch_need_not_wait_for_a_camera_that_is_slow_to_open(stage: Stage) -> None:
    opening, may_open = threading.Event(), threading.Event()

    def open_slowly(settings: Settings) -> ScriptedCamera:
        opening.set()
        assert may_open.wait(WAIT_S)
        return ScriptedCamera()

    stage.wait_until_running()
    stage.open_camera = open_slowly
    change = threading.Thread(target=stage.daemon.update, args=({"source": "another"},))
    change.start()
    assert opening.wait(WAIT_S)
    assert stage.daemon.toggle() is False
    may_open.set()
    change.join(WAIT_S)
    assert stage.daemon.settings == Settings().but(source="another", enabled=False)


def slow_cameras(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> dict[str, threading.Event]:
    """Cameras that open, or fail, once their event is set; a change is pending at once."""
    monkeypatch.setattr(supervisor_module, "SWITCH_S", 0.0)
    may_open = {"slow": threading.Event(), "refused": threading.Event()}

    def open_camera(settings: Settings) -> ScriptedCamera:
        if settings.source in may_open:
            assert may_open[settings.source].wait(WAIT_S)
        if settings.source == "refused":
            raise CameraNotFound("it vanished", "plug it in")
        return ScriptedCamera()

    stage.wait_until_running()
    stage.open_camera = open_camera
    return may_open


def test_a_slow_change_is_pending_and_saved_once_it_holds(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    may_open, saved = slow_cameras(stage, monkeypatch), threading.Event()
    assert not stage.daemon.update({"source": "slow"}, saved.set)
    assert not saved.is_set()
    may_open["slow"].set()
    assert saved.wait(WAIT_S)
    assert stage.daemon.settings.source == "slow" and "settings" not in stage.daemon.status()["trouble"]


def test_a_slow_change_that_fails_is_told_and_never_saved(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    may_open, saved = slow_cameras(stage, monkeypatch), threading.Event()
    assert not stage.daemon.update({"source": "refused"}, saved.set)
    may_open["refused"].set()
    until(lambda: stage.daemon.status()["trouble"].get("settings") == "it vanished")
    assert stage.daemon.status()["hints"]["settings"] == "plug it in"
    assert stage.daemon.settings == Settings() and not saved.is_set()


def test_a_later_change_takes_the_place_of_a_pending_one(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    may_open, saved = slow_cameras(stage, monkeypatch), threading.Event()
    assert not stage.daemon.update({"source": "slow"}, saved.set)
    assert not stage.daemon.update({"source": "refused"}, saved.set)
    may_open["slow"].set()
    may_open["refused"].set()
    until(lambda: stage.daemon.status()["trouble"].get("settings") == "it vanished")
    assert stage.daemon.settings == Settings() and not saved.is_set()  # not the pending one's, which never held


def test_what_goes_out_can_be_looked_at_with_what_it_was_made_of(stage: Stage) -> None:
    stage.wait_until_running()
    shown = stage.daemon.broadcast.after(0, WAIT_S)
    assert shown is not None and shown[1].image[0, 0, 0] == 254


# ---- only when watched ----


@pytest.fixture
def read_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A daemon whose sink tells who reads it: nobody, at first."""
    monkeypatch.setattr(demand_module, "LINGER_S", 0.2)
    monkeypatch.setattr(output_module, "IDLE_S", 0.01)
    monkeypatch.setattr(output_module, "LOOK_S", 0.001)
    stage = Stage()
    stage.sink = stage.sinks[0] = ReadSink()
    with running(stage.daemon) as raised:
        stage.sink.wait_for(lambda _: stage.daemon.state == "idle")
        yield stage
    assert raised == []


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


# ---- when something fails ----


def test_a_pipeline_that_hangs_lets_the_untouched_picture_through(stage: Stage) -> None:
    stage.wait_until_running()
    stage.pipeline.may_finish.clear()
    stage.pipeline.entered.clear()
    stage.camera.show(10)
    assert stage.pipeline.entered.wait(WAIT_S)
    while 20 not in stage.sink.levels():
        stage.camera.show(20)
        stage.sink.wait_for_more()
    assert "restoring" in stage.daemon.status()["trouble"]["process"]
    stage.pipeline.may_finish.set()


@pytest.mark.parametrize(("policy", "is_picture"), [("hold", True), ("blank", False)])
def test_a_pipeline_that_hangs_never_leaves_the_last_picture_without_a_sign(policy: str, is_picture: bool) -> None:
    stage = Stage(on_failure=policy)
    with running(stage.daemon):
        stage.wait_until_running()
        stage.pipeline.may_finish.clear()
        stage.pipeline.entered.clear()
        stage.camera.show(10)
        assert stage.pipeline.entered.wait(WAIT_S)
        stage.sink.wait_for(lambda sink: sink.sent[-1].index == -1)
        assert bool(stage.sink.sent[-1].image[0, 0, 0] == 254) is is_picture
        stage.pipeline.may_finish.set()


def test_a_camera_that_says_nothing_is_said(stage: Stage) -> None:
    stage.wait_until_running()
    stage.sink.wait_for(lambda sink: sink.sent[-1].index == -1)
    stage.camera.show(3)
    stage.sink.wait_for(lambda sink: sink.sent[-1].index > 0)


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


def test_nobody_is_named_as_a_reader_of_a_sink_that_is_gone(read_stage: Stage) -> None:
    read_stage.sinks.append(again := ReadSink())
    read_stage.sink.readers = ("chrome (7)",)
    read_stage.sink.wait_for(lambda sink: read_stage.daemon.status()["viewers"] == 1)
    read_stage.sink.break_off()
    again.wait_for_more()
    assert read_stage.daemon.status()["viewers"] == 0


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


def test_what_goes_out_can_be_mirrored_while_it_runs(stage: Stage) -> None:
    stage.wait_until_running()
    stage.daemon.toggle(False)
    stage.daemon.update({"mirror": True})
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32] = 200
    while 0 not in stage.sink.levels():
        stage.camera.give(image)
        stage.sink.wait_for_more()
    mirrored = next(frame.image for frame in stage.sink.sent if frame.index >= 0 and frame.image[0, 0, 0] == 0)
    assert mirrored[0, 63, 0] == 200
