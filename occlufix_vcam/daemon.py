"""The daemon: builds everything from Settings and keeps three workers going until it is told to stop.

    capture:  camera -> captured         process:  captured -> pipeline -> finished         output:  finished -> sinks

Each worker opens what it uses, uses it and closes it, in its own thread. The camera is open only while somebody reads
what goes out. What goes wrong in a worker and can mend itself (a camera unplugged, a sink gone, an engine that stopped
working) is tried again with growing pauses; anything else stops the daemon and leaves `run` as the error that it is.

A setting that a worker can't take as it goes makes that worker close what it has and open it anew, while the others go
on. Where that fails the settings are put back, and the worker opens what it had.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from typing_extensions import TypedDict

from engines.base import EngineError, EngineRunError
from occlufix_vcam import __version__
from occlufix_vcam.assembly import EngineFacts, Engines, build_pipeline, open_camera, open_sinks
from occlufix_vcam.beat import Beat
from occlufix_vcam.demand import Demand
from occlufix_vcam.engine_builder import EngineBuilder
from occlufix_vcam.enrolling import Enrolments
from occlufix_vcam.errors import CameraNotFound, ConfigError, OccluFixError
from occlufix_vcam.frame import Frame
from occlufix_vcam.latest import Latest, Shown
from occlufix_vcam.outgoing import LAST_PICTURE_S, Outgoing
from occlufix_vcam.settings import CAMERA_SETTINGS, LIVE_SETTINGS, SINK_SETTINGS, START_SETTINGS, Settings
from occlufix_vcam.sinks import Sinks
from occlufix_vcam.sources import CameraSource, EndOfClip, find_camera, is_camera
from occlufix_vcam.telemetry import LOGGER_NAMES, SaidOnce, StageFigures, Telemetry

if TYPE_CHECKING:
    from occlufix_vcam.pipeline import Pipeline

log = logging.getLogger(__name__)

PATIENCE_S = 0.2  # no call blocks longer without looking at the stop event
JOIN_S = 2.0
FAILURES_IN_A_ROW = 30  # of an engine, before it is built anew
FIRST_PAUSE_S, LONGEST_PAUSE_S, HEALTHY_AFTER_S = 0.5, 5.0, 10.0
SLOW_OPENING_S = 6.0  # it may take 5 s until the first picture
LONGEST_CAMERA_PAUSE_S = 1.0  # to look whether it is plugged in again costs little
SWITCH_S = 10.0  # for which a change of camera, sinks or pipeline is waited for
#: While nobody reads: how often a slate goes out, and how soon a new reader is seen.
IDLE_S, LOOK_S = 1.0, 0.1

WAKING = "waking the camera"

#: "idle": nobody reads, the camera is closed.
State = Literal["starting", "loading", "running", "idle", "waiting", "stopping"]


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
    restoring: int
    restored: int
    failed: int
    engine: dict[str, EngineFacts]
    building: dict[str, float]
    camera: str | None
    camera_open: bool
    size: tuple[int, int] | None
    sinks: list[str]
    viewers: int | None
    readers: list[str]
    trouble: dict[str, str]
    uptime_s: float
    pid: int
    version: str


class NeedsRestart(ConfigError):
    """The setting is valid, and a running daemon cannot change it."""


class SwitchFailed(ConfigError):
    """What the new settings name could not be opened; the old ones hold again."""


@dataclass(frozen=True)
class Parts:
    """How a daemon comes by its camera, its sinks and its pipeline; tests give their own."""

    open_camera: Callable[[Settings], CameraSource] = open_camera
    open_sinks: Callable[[Settings, tuple[int, int], float], Sinks] = open_sinks
    build_pipeline: Callable[[Settings, Telemetry, Engines], Pipeline] = build_pipeline
    find_camera: Callable[[Settings], str] = lambda settings: find_camera(settings.source).description


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
        #: What goes out, for whoever wants to look at it.
        self.shown: Shown[Frame] = Shown()
        self._parts = parts
        self._clock = clock
        self._started_at = clock()
        self._changing = threading.Lock()
        self._switching = threading.Lock()  # held for as long as a switch takes; `toggle` never waits for it
        self._switches: dict[str, _Switch] = {}
        self._opening: dict[str, _Switch | None] = {}
        self._working = False
        self._stop = threading.Event()
        self._captured: Latest[Frame] = Latest()
        self._finished: Latest[Frame] = Latest()
        self._camera: _Camera | None = None
        self._camera_name: str | None = None
        self._same_camera: tuple[str, str] | None = None
        self._form: _Form | None = None
        self._form_known = threading.Event()
        self._demand = Demand(clock)
        self._new_call = True
        #: Who is known, and getting to know somebody.
        self.enrolments = Enrolments(self.shown, watched=self._demand.held)
        self._readers: tuple[str, ...] | None = None
        self._captured_at = self._busy_since = float("inf")
        self._sinks: Sinks | None = None
        self._engines: Engines | None = None
        self._builder = EngineBuilder(self._open_pipeline_anew)
        self._collapses: Counter[tuple[str, str]] = Counter()
        self._last_failure: Exception | None = None
        self._restoring = False
        self._faces = 0
        self._last_restored = 0
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
        self._working = True
        try:
            for worker in workers:
                worker.start()
            while not self._stop.wait(PATIENCE_S) and self._clock() < ends_at:
                if not told and self.state in ("running", "idle"):
                    told = True
                    on_running()
        finally:
            self.stop()
            self.enrolments.cancel()
            for worker in reversed(workers):
                worker.join(JOIN_S)
                if worker.is_alive():
                    log.error("%s does not end: only leaving the process ends it", worker.name)
            self._working = False
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

    def watched(self) -> AbstractContextManager[None]:
        """As long as this block lasts somebody looks, though no program reads: the camera stays open for a preview."""
        return self._demand.held()

    def update(self, changes: Mapping[str, object]) -> Settings:
        """Changes settings while it runs: at once, or by opening anew what they concern, which is waited for.

        Raises ConfigError, NeedsRestart where a key can't change live, SwitchFailed where the new camera, sinks or
        pipeline can't be had; then nothing has changed.
        """
        self.settings.but(**changes)
        if fixed := sorted(key for key in set(changes) & START_SETTINGS if self._differs(key, changes)):
            raise NeedsRestart(
                f"{', '.join(fixed)} cannot change while it runs",
                "`occlufix-vcam config set`, then stop and start again",
            )
        if not self._switching.acquire(timeout=SWITCH_S):
            raise SwitchFailed("another change is still under way", "try again in a moment")
        try:
            self._switch(changes)
        finally:
            self._switching.release()
        set_log_level(self.settings.log_level)
        return self.settings

    def _differs(self, key: str, changes: Mapping[str, object]) -> bool:
        return bool(getattr(self.settings.but(**changes), key) != getattr(self.settings, key))

    def _switch(self, changes: Mapping[str, object]) -> None:
        """Sets the settings and waits for the workers that open something anew."""
        with self._changing:
            old = self.settings
            self.settings = old.but(**changes)
            changed = {key for key in changes if getattr(old, key) != getattr(self.settings, key)}
            before = {key: getattr(old, key) for key in changed}
            workers = _workers_of(changed) if self._working else frozenset()
            switches = [_Switch(workers, before) for _ in workers]
            self._switches.update(zip(workers, switches, strict=True))
        ends_at = self._clock() + SWITCH_S
        for switch in switches:
            while not switch.done.wait(PATIENCE_S) and self._clock() < ends_at and not self._stop.is_set():
                pass
        for switch in switches:
            if switch.error is not None:
                hint = getattr(switch.error, "hint", "") or "`occlufix-vcam doctor` and the log say more"
                raise SwitchFailed(getattr(switch.error, "message", repr(switch.error)), hint) from switch.error

    @property
    def state(self) -> State:
        if self._stop.is_set():
            return "stopping"
        if self._trouble:
            return "waiting"
        if "output" in self._proven and "capture" in self._proven and not self._demand.now:
            return "idle"
        if not self._frames:
            return "starting"
        return "running" if self._restoring else "loading"

    def status(self) -> Status:
        stages = self.telemetry.percentiles()
        latency = stages.pop("added", None)
        counts = self.telemetry.counts()
        camera, form, sinks, engines, readers = self._camera, self._form, self._sinks, self._engines, self._readers
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
            restoring=self._last_restored if self.settings.enabled else 0,
            restored=counts.get("restored", 0),
            failed=counts.get("failed", 0),
            engine=engines.facts(self._builder.tell) if engines else {},
            building=self._builder.shares(),
            camera=self._camera_name,
            camera_open=camera is not None,
            size=camera.size if camera else form.size if form else None,
            sinks=[sink.name for sink in sinks.open] if sinks else [],
            viewers=len(readers) if readers is not None else None,
            readers=list(readers or ()),
            trouble=self._all_trouble(sinks),
            uptime_s=round(self._clock() - self._started_at, 1),
            pid=os.getpid(),
            version=__version__,
        )

    def _all_trouble(self, sinks: Sinks | None) -> dict[str, str]:
        hangs = {"process": f"restoring has given nothing for {LAST_PICTURE_S} s"} if self._hangs() else {}
        return {**self._trouble, **hangs, **({**sinks.flaws, **sinks.failures} if sinks else {})}

    # ---- the three workers ----

    def _capture(self) -> None:
        settings = self.settings
        on_demand = is_camera(settings.source)
        if on_demand and ("capture" not in self._proven or self._opening["capture"] is not None):
            # The virtual camera is in the lists before the camera is open, so its form cannot be the camera's.
            self._camera_name = self._parts.find_camera(settings)
            self._know_form(_Form((settings.width, settings.height), settings.rate))
        while self._goes_on("capture"):
            if on_demand and not self._demand.wait(PATIENCE_S):
                self._new_call = True
                if self._sinks is not None:
                    self._well("capture")  # nobody waits for a picture: a camera that is busy may be so
                continue
            source = self._open_unless_stopped(lambda: self._open_camera(settings))
            if source is not None:
                with closing(source):
                    self._read(source, on_demand)
            on_demand = True

    def _open_camera(self, settings: Settings) -> CameraSource:
        """The camera that there was before, though it may have another number now; another one only for a new call."""
        if self._same_camera is None or self._same_camera[0] != settings.source:
            return self._parts.open_camera(settings)
        try:
            return self._parts.open_camera(settings.but(source=self._same_camera[1]))
        except CameraNotFound:
            if not self._new_call:
                raise
        return self._parts.open_camera(settings)

    def _read(self, source: CameraSource, form_is_known: bool) -> None:
        """Until the stop, until the clip is over or until nobody looks any more."""
        self._camera_name = source.description
        if not form_is_known:
            self._know_form(_Form(source.size, source.rate))
            self._demand.note()
        else:
            self._same_camera = self.settings.source, source.identity
        self._new_call = False
        self._camera = _Camera(source.size, source.rate)
        self._well("capture")
        try:
            while self._goes_on("capture") and self._demand.now:
                frame = source.read(PATIENCE_S)
                if frame is not None:
                    self._captured_at = self._clock()
                    (self._finished if self._bypassed() else self._captured).put(frame)
        except EndOfClip:
            self.stop()
        finally:
            self._camera = None

    def _know_form(self, form: _Form) -> None:
        self._form = form
        self._form_known.set()

    def _open_unless_stopped(self, open_: Callable[[], CameraSource]) -> CameraSource | None:
        """What `open_` gives; None where the stop came first, for a driver may take seconds to open a camera."""
        opening: Future[CameraSource] = Future()

        def run() -> None:
            try:
                opening.set_result(open_())
            except BaseException as error:  # noqa: BLE001  raised again where it is waited for
                opening.set_exception(error)

        threading.Thread(target=run, name="opening", daemon=True).start()
        slow_at = self._clock() + SLOW_OPENING_S
        while self._goes_on("capture"):
            if wait([opening], PATIENCE_S).done:
                return opening.result()
            if self._clock() > slow_at and "capture" in self._proven:
                self._trouble["capture"] = "the camera does not open: its driver gives no answer"
        opening.add_done_callback(_close_what_came)
        return None

    def _process(self) -> None:
        with (
            closing(Engines(self.settings, live=True, avoid=self._distrusted())) as engines,
            closing(self._parts.build_pipeline(self.settings, self.telemetry, engines)) as pipeline,
        ):
            self._engines, self._restoring = engines, True
            self._well("process")
            self._builder.build(engines.unbuilt())
            in_a_row = 0
            try:
                while self._goes_on("process"):
                    frame = self._captured.take(PATIENCE_S)
                    if frame is not None:
                        in_a_row = 0 if self._process_frame(pipeline, frame) else in_a_row + 1
                    if in_a_row >= FAILURES_IN_A_ROW:
                        self._note_collapse(engines)
                        raise EngineRunError("restoring failed again and again", "the log has the reason")
            finally:
                self._engines, self._restoring = None, False

    def _process_frame(self, pipeline: Pipeline, frame: Frame) -> bool:
        """Whether the frame went well; one that did not follows `on_failure`."""
        self._busy_since = self._clock()
        try:
            self._finished.put(pipeline(frame))
        except Exception as error:  # noqa: BLE001  the worker's boundary: one bad frame must not end the call
            self._last_failure = error
            self.telemetry.count("failed")
            self._repeated_trouble.warning("a frame could not be restored: %r", error)
            if self.settings.on_failure == "passthrough":
                self._finished.put(frame)  # else the last one stands for it, and soon what `Outgoing` has
            return False
        finally:
            self._busy_since = float("inf")
        self._faces, self._last_restored = pipeline.seen.faces, pipeline.seen.restored
        return True

    def _note_collapse(self, engines: Engines) -> None:
        """An engine that fails on a GPU is made anew once; then its backend is left alone until the next start."""
        if isinstance(self._last_failure, EngineRunError):
            ran = {(one["backend"], one["device"]) for one in engines.facts().values()}
            self._collapses.update(place for place in ran if place[1] != "CPU")

    def _distrusted(self) -> frozenset[tuple[str, str]]:
        """Nothing where the settings allow no other backend: then it is tried again and again."""
        collapsed = [place for place, times in self._collapses.items() if times > 1]
        return frozenset(collapsed if self.settings.backend == "auto" else ())

    def _open_pipeline_anew(self) -> None:
        """With the engines that are built by now; a change of settings that is under way does the same."""
        self._switches.setdefault("process", _Switch(frozenset(), {}))

    def _output(self) -> None:
        while not self._form_known.wait(PATIENCE_S):
            if self._stop.is_set():
                return
        form, settings = self._form, self.settings
        assert form is not None
        if "output" in self._proven:  # a second attempt must not write over what was recorded
            settings = settings.but(record=None)
        with closing(self._parts.open_sinks(settings, form.size, form.rate)) as sinks:
            outgoing = Outgoing(form.size, self._clock)
            if before := self.shown.after(0, 0):  # the sinks were opened anew: nobody sees them start
                outgoing.take(before[1])
            self._send(sinks, outgoing, outgoing.now(form.rate, "starting", settings, camera_gone=False))
            self._look(sinks)
            self._sinks = sinks
            self._well("output")
            while self._goes_on("output"):
                self._show(sinks, outgoing, form)
                self._idle(sinks, outgoing, form)

    def _look(self, sinks: Sinks) -> bool:
        """Whether somebody looks: a reader of a sink, or whoever else `watched`."""
        audience, settings = sinks.audience(), self.settings
        self._readers = audience.viewers
        # A clip that ends, or that runs as fast as it can, has to be read to its end.
        if audience.wanted or settings.always_on or not (settings.loop and settings.realtime):
            self._demand.note()
        return self._demand.now

    def _show(self, sinks: Sinks, outgoing: Outgoing, form: _Form) -> None:
        """A picture at each beat, as long as somebody looks."""
        camera, beat, rate = None, Beat(form.rate, self._clock), form.rate
        while self._goes_on("output") and self._look(sinks):
            if self._camera is not camera:
                camera = self._camera
                rate = camera.rate if camera else form.rate
                beat = Beat(rate, self._clock)
            if self._stop.wait(beat.until_early()):
                return
            fresh = self._finished.take(beat.until_late())
            is_new = fresh is not None and outgoing.take(fresh)
            beat.next(is_new)
            frame = outgoing.now(rate, self._reason(), self.settings, camera_gone="capture" in self._trouble)
            self._send(sinks, outgoing, frame)
            if is_new and frame.index >= 0:
                self._account(frame)

    def _idle(self, sinks: Sinks, outgoing: Outgoing, form: _Form) -> None:
        """A slate now and then, as long as nobody looks: it is what the next reader sees first."""
        outgoing.forget()
        while self._goes_on("output"):
            self._finished.take(0)
            self._send(sinks, outgoing, outgoing.now(form.rate, WAKING, self.settings, camera_gone=True))
            again_at = self._clock() + IDLE_S
            while self._clock() < again_at and self._goes_on("output"):
                if self._look(sinks):
                    return
                self._stop.wait(LOOK_S)

    def _send(self, sinks: Sinks, outgoing: Outgoing, frame: Frame) -> None:
        before = self.shown.after(0, 0)
        if before is None or frame is not before[1]:
            self.shown.show(frame)
        sinks.send(outgoing.finished(frame, self.settings))

    def _reason(self) -> str:
        """Why no picture comes, in case none does."""
        if trouble := self._trouble.get("capture"):
            return trouble
        if self._camera is None:
            return WAKING
        if self._clock() - self._captured_at > LAST_PICTURE_S:
            return "the camera sends no pictures"
        return "restoring has stopped" if self._restoring else "restoring is being made ready"

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
        stuck = not self._restoring or self._hangs()
        return not settings.enabled or (stuck and settings.on_failure == "passthrough")

    def _hangs(self) -> bool:
        return self._clock() - self._busy_since > LAST_PICTURE_S

    # ---- supervision ----

    def _keep(self, name: str, body: Callable[[], None]) -> None:
        """Runs a worker until the stop, again after what can mend itself; anything else stops the daemon."""
        for pause in self._pauses(LONGEST_CAMERA_PAUSE_S if name == "capture" else LONGEST_PAUSE_S):
            switch = self._opening[name] = self._switches.pop(name, None)
            try:
                body()
                if self._stop.is_set():
                    return
                continue
            except Exception as error:  # noqa: BLE001  the worker's boundary: it goes on, or says why the daemon ends
                if switch is not None and not switch.done.is_set():
                    self._put_back(name, switch, error)
                    continue
                if not self._can_mend(name, error):
                    self._fail(error)
                    return
            self._rest(name, pause)
            if self._stop.is_set():
                return

    def _can_mend(self, name: str, error: Exception) -> bool:
        """Whether trying again is worth while; says in status and picture what happened where it is."""
        if not isinstance(error, (OccluFixError, EngineError)):
            log.error("%s failed", name, exc_info=error)
            return False
        log.warning("%s: %s", name, error.message)
        if name not in self._proven or isinstance(error, ConfigError) or self._stop.is_set():
            return False
        self._trouble[name] = error.message
        return True

    def _put_back(self, name: str, switch: _Switch, error: Exception) -> None:
        """The old settings hold again; the other workers of that switch open anew, too, what they had."""
        log.warning("%s: a change of settings is put back: %s", name, error)
        with self._changing:
            self.settings = self.settings.but(**switch.before)
            for other in switch.workers - {name}:
                if (not_begun := self._switches.get(other)) is not None:
                    not_begun.done.set()
                self._switches[other] = _Switch(frozenset(), {})
        switch.error = error
        switch.done.set()

    def _goes_on(self, name: str) -> bool:
        """Whether a worker keeps what it has open."""
        return not self._stop.is_set() and name not in self._switches

    def _rest(self, name: str, pause: float) -> None:
        ends_at = self._clock() + pause
        while self._goes_on(name) and (left := ends_at - self._clock()) > 0:
            self._stop.wait(min(left, PATIENCE_S))

    def _fail(self, error: Exception) -> None:
        self._fatal = self._fatal or error
        self.stop()

    def _pauses(self, longest: float) -> Iterator[float]:
        """Growing pauses between attempts; the first one again after a healthy time."""
        pause = FIRST_PAUSE_S
        while True:
            began = self._clock()
            yield pause
            healthy = self._clock() - began > HEALTHY_AFTER_S
            pause = FIRST_PAUSE_S if healthy else min(2 * pause, longest)

    def _well(self, name: str) -> None:
        self._proven.add(name)
        self._trouble.pop(name, None)
        switch = self._opening[name]
        if switch is not None:
            switch.done.set()


@dataclass(slots=True, eq=False)
class _Switch:
    """What a worker is to open anew, and whether it could; `before` are the settings that hold again if not."""

    workers: frozenset[str]
    before: dict[str, object]
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


def _workers_of(changed: Set[str]) -> frozenset[str]:
    """Whose work the settings concern that were changed."""
    camera, sinks = changed & CAMERA_SETTINGS, changed & SINK_SETTINGS
    rest = changed - CAMERA_SETTINGS - SINK_SETTINGS - LIVE_SETTINGS
    named = {"capture": camera, "output": sinks, "process": rest}
    return frozenset(name for name, concerns in named.items() if concerns)


@dataclass(frozen=True, slots=True)
class _Form:
    """What the virtual camera is, from its opening on: (width, height), and pictures a second."""

    size: tuple[int, int]
    rate: float


@dataclass(frozen=True, slots=True)
class _Camera:
    """The source while it is open. Compared by identity: each opening is another one."""

    size: tuple[int, int]
    rate: float


def _close_what_came(opening: Future[CameraSource]) -> None:
    if opening.exception() is None:
        opening.result().close()


def set_log_level(level: str) -> None:
    """Of everything the product logs, from now on."""
    for name in LOGGER_NAMES:
        logging.getLogger(name).setLevel(level.upper())
