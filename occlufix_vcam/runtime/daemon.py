"""The daemon: builds everything from Settings and runs three workers until it is stopped.

    capture:  camera -> captured         process:  captured -> pipeline -> finished         output:  finished -> sinks

The camera is open only while a program reads the output. `supervisor` keeps the workers running and changes their
settings.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from occlufix_vcam import __version__
from occlufix_vcam.assembly import build_pipeline, open_camera, open_collector, open_sinks
from occlufix_vcam.core.errors import Trouble
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.handoff import Broadcast, Latest
from occlufix_vcam.core.media.film_formats import check_recording
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.status import State, Status, TroubleCode, WorkerName
from occlufix_vcam.core.telemetry import LOGGER_NAMES, Telemetry
from occlufix_vcam.enrollment.session import Enrollments
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.runtime.capture import Capture
from occlufix_vcam.runtime.demand import Demand
from occlufix_vcam.runtime.frame_selector import LAST_PICTURE_S, FinishedFrame
from occlufix_vcam.runtime.output import OpenSinks, Output
from occlufix_vcam.runtime.processing import Processing
from occlufix_vcam.runtime.recording import Recording
from occlufix_vcam.runtime.supervisor import PATIENCE_S, Supervisor
from occlufix_vcam.sinks.fan_out import Sinks
from occlufix_vcam.sources import CameraSource
from occlufix_vcam.sources.opening import find_camera

if TYPE_CHECKING:
    from occlufix_vcam.pipeline import Pipeline


#: For which the bare picture is shown on request.
BARE_S = 2.0
SLOW_HINT = "close other programs, or choose a smaller resolution"


@dataclass(frozen=True)
class Parts:
    """How a daemon opens its camera, sinks and pipeline; tests pass their own."""

    open_camera: Callable[[Settings], CameraSource] = open_camera
    open_sinks: OpenSinks = open_sinks
    build_pipeline: Callable[[Settings, Telemetry, EngineSet], Pipeline] = build_pipeline
    find_camera: Callable[[Settings], str] = lambda settings: find_camera(settings.source).description


class Daemon:
    """One run of the product. `run` blocks; every other method may be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        parts: Parts = Parts(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.telemetry = Telemetry()
        #: Output frames, for any observer.
        self.broadcast: Broadcast[Frame] = Broadcast()
        self._clock = clock
        self._started_at = clock()
        self._captured: Latest[Frame] = Latest()
        self._finished: Latest[FinishedFrame] = Latest()
        self._demand = Demand(clock)
        #: Enrolled people, and enrollment.
        self.enrollments = Enrollments(self.broadcast, open_collector, watched=self._demand.held)
        self.recording = Recording(lambda: self.settings, self.update)
        self._bare = threading.Timer(0, lambda: None)  # never started: nothing waits yet
        supervisor = self._supervisor = Supervisor(settings, clock, (self._captured.close, self._finished.close))
        self._processing = Processing(
            supervisor, self.telemetry, parts.build_pipeline, self._captured, self._finished, clock
        )
        self._capture = Capture(
            supervisor, self._demand, parts.open_camera, parts.find_camera, self._processing.deliver, clock
        )
        self._output = Output(
            supervisor,
            self._capture,
            self._processing,
            self._demand,
            self.telemetry,
            parts.open_sinks,
            self._finished,
            self.broadcast,
            clock,
        )

    @property
    def settings(self) -> Settings:
        """Current settings."""
        return self._supervisor.settings

    def run(self, seconds: float | None = None, on_running: Callable[[], None] = lambda: None) -> None:
        """Works until `stop`, for at most `seconds`. Raises what stopped it, if that was an error."""
        workers = {
            WorkerName.CAPTURE: self._capture.work,
            WorkerName.PROCESS: self._processing.work,
            WorkerName.OUTPUT: self._output.work,
        }
        ends_at = self._clock() + seconds if seconds is not None else float("inf")
        told = False
        with self._supervisor.working(workers):
            try:
                while not self._supervisor.stopped.wait(PATIENCE_S) and self._clock() < ends_at:
                    if not told and self.state in ("running", "idle"):
                        told = True
                        on_running()
            finally:
                self.stop()
                self._bare.cancel()
                self.enrollments.cancel()
        self._output.close()
        self._processing.close()

    def stop(self) -> None:
        self._supervisor.stop()

    def toggle(self, enabled: bool | None = None) -> bool:
        """Restores, or passes frames untouched, from the next frame on; None toggles. Returns the new state."""
        self._bare.cancel()
        return self._supervisor.toggle(enabled)

    def show_bare(self, seconds: float = BARE_S) -> bool:
        """Passes frames untouched for some seconds, unless restoring is toggled before. False if it is off anyway."""
        if not self.settings.enabled:
            return False
        self.toggle(False)
        self._bare = threading.Timer(seconds, self._supervisor.toggle, (True,))
        self._bare.daemon = True
        self._bare.start()
        return True

    def watched(self) -> AbstractContextManager[None]:
        """Keeps the camera open during the block though no program reads, for a preview."""
        return self._demand.held()

    def update(self, changes: Mapping[str, object], save: Callable[[], object] = lambda: None) -> bool:
        """Changes settings during a run: at once, or by reopening the parts that they affect.

        True if the change holds, and `save` was called. False if it is still pending after some seconds: then `save`
        follows once it holds, or `status` reports under trouble `settings` why it does not. Raises ConfigError,
        NeedsRestart if a key cannot change during a run, SwitchFailed if the new camera, sinks or pipeline cannot be
        opened; then nothing has changed.
        """
        if "enabled" in changes:
            self._bare.cancel()
        if changes.get("record"):
            check_recording(Path(str(changes["record"])))
        holds = self._supervisor.update(changes, save)
        set_log_level(self.settings.log_level)
        return holds

    @property
    def state(self) -> State:
        supervisor = self._supervisor
        if supervisor.stopped.is_set():
            return "stopping"
        if supervisor.trouble:
            return "waiting"
        is_open = supervisor.is_proven(WorkerName.OUTPUT) and supervisor.is_proven(WorkerName.CAPTURE)
        if is_open and not self._demand.now:
            return "idle"
        if not self._output.frames:
            return "starting"
        return "running" if self._processing.is_ready else "loading"

    def status(self) -> Status:
        stages = self.telemetry.percentiles()
        latency = stages.pop("added", None)
        counts = self.telemetry.counts()
        camera, form = self._capture.camera, self._capture.form
        sinks, readers = self._output.sinks, self._output.readers
        enabled = self.settings.enabled
        seen = self._processing.summary if enabled else None
        trouble, left_out = self._trouble(sinks), dict(sinks.left_out) if sinks else {}
        return Status(
            state=self.state,
            enabled=enabled,
            fps=round(self.telemetry.rate("sent"), 1),
            latency=latency,
            stages=stages,
            dropped=self._captured.dropped + self._finished.dropped,
            freezes=counts.get("freezes", 0),
            frames=self._output.frames,
            first_picture_s=self._output.first_picture_s,
            faces=seen.faces if seen else 0,
            restoring=seen.restored if seen else 0,
            restored=counts.get("restored", 0),
            failed=counts.get("failed", 0),
            bare=counts.get("bare", 0),
            coverage=round(seen.coverage, 3) if seen else 0.0,
            recognised=list(seen.people) if seen else [],
            recording=self.recording.facts(),
            engine=self._processing.facts(),
            building=self._processing.building(),
            camera=self._capture.name,
            camera_open=camera is not None,
            size=camera.size if camera else form.size if form else None,
            sinks=[sink.name for sink in sinks.open] if sinks else [],
            viewers=len(readers) if readers is not None else None,
            readers=list(readers or ()),
            trouble={name: one.what for name, one in trouble.items()},
            left_out={name: one.what for name, one in left_out.items()},
            hints={name: one.hint for name, one in {**left_out, **trouble}.items() if one.hint},
            codes={
                name: TroubleCode(code=one.code, values=dict(one.values))
                for name, one in {**left_out, **trouble}.items()
                if one.code
            },
            uptime_s=round(self._clock() - self._started_at, 1),
            pid=os.getpid(),
            version=__version__,
        )

    def _trouble(self, sinks: Sinks | None) -> dict[str, Trouble]:
        """Current trouble, by worker or sink; under `settings` why their last change does not hold."""
        trouble: dict[str, Trouble] = {str(name): one for name, one in self._supervisor.trouble.items()}
        if self._processing.is_slow:
            what = f"restoring takes over {LAST_PICTURE_S} s a frame: fewer frames go out"
            trouble[WorkerName.PROCESS] = Trouble(what, SLOW_HINT, code="restoring_slow")
        if sinks is not None:
            trouble |= {**sinks.flaws, **sinks.failures}
        if self._supervisor.refused is not None:
            trouble["settings"] = self._supervisor.refused
        return trouble


def set_log_level(level: str) -> None:
    """Sets the level of all logs of the product from now on."""
    for name in LOGGER_NAMES:
        logging.getLogger(name).setLevel(level.upper())
