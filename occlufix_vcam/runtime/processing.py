"""The worker that has the pipeline: captured pictures go in, finished ones come out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from engines.errors import EngineRunError
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.handoff import Latest
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.status import EngineFacts, WorkerName
from occlufix_vcam.core.telemetry import SaidOnce, Telemetry
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.runtime.background_build import BackgroundBuild
from occlufix_vcam.runtime.frame_selector import LAST_PICTURE_S, FinishedFrame
from occlufix_vcam.runtime.supervisor import PATIENCE_S, Supervisor

if TYPE_CHECKING:
    from occlufix_vcam.pipeline import Pipeline

FAILURES_IN_A_ROW = 30  # of an engine, before it is built anew

log = logging.getLogger(__name__)


class Processing:
    """`work` runs in the worker's thread; what it shows may be looked at from any."""

    def __init__(
        self,
        supervisor: Supervisor,
        telemetry: Telemetry,
        build_pipeline: Callable[[Settings, Telemetry, EngineSet], Pipeline],
        captured: Latest[Frame],
        finished: Latest[FinishedFrame],
        clock: Callable[[], float],
    ) -> None:
        #: Whether the pipeline is there.
        self.is_ready = False
        #: Of the newest picture: faces, and those of them that were restored.
        self.faces = self.restored = 0
        self._supervisor, self._telemetry, self._clock = supervisor, telemetry, clock
        self._build_pipeline, self._captured, self._finished = build_pipeline, captured, finished
        self._busy_since = float("inf")
        self._engines: EngineSet | None = None
        self._background_build = BackgroundBuild(lambda: supervisor.open_anew(WorkerName.PROCESS))
        self._collapses: Counter[tuple[str, str]] = Counter()
        self._last_failure: Exception | None = None
        self._repeated_trouble = SaidOnce(log)

    @property
    def hangs(self) -> bool:
        """Whether it has given nothing for too long."""
        return self._clock() - self._busy_since > LAST_PICTURE_S

    def deliver(self, frame: Frame) -> None:
        """Takes a captured frame: to the pipeline, or past it. Called by the capture worker."""
        if self._is_bypassed():
            self._finished.put(FinishedFrame(frame, processed=False))
        else:
            self._captured.put(frame)

    def _is_bypassed(self) -> bool:
        """Whether the untouched picture goes straight out: switched off, or nothing there yet that restores."""
        settings = self._supervisor.settings
        stuck = not self.is_ready or self.hangs
        return not settings.enabled or (stuck and settings.on_failure == "passthrough")

    def facts(self) -> dict[str, EngineFacts]:
        engines = self._engines
        return engines.facts(self._background_build.tell) if engines else {}

    def building(self) -> dict[str, float]:
        """How far each engine is that is being built, 0..1."""
        return self._background_build.shares()

    def work(self) -> None:
        settings = self._supervisor.settings
        with (
            closing(EngineSet(settings, live=True, avoid=self._failing())) as engines,
            closing(self._build_pipeline(settings, self._telemetry, engines)) as pipeline,
        ):
            self._engines, self.is_ready = engines, True
            self._supervisor.well(WorkerName.PROCESS)
            self._background_build.build(engines.unbuilt())
            in_a_row = 0
            try:
                while self._supervisor.goes_on(WorkerName.PROCESS):
                    frame = self._captured.take(PATIENCE_S)
                    if frame is not None:
                        in_a_row = 0 if self._restore(pipeline, frame) else in_a_row + 1
                    if in_a_row >= FAILURES_IN_A_ROW:
                        self._note_collapse(engines)
                        raise EngineRunError("restoring failed again and again", "the log has the reason")
            finally:
                self._engines, self.is_ready = None, False

    def _restore(self, pipeline: Pipeline, frame: Frame) -> bool:
        """Whether the frame went well; one that did not follows `on_failure`."""
        self._busy_since = self._clock()
        try:
            finished, summary = pipeline(frame)
            self._finished.put(FinishedFrame(finished, processed=True))
        except Exception as error:  # noqa: BLE001  the worker's boundary: one bad frame must not end the call
            self._last_failure = error
            self._telemetry.count("failed")
            self._repeated_trouble.warning("a frame could not be restored: %r", error)
            if self._supervisor.settings.on_failure == "passthrough":
                self._finished.put(FinishedFrame(frame, processed=False))  # else FrameSelector finds a stand-in
            return False
        finally:
            self._busy_since = float("inf")
        self.faces, self.restored = summary.faces, summary.restored
        return True

    def _note_collapse(self, engines: EngineSet) -> None:
        """An engine that fails on a GPU is made anew once; then its backend is left alone until the next start."""
        if isinstance(self._last_failure, EngineRunError):
            ran = {(one["backend"], one["device"]) for one in engines.facts().values()}
            self._collapses.update(place for place in ran if place[1] != "CPU")

    def _failing(self) -> frozenset[tuple[str, str]]:
        """Nothing where the settings allow no other backend: then it is tried again and again."""
        collapsed = [place for place, times in self._collapses.items() if times > 1]
        return frozenset(collapsed if self._supervisor.settings.backend == "auto" else ())
