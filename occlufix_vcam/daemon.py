"""The daemon: builds everything from Settings and keeps three workers going until it is told to stop.

    capture:  camera -> captured         process:  captured -> pipeline -> finished         output:  finished -> sinks

Each worker opens what it uses, uses it and closes it, in its own thread. What goes wrong in a worker and can mend
itself (a camera unplugged, a sink gone, an engine that stopped working) is tried again with growing pauses; anything
else stops the daemon and leaves `run` as the error that it is.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

from engines.base import EngineError, EngineRunError
from occlufix_vcam.assembly import EngineFacts, Engines, build_pipeline, open_camera, open_sinks
from occlufix_vcam.beat import Beat
from occlufix_vcam.errors import ConfigError, OccluFixError
from occlufix_vcam.frame import Frame
from occlufix_vcam.latest import Latest
from occlufix_vcam.settings import LIVE_SETTINGS, Settings
from occlufix_vcam.sinks import Sinks
from occlufix_vcam.slate import slate
from occlufix_vcam.sources import CameraSource, EndOfClip
from occlufix_vcam.telemetry import LOGGER_NAMES, SaidOnce, StageFigures, Telemetry

if TYPE_CHECKING:
    from occlufix_vcam.pipeline import Pipeline

log = logging.getLogger(__name__)

PATIENCE_S = 0.2  # no call blocks longer without looking at the stop event
JOIN_S = 2.0
FAILURES_IN_A_ROW = 30  # of an engine, before it is built anew
FIRST_PAUSE_S, LONGEST_PAUSE_S, HEALTHY_AFTER_S = 0.5, 5.0, 10.0

State = Literal["starting", "loading", "running", "waiting", "stopping"]


class Status(TypedDict):
    """What `status --json` prints. These keys are stable: later versions add, never rename."""

    state: State
    enabled: bool
    fps: float
    latency: StageFigures | None
    stages: dict[str, StageFigures]
    dropped: int
    frames: int
    first_picture_s: float | None
    faces: int
    restored: int
    failed: int
    engine: dict[str, EngineFacts]
    camera: str | None
    size: tuple[int, int] | None
    sinks: list[str]
    viewers: int | None
    trouble: dict[str, str]
    uptime_s: float
    pid: int


class NeedsRestart(ConfigError):
    """The setting is valid, and a running daemon cannot change it."""


@dataclass(frozen=True)
class Parts:
    """How a daemon comes by its camera, its sinks and its pipeline; tests give their own."""

    open_camera: Callable[[Settings], CameraSource] = open_camera
    open_sinks: Callable[[Settings, tuple[int, int], float], Sinks] = open_sinks
    build_pipeline: Callable[[Settings, Telemetry, Engines], Pipeline] = build_pipeline


class Daemon:
    """One run of the product. `run` blocks; every other method may be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        parts: Parts = Parts(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.telemetry = Telemetry()
        self._parts = parts
        self._clock = clock
        self._started_at = clock()
        self._changing = threading.Lock()
        self._stop = threading.Event()
        self._captured: Latest[Frame] = Latest()
        self._finished: Latest[Frame] = Latest()
        self._camera: _Camera | None = None
        self._camera_known = threading.Event()
        self._sinks: Sinks | None = None
        self._engines: Engines | None = None
        self._restoring = False
        self._faces = 0
        self._frames = 0
        self._first_picture_s: float | None = None
        self._proven: set[str] = set()
        self._trouble: dict[str, str] = {}
        self._fatal: Exception | None = None
        self._repeated_trouble = SaidOnce(log)

    # ---- for whoever runs and steers it ----

    def run(self, seconds: float | None = None, on_running: Callable[[], None] = lambda: None) -> None:
        """Works until `stop`, for `seconds` at most. Raises what stopped it, if that was an error."""
        bodies = {"capture": self._capture, "process": self._process, "output": self._output}
        workers = [threading.Thread(target=self._keep, args=item, name=item[0]) for item in bodies.items()]
        ends_at = self._clock() + seconds if seconds is not None else float("inf")
        told = False
        try:
            for worker in workers:
                worker.start()
            while not self._stop.wait(PATIENCE_S) and self._clock() < ends_at:
                if not told and self.state == "running":
                    told = True
                    on_running()
        finally:
            self.stop()
            for worker in reversed(workers):
                worker.join(JOIN_S)
                if worker.is_alive():
                    log.error("%s does not end: only leaving the process ends it", worker.name)
        if self._fatal is not None:
            raise self._fatal

    def stop(self) -> None:
        self._stop.set()
        self._captured.close()
        self._finished.close()

    def toggle(self, enabled: bool | None = None) -> bool:
        """Restores, or passes the untouched picture, from the next frame on; None changes it. Returns which."""
        with self._changing:
            now = not self.settings.enabled if enabled is None else enabled
            self.settings = self.settings.but(enabled=now)
        return now

    def update(self, changes: Mapping[str, object]) -> Settings:
        """Changes settings while it runs. Raises ConfigError, and NeedsRestart where a key can't change live."""
        with self._changing:
            new = self.settings.but(**changes)
            if fixed := sorted(set(changes) - LIVE_SETTINGS):
                raise NeedsRestart(
                    f"{', '.join(fixed)} cannot change while it runs",
                    "`occlufix-vcam config set`, then stop and start again",
                )
            self.settings = new
        set_log_level(new.log_level)
        return new

    @property
    def state(self) -> State:
        if self._stop.is_set():
            return "stopping"
        if self._trouble:
            return "waiting"
        if not self._frames:
            return "starting"
        return "running" if self._restoring else "loading"

    def status(self) -> Status:
        stages = self.telemetry.percentiles()
        latency = stages.pop("added", None)
        counts = self.telemetry.counts()
        camera, sinks, engines = self._camera, self._sinks, self._engines
        return Status(
            state=self.state,
            enabled=self.settings.enabled,
            fps=round(self.telemetry.rate("sent"), 1),
            latency=latency,
            stages=stages,
            dropped=self._captured.dropped + self._finished.dropped,
            frames=self._frames,
            first_picture_s=self._first_picture_s,
            faces=self._faces if self.settings.enabled else 0,
            restored=counts.get("restored", 0),
            failed=counts.get("failed", 0),
            engine=engines.facts() if engines else {},
            camera=camera.description if camera else None,
            size=camera.size if camera else None,
            sinks=[sink.name for sink in sinks.open] if sinks else [],
            viewers=None,
            trouble={**self._trouble, **(sinks.failures if sinks else {})},
            uptime_s=round(self._clock() - self._started_at, 1),
            pid=os.getpid(),
        )

    # ---- the three workers ----

    def _capture(self) -> None:
        with closing(self._parts.open_camera(self.settings)) as source:
            self._camera = _Camera(source.description, source.size, source.rate)
            self._camera_known.set()
            self._well("capture")
            while not self._stop.is_set():
                try:
                    frame = source.read(PATIENCE_S)
                except EndOfClip:
                    self.stop()
                    return
                if frame is not None:
                    (self._finished if self._bypassed() else self._captured).put(frame)

    def _process(self) -> None:
        with (
            closing(Engines(self.settings)) as engines,
            closing(self._parts.build_pipeline(self.settings, self.telemetry, engines)) as pipeline,
        ):
            self._engines, self._restoring = engines, True
            self._well("process")
            in_a_row = 0
            try:
                while not self._stop.is_set():
                    frame = self._captured.take(PATIENCE_S)
                    if frame is not None:
                        in_a_row = 0 if self._process_frame(pipeline, frame) else in_a_row + 1
                    if in_a_row >= FAILURES_IN_A_ROW:
                        raise EngineRunError("restoring failed again and again", "the log has the reason")
            finally:
                self._engines, self._restoring = None, False

    def _process_frame(self, pipeline: Pipeline, frame: Frame) -> bool:
        """Whether the frame went well; one that did not follows `on_failure`."""
        try:
            self._finished.put(pipeline(frame))
        except Exception as error:  # noqa: BLE001  the worker's boundary: one bad frame must not end the call
            self.telemetry.count("failed")
            self._repeated_trouble.warning("a frame could not be restored: %r", error)
            policy = self.settings.on_failure
            if policy == "passthrough":
                self._finished.put(frame)
            elif policy == "blank":
                height, width = frame.image.shape[:2]
                self._finished.put(Frame(slate((width, height), ""), frame.index, frame.captured_at))
            return False
        self._faces = pipeline.seen.faces
        return True

    def _output(self) -> None:
        while not self._camera_known.wait(PATIENCE_S):
            if self._stop.is_set():
                return
        camera, settings = self._camera, self.settings
        assert camera is not None
        if "output" in self._proven:  # a second attempt must not write over what was recorded
            settings = settings.but(record=None)
        with closing(self._parts.open_sinks(settings, camera.size, camera.rate)) as sinks:
            self._sinks = sinks
            self._well("output")
            last = Frame(slate(camera.size, "starting"), index=-1, captured_at=-1.0)
            beat = Beat(camera.rate, self._clock)
            while not self._stop.wait(beat.until_early()):
                fresh = self._finished.take(beat.until_late())
                # A frame that was under way when the switch was thrown may arrive after a newer untouched one.
                is_new = fresh is not None and fresh.captured_at > last.captured_at
                if fresh is not None and is_new:
                    last = fresh
                beat.next(is_new)
                sinks.send(last)
                if is_new and last.index >= 0:
                    self._account(last)

    def _account(self, frame: Frame) -> None:
        now = self._clock()
        self.telemetry.record("added", now - frame.captured_at)
        self.telemetry.tick("sent")
        self._frames += 1
        if self._first_picture_s is None:
            self._first_picture_s = round(now - self._started_at, 2)
            log.info("first picture out after %.2f s", self._first_picture_s)

    def _bypassed(self) -> bool:
        """Whether the untouched picture goes straight out: switched off, or nothing there yet that restores."""
        settings = self.settings
        return not settings.enabled or (not self._restoring and settings.on_failure == "passthrough")

    # ---- supervision ----

    def _keep(self, name: str, body: Callable[[], None]) -> None:
        """Runs a worker until the stop, again after what can mend itself; anything else stops the daemon."""
        for pause in self._pauses():
            try:
                body()
                return
            except (OccluFixError, EngineError) as error:
                log.warning("%s: %s", name, error.message)
                if name not in self._proven or isinstance(error, ConfigError) or self._stop.is_set():
                    self._fail(error)
                    return
                self._trouble[name] = error.message
                if name == "capture" and self._camera is not None:
                    image = slate(self._camera.size, error.message)
                    self._finished.put(Frame(image, index=-1, captured_at=self._clock()))
            except Exception as error:
                log.exception("%s failed", name)
                self._fail(error)
                return
            if self._stop.wait(pause):
                return

    def _fail(self, error: Exception) -> None:
        self._fatal = self._fatal or error
        self.stop()

    def _pauses(self) -> Iterator[float]:
        """Growing pauses between attempts; the first one again after a healthy time."""
        pause = FIRST_PAUSE_S
        while True:
            began = self._clock()
            yield pause
            healthy = self._clock() - began > HEALTHY_AFTER_S
            pause = FIRST_PAUSE_S if healthy else min(2 * pause, LONGEST_PAUSE_S)

    def _well(self, name: str) -> None:
        self._proven.add(name)
        self._trouble.pop(name, None)


@dataclass(frozen=True, slots=True)
class _Camera:
    description: str
    size: tuple[int, int]
    rate: float


def set_log_level(level: str) -> None:
    """Of everything the product logs, from now on."""
    for name in LOGGER_NAMES:
        logging.getLogger(name).setLevel(level.upper())
