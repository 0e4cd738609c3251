"""Engines that are built beside the running product: once each, told how far they are, taken when they are there."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from engines import EngineBuildError, EngineRunError
from engines.errors import BuildProgress
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.runtime import supervisor as supervisor_module
from occlufix_vcam.runtime.background_build import BackgroundBuild
from occlufix_vcam.runtime.processing import FAILURES_IN_A_ROW
from tests.harness import tensorrt_standin
from tests.harness.cuda_standin import Machine
from tests.harness.daemon import Stage
from tests.harness.fakes import WAIT_S, InvertingPipeline, running


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE_S", 0.0)
    return tensorrt_standin.install(monkeypatch, tmp_path)


class Build:
    """One that the test lets go on."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls = 0
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.went_on = True
        self._error = error

    def __call__(self, progress: BuildProgress) -> None:
        self.calls += 1
        progress(0.25)
        self.begun.set()
        assert self.may_end.wait(WAIT_S)
        self.went_on = progress(0.75)
        if self._error is not None:
            raise self._error


def test_what_is_built_is_told_and_then_taken() -> None:
    built = threading.Event()
    builder, build = BackgroundBuild(built.set), Build()
    builder.build({"restore": build})
    assert build.begun.wait(WAIT_S)
    assert builder.shares() == {"restore": 0.25}
    assert builder.tell("restore") == "its engine is being built, 25 % done"
    assert builder.tell("hidden") == ""
    build.may_end.set()
    assert built.wait(WAIT_S)
    assert builder.shares() == {} and "will be used next" in builder.tell("restore")


def test_each_is_tried_once_and_all_are_taken_together() -> None:
    built = threading.Semaphore(0)
    builder, builds = BackgroundBuild(built.release), {name: Build() for name in ("restore", "hidden")}
    for _ in range(3):
        builder.build(builds)
    for build in builds.values():
        build.may_end.set()
    assert built.acquire(timeout=WAIT_S)
    assert [build.calls for build in builds.values()] == [1, 1]
    assert not built.acquire(blocking=False)

    builder.build(builds)  # they are still not there: they do not load
    assert "does not load" in builder.tell("hidden")
    assert [build.calls for build in builds.values()] == [1, 1]


@pytest.mark.parametrize("error", [EngineBuildError("no kernel"), ValueError("no kernel")])
def test_what_fails_is_told_and_nothing_is_opened_anew(error: Exception) -> None:
    builder, build = BackgroundBuild(lambda: pytest.fail("nothing was built")), Build(error)
    build.may_end.set()
    builder.build({"restore": build})
    builder.stop()
    assert "no kernel" in builder.tell("restore") and builder.shares() == {}


def test_stopping_ends_a_build() -> None:
    builder, build = BackgroundBuild(lambda: pytest.fail("it was given up")), Build()
    builder.build({"restore": build})
    assert build.begun.wait(WAIT_S)
    stopping = threading.Thread(target=builder.stop)
    stopping.start()
    assert builder._stop.wait(WAIT_S)
    build.may_end.set()
    stopping.join(WAIT_S)
    assert not build.went_on
    builder.build({"hidden": build})
    assert build.calls == 1


class EngineStage(Stage):
    """A daemon whose pipeline loads the segmenter's real engine."""

    def __init__(self) -> None:
        super().__init__()
        self.backends: list[str] = []
        self.opened = threading.Semaphore(0)

    def _build_pipeline(self, settings: Any, telemetry: Any, engines: EngineSet) -> Any:
        self.backends.append(engines.load("hidden").backend)
        self.opened.release()
        return super()._build_pipeline(settings, telemetry, engines)


def test_the_daemon_runs_on_the_next_backend_while_an_engine_is_built(machine: Machine) -> None:
    machine.may_build.clear()
    stage = EngineStage()
    stage.pipelines.append(InvertingPipeline())
    with running(stage.daemon) as raised:
        stage.wait_until_running()
        status = stage.daemon.status()
        assert status["engine"]["hidden"]["backend"] == "openvino"
        assert status["building"].keys() == {"hidden"}
        (reason,) = (one["reason"] for one in status["engine"]["hidden"]["passed_over"] if one["backend"] == "tensorrt")
        assert "is being built" in reason
        machine.may_build.set()
        for _ in range(2):
            assert stage.opened.acquire(timeout=WAIT_S)
        stage.pipeline.entered.clear()
    assert raised == [] and stage.backends == ["openvino", "tensorrt"] and machine.builds == 1


def test_a_gpu_that_collapses_twice_is_left_alone(machine: Machine) -> None:
    stage = EngineStage()
    broken = [InvertingPipeline() for _ in range(2)]
    for pipeline in broken:
        pipeline.error = EngineRunError("the device is lost")
    stage.pipelines[1:] = [*broken, InvertingPipeline()]  # the first one runs until TensorRT's engine is built
    with running(stage.daemon) as raised:
        for _ in range(4):
            while not stage.opened.acquire(timeout=0.02):
                for level in range(FAILURES_IN_A_ROW):
                    stage.camera.show(level)
    assert raised == []
    assert stage.backends == ["openvino", "tensorrt", "tensorrt", "openvino"]
