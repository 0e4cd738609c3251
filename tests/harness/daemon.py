"""A daemon with a scripted camera, a watched sink and an inverting pipeline, and a clock that the test moves on."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from occlufix_vcam.core.errors import CameraNotFound
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.telemetry import Telemetry
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.runtime.daemon import Daemon, Parts
from occlufix_vcam.sinks.fan_out import KeptSink, Sinks
from tests.harness.fakes import WAIT_S, InvertingPipeline, ScriptedCamera, WatchedSink


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
        self.parts = Parts(
            lambda settings: self.open_camera(settings), self._open_sinks, self._build_pipeline, self._find_camera
        )
        self.clock = JumpingClock()
        self.daemon = Daemon(Settings().but(**settings), self.parts, self.clock)

    def _find_camera(self, settings: Settings) -> str:
        if self.cameras and isinstance(self.cameras[0], CameraNotFound):
            raise self.cameras.pop(0)
        return "scripted camera"

    def _open_sinks(
        self, settings: Settings, size: tuple[int, int], rate: float, kept: Mapping[str, KeptSink]
    ) -> Sinks:
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
        """Until such a picture went out; the first may be lost while the output still counts no viewers."""
        while not {level, 255 - level} & set(self.sink.levels()):
            (camera or self.camera).show(level)
            self.sink.wait_for_more()

    def show_to_pipeline(self, level: int) -> None:
        """Until the pipeline has this very picture; what it had before is done with."""
        self.pipeline.entered.clear()
        self.camera.show(level)
        assert self.pipeline.entered.wait(WAIT_S)

    def stall(self, level: int) -> None:
        """Until the pipeline has this very picture, and keeps it until it may finish."""
        self.pipeline.may_finish.clear()
        self.show_to_pipeline(level)

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
