"""Settings that change while the daemon runs: what reopens, what stays, and what is put back."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.base import InferenceEngine
from occlufix_vcam.core.errors import CameraLost, CameraNotFound, ConfigError, SinkUnavailable
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.telemetry import Telemetry
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.runtime import supervisor as supervisor_module
from occlufix_vcam.runtime.daemon import Daemon
from occlufix_vcam.runtime.supervisor import NeedsRestart, SwitchFailed
from occlufix_vcam.sinks.fan_out import KeptSink, Sinks
from tests.harness.daemon import Stage
from tests.harness.fakes import WAIT_S, InvertingPipeline, ScriptedCamera, WatchedSink, running, until


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


class EngineStage(Stage):
    """A daemon whose pipelines load an engine that costs nothing."""

    def __init__(self) -> None:
        super().__init__(backend="fake")
        self.engines: list[InferenceEngine] = []

    def _build_pipeline(self, settings: Settings, telemetry: Telemetry, engines: EngineSet) -> InvertingPipeline:
        self.engines.append(engines.load("hidden"))
        pipeline: InvertingPipeline = super()._build_pipeline(settings, telemetry, engines)
        return pipeline


def test_engines_stay_loaded_where_a_setting_does_not_concern_them() -> None:
    stage = EngineStage()
    stage.pipelines += [InvertingPipeline() for _ in range(2)]
    with running(stage.daemon) as raised:
        stage.wait_until_running()
        stage.daemon.update({"when_unsure": "restore"})
        stage.daemon.update({"max_faces": 2})
    first, second, other = stage.engines
    assert first is second and other is not first and raised == []


def test_no_picture_goes_out_untouched_while_the_pipeline_is_made_anew() -> None:
    stage = EngineStage()
    stage.pipelines.append(InvertingPipeline())
    with running(stage.daemon):
        stage.wait_until_running()
        stage.may_build.clear()
        change = threading.Thread(target=stage.daemon.update, args=({"when_unsure": "restore"},))
        change.start()
        until(stage.pipeline.closed.is_set)
        stage.camera.show(60)
        stage.sink.wait_for_more()
        stage.may_build.set()
        change.join(WAIT_S)
        stage.sink.wait_for_level(255 - 60)
        assert stage.daemon.status()["bare"] == 0 and 60 not in stage.sink.levels()


def test_the_mark_shows_without_a_new_pipeline(stage: Stage) -> None:
    stage.wait_until_running()
    stage.daemon.update({"mark": True, "mark_corner": "top-left"})
    stage.show(9)
    assert not stage.pipeline.closed.is_set() and stage.pipeline.mark == "top-left"


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


def test_what_goes_out_can_be_mirrored_while_it_runs(stage: Stage) -> None:
    stage.wait_until_running()
    stage.daemon.toggle(False)
    assert stage.daemon.update({"mirror": True})
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :40] = 200

    def halves(frame: Frame) -> tuple[int, int]:
        row = frame.image[frame.image.shape[0] // 2, :, 0]
        return int(row[len(row) // 4]), int(row[3 * len(row) // 4])

    while (0, 200) not in [halves(frame) for frame in stage.sink.sent if frame.index >= 0]:
        stage.camera.give(image)
        stage.sink.wait_for_more()


@pytest.mark.parametrize("place", ["absent/call.mp4", "call.gif"])
def test_a_recording_that_could_not_be_written_is_refused_before_anything_changes(tmp_path: Path, place: str) -> None:
    stage = Stage()
    with running(stage.daemon):
        stage.wait_until_running()
        with pytest.raises((SinkUnavailable, ConfigError)):
            stage.daemon.update({"record": str(tmp_path / place)})
        assert stage.daemon.settings.record is None
    assert len(stage.sink_settings) == 1


def test_a_recording_that_starts_leaves_the_sinks_that_are_read_alone() -> None:
    stage, film = Stage(), WatchedSink()
    given: list[set[str]] = []

    def open_sinks(settings: Settings, size: tuple[int, int], rate: float, kept: Mapping[str, KeptSink]) -> Sinks:
        given.append(set(kept))
        camera = kept.get("camera") or KeptSink(stage.sink, None)
        films = [film] if settings.record is not None else []
        return Sinks([camera.sink, *films], keys=["camera", *("film" for _ in films)])

    stage.daemon = Daemon(Settings(), replace(stage.parts, open_sinks=open_sinks), stage.clock)
    with running(stage.daemon):
        stage.wait_until_running()
        assert stage.daemon.update({"record": "call.mp4"})
        film.wait_for_more()
        assert not stage.sink.closed.is_set()
    assert given == [set(), {"camera"}]
    assert stage.sink.closed.is_set() and film.closed.is_set()
