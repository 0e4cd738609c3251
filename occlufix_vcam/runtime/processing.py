"""Worker that owns the pipeline: captured frames in, finished frames out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from engines.errors import EngineRunError
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.handoff import Latest
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.status import EngineFacts, WorkerName
from occlufix_vcam.core.telemetry import SaidOnce, Telemetry
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.runtime.background_build import BackgroundBuild
from occlufix_vcam.runtime.frame_selector import LAST_PICTURE_S, SLOW_PICTURE_S, FinishedFrame
from occlufix_vcam.runtime.load import Load
from occlufix_vcam.runtime.supervisor import PATIENCE_S, Supervisor

if TYPE_CHECKING:
    from occlufix_vcam.pipeline import FrameSummary, Pipeline

FAILURES_IN_A_ROW = 30  # of an engine before it is reloaded

log = logging.getLogger(__name__)


class Processing:
    """Processing worker. `work` runs in its thread; any thread may read its properties."""

    def __init__(
        self,
        supervisor: Supervisor,
        telemetry: Telemetry,
        build_pipeline: Callable[[Settings, Telemetry, EngineSet], Pipeline],
        captured: Latest[Frame],
        finished: Latest[FinishedFrame],
        clock: Callable[[], float],
    ) -> None:
        #: Whether the pipeline is open.
        self.is_ready = False
        #: What the newest frame showed; None before the first.
        self.summary: FrameSummary | None = None
        self._supervisor, self._telemetry, self._clock = supervisor, telemetry, clock
        self._build_pipeline, self._captured, self._finished = build_pipeline, captured, finished
        self._busy_since = float("inf")
        self._slow_until = float("-inf")
        self._engines: EngineSet | None = None
        self._kept: EngineSet | None = None  # for the next opening
        self._is_reopening = False  # with those engines, so that a frame need not wait for long
        self._is_outdated = False  # better engines were built
        self._load = Load()
        self._background_build = BackgroundBuild(self._open_what_was_built)
        self._collapses: Counter[tuple[str, str]] = Counter()
        self._last_failure: Exception | None = None
        self._repeated_trouble, self._bare, self._slow = SaidOnce(log), SaidOnce(log), SaidOnce(log)

    @property
    def is_slow(self) -> bool:
        """Whether a frame takes so long, or did a moment ago, that fewer frames go out."""
        now = self._clock()
        return now - self._busy_since > LAST_PICTURE_S or now < self._slow_until

    def deliver(self, frame: Frame) -> None:
        """Passes a captured frame to the pipeline, or around it. Called by the capture worker."""
        if self._is_bypassed():
            self._pass(frame)
        else:
            self._captured.put(frame)

    def _pass(self, frame: Frame) -> None:
        """Passes a frame untouched. Counts it, unless restoring is off or no pipeline was ever open."""
        if self._supervisor.settings.enabled and self._supervisor.is_proven(WorkerName.PROCESS):
            self._telemetry.count("bare")
            self._bare.warning("a picture goes out untouched, as `on_failure` says")
        self._finish(frame, processed=False)

    def _finish(self, frame: Frame, *, processed: bool) -> None:
        self._finished.put(FinishedFrame(frame, processed, self._clock()))

    def _is_bypassed(self) -> bool:
        """Whether frames pass untouched: restoring is off, or no pipeline is open yet."""
        settings = self._supervisor.settings
        is_open = self.is_ready or self._is_reopening
        return not settings.enabled or (not is_open and settings.on_failure == "passthrough")

    def facts(self) -> dict[str, EngineFacts]:
        engines = self._engines
        return engines.facts(self._background_build.tell) if engines else {}

    def building(self) -> dict[str, float]:
        """Progress of each engine being built, 0..1."""
        return self._background_build.shares()

    def work(self) -> None:
        settings = self._supervisor.settings
        with ExitStack() as at_end:
            engines = at_end.enter_context(closing(self._engines_for(settings)))
            at_end.callback(setattr, self, "_is_reopening", False)
            with closing(self._build_pipeline(settings, self._telemetry, engines)) as pipeline:
                self._run(pipeline, engines)
            if not self._supervisor.stopped.is_set() and not self._is_outdated:
                # A setting changed; most concern no engine, and to load them again takes a second.
                self._kept = engines
                at_end.pop_all()

    def close(self) -> None:
        """Closes the engines that were kept for the next opening. Called once the worker has ended."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    def _engines_for(self, settings: Settings) -> EngineSet:
        """The engines that were kept, if they are those of the settings; else others, not loaded yet."""
        kept, avoid = self._kept, self._failing()
        self._is_outdated = False
        if kept is not None and kept.fits(settings, avoid):
            self._kept = None
            return kept
        self._is_reopening = False
        self.close()
        return EngineSet(settings, live=True, avoid=avoid)

    def _open_what_was_built(self) -> None:
        self._is_outdated = True
        self._supervisor.open_anew(WorkerName.PROCESS)

    def _run(self, pipeline: Pipeline, engines: EngineSet) -> None:
        """Restores frames until the pipeline is to be opened anew, or the stop."""
        self._engines, self.is_ready, self._is_reopening = engines, True, False
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
                    raise EngineRunError(
                        "restoring keeps failing", "read the log for the reason", code="restoring_fails"
                    )
            self._is_reopening = engines.fits(self._supervisor.settings, self._failing()) and not self._is_outdated
        finally:
            self._engines, self.is_ready = None, False

    def _restore(self, pipeline: Pipeline, frame: Frame) -> bool:
        """Restores one frame; returns whether it succeeded. A failed one follows `on_failure`."""
        began = self._busy_since = self._clock()
        self._telemetry.record("wait", began - frame.captured_at)
        settings = self._supervisor.settings
        pipeline.strength, pipeline.hurries = settings.strength, self._load.hurries
        pipeline.mark = settings.mark_corner if settings.mark else None
        try:
            finished, summary = pipeline(frame)
            self._finish(finished, processed=True)
        except Exception as error:  # noqa: BLE001  boundary of the worker: one bad frame must not end the call
            self._last_failure = error
            self._telemetry.count("failed")
            self._repeated_trouble.warning("cannot restore a frame: %r", error)
            if settings.on_failure == "passthrough":
                self._pass(frame)  # otherwise FrameSelector substitutes a frame
            return False
        finally:
            self._busy_since = float("inf")
        self._note_time(frame, self._clock() - began)
        self.summary = summary
        return True

    def _note_time(self, frame: Frame, seconds: float) -> None:
        if seconds > LAST_PICTURE_S:
            self._slow_until = self._clock() + SLOW_PICTURE_S
            self._slow.warning("restoring takes over %.1f s a frame: fewer frames go out", LAST_PICTURE_S)
        before = self._load.hurries
        if self._load.note(frame, seconds) is not before:
            log.info("the networks %s", "look as often as usual" if before else "look less often, to keep up")

    def _note_collapse(self, engines: EngineSet) -> None:
        """Reloads an engine that fails on a GPU once; then avoids its backend until the next start."""
        if isinstance(self._last_failure, EngineRunError):
            ran = {(one["backend"], one["device"]) for one in engines.facts().values()}
            self._collapses.update(place for place in ran if place[1] != "CPU")

    def _failing(self) -> frozenset[tuple[str, str]]:
        """Backends that failed; empty if the settings allow no other, which is then retried forever."""
        collapsed = [place for place, times in self._collapses.items() if times > 1]
        return frozenset(collapsed if self._supervisor.settings.backend == "auto" else ())
