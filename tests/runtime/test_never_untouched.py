"""With `hold` and `blank`, no frame goes out while restoring is on that the pipeline has not seen since then."""

from __future__ import annotations

import threading

import pytest

from engines import EngineRunError
from occlufix_vcam.runtime.processing import FAILURES_IN_A_ROW
from tests.harness.daemon import Stage
from tests.harness.fakes import InvertingPipeline, running

#: Levels of the camera's frames lie below; the pipeline inverts them.
UNTOUCHED = 100


@pytest.fixture(params=["hold", "blank"])
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(on_failure=request.param)


def shown(stage: Stage, since: int = 0) -> list[int]:
    """Levels of the camera's frames that went out, restored or not."""
    return stage.sink.levels()[since:]


def show_failing(stage: Stage, frames: int) -> None:
    for number in range(frames):
        stage.show_to_pipeline(10 + number)


def test_at_the_start_and_while_frames_fail(stage: Stage) -> None:
    stage.may_build.clear()
    with running(stage.daemon):
        stage.camera.show(50)
        stage.sink.wait_for(lambda sink: len(sink.sent) >= 3)
        stage.may_build.set()
        stage.wait_until_running()
        stage.pipeline.error = ValueError("a bug")
        show_failing(stage, 5)
        stage.sink.wait_for_more()
    assert min(shown(stage)) > UNTOUCHED


def test_while_a_crashed_engine_is_made_anew(stage: Stage) -> None:
    fresh = InvertingPipeline()
    stage.pipelines.append(fresh)
    with running(stage.daemon):
        stage.wait_until_running()
        stage.pipeline.error = EngineRunError("the device is lost")
        show_failing(stage, FAILURES_IN_A_ROW)
        while not fresh.calls:
            stage.camera.show(60)
            fresh.entered.wait(0.1)
        stage.sink.wait_for_level(255 - 60)
    assert min(shown(stage)) > UNTOUCHED


def test_while_a_setting_reopens_the_pipeline(stage: Stage) -> None:
    stage.pipelines.append(InvertingPipeline())
    with running(stage.daemon):
        stage.wait_until_running()
        stage.may_build.clear()
        change = threading.Thread(target=stage.daemon.update, args=({"max_faces": 2},))
        change.start()
        for _ in range(5):
            stage.camera.show(60)
            stage.sink.wait_for_more()
        stage.may_build.set()
        while 255 - 61 not in stage.sink.levels():
            stage.camera.show(61)
            stage.sink.wait_for_more()
        change.join()
    assert min(shown(stage)) > UNTOUCHED


def test_after_it_was_switched_on_again(stage: Stage) -> None:
    with running(stage.daemon):
        stage.wait_until_running()
        stage.daemon.toggle(False)
        while 70 not in stage.sink.levels():  # off: the bare picture, as chosen
            stage.camera.show(70)
            stage.sink.wait_for_more()
        stage.pipeline.error = ValueError("a bug")
        stage.daemon.toggle(True)
        stage.sink.wait_for_more()  # one may have been on its way
        since = len(shown(stage))
        show_failing(stage, 5)
        stage.sink.wait_for_more()
        assert not [level for level in shown(stage, since) if level < UNTOUCHED]
