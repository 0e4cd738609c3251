"""Worker that owns the sinks: a frame at each tick while a program reads, else a placeholder now and then."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.handoff import Broadcast, Latest
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.status import WorkerName
from occlufix_vcam.core.telemetry import Telemetry
from occlufix_vcam.runtime.capture import Capture, OutputFormat
from occlufix_vcam.runtime.demand import Demand
from occlufix_vcam.runtime.frame_selector import LAST_PICTURE_S, MISSED_PICTURES, FinishedFrame, FrameSelector
from occlufix_vcam.runtime.pacer import FramePacer
from occlufix_vcam.runtime.processing import Processing
from occlufix_vcam.runtime.supervisor import PATIENCE_S, Supervisor
from occlufix_vcam.sinks.fan_out import KeptSink, Sinks

#: Without readers: interval of placeholder frames, and of checks for a new reader.
IDLE_S, LOOK_S = 1.0, 0.1
#: While a program reads, a picture that stands still for longer is a freeze.
FREEZE_S = 0.2

WAKING = "waking the camera"

log = logging.getLogger(__name__)

#: Opens what the settings name in a size and at a rate, with the sinks that are kept from before by their keys.
OpenSinks = Callable[[Settings, tuple[int, int], float, Mapping[str, KeptSink]], Sinks]


class Output:
    """Output worker. `work` runs in its thread; any thread may read its properties."""

    def __init__(
        self,
        supervisor: Supervisor,
        capture: Capture,
        restoring: Processing,
        demand: Demand,
        telemetry: Telemetry,
        open_sinks: OpenSinks,
        finished: Latest[FinishedFrame],
        shown: Broadcast[Frame],
        clock: Callable[[], float],
    ) -> None:
        self.sinks: Sinks | None = None
        #: Programs that read; None if no sink can tell.
        self.readers: tuple[str, ...] | None = None
        #: Camera frames sent, and seconds from the start to the first of them.
        self.frames = 0
        self.first_picture_s: float | None = None
        self._supervisor, self._capture, self._processing, self._demand = supervisor, capture, restoring, demand
        self._telemetry, self._open_sinks, self._finished, self._shown = telemetry, open_sinks, finished, shown
        self._clock = clock
        self._started_at = clock()
        self._selector: FrameSelector | None = None
        self._kept: dict[str, KeptSink] = {}
        self._moved_at: float | None = None  # when the readers last got another picture; None while there are none

    def work(self) -> None:
        while (form := self._capture.wait_for_form(PATIENCE_S)) is None:
            if self._supervisor.stopped.is_set():
                return
        sinks = self._open_sinks(self._supervisor.settings, form.size, form.rate, self._kept)
        self._kept = {}
        try:
            self._serve(sinks, form)
        except BaseException:
            sinks.close()
            raise
        finally:
            self.readers = None
        if self._supervisor.stopped.is_set():
            sinks.close()
        else:  # a setting changed: sinks that it does not concern stay open, and programs that read them notice nothing
            self._kept = sinks.release()

    def close(self) -> None:
        """Closes the sinks that were kept for the next opening. Called once the worker has ended."""
        kept, self._kept = self._kept, {}
        Sinks([one.sink for one in kept.values()]).close()

    def _serve(self, sinks: Sinks, form: OutputFormat) -> None:
        if self._selector is None or self._selector.size != form.size:
            self._selector = FrameSelector(form.size, self._clock)
        selector = self._selector
        selector.resume()
        self._send(sinks, selector, selector.now(form.rate, "starting", self._supervisor.settings, camera_gone=False))
        self._look(sinks)
        self.sinks = sinks
        self._supervisor.well(WorkerName.OUTPUT)
        while self._goes_on():
            self._show(sinks, selector, form)
            if self._goes_on():
                self._idle(sinks, selector, form)

    def _goes_on(self) -> bool:
        return self._supervisor.goes_on(WorkerName.OUTPUT)

    def _look(self, sinks: Sinks) -> bool:
        """Whether there is demand: a reader of a sink, or another holder of demand."""
        audience, settings = sinks.audience(), self._supervisor.settings
        self.readers = audience.viewers
        # A clip that ends, or that runs as fast as possible, must be read to its end.
        if audience.wanted or settings.always_on or not (settings.loop and settings.realtime):
            self._demand.note()
        return self._demand.now

    def _show(self, sinks: Sinks, selector: FrameSelector, form: OutputFormat) -> None:
        """Sends a frame at each tick while there is demand."""
        camera, pacer, rate = None, FramePacer(form.rate, self._clock), form.rate
        while self._goes_on() and self._look(sinks):
            if self._capture.camera is not camera:
                camera = self._capture.camera
                rate = camera.rate if camera else form.rate
                pacer = FramePacer(rate, self._clock)
            if self._supervisor.stopped.wait(pacer.until_early()):
                return
            fresh = self._finished.take(pacer.until_late())
            is_new = fresh is not None and selector.take(fresh)
            pacer.next(is_new)
            camera_gone = WorkerName.CAPTURE in self._supervisor.trouble
            settings, slow = self._supervisor.settings, self._processing.is_slow
            frame = selector.now(rate, self._reason(), settings, camera_gone=camera_gone, slow=slow)
            self._send(sinks, selector, frame)
            if is_new and fresh is not None and frame.index >= 0:
                self._account(fresh)
            if is_new or frame.index < 0:
                self._note_freeze(rate)

    def _idle(self, sinks: Sinks, selector: FrameSelector, form: OutputFormat) -> None:
        """Sends a placeholder now and then while there is no demand: the next reader sees it first."""
        selector.forget()
        self._moved_at = None
        while self._goes_on():
            self._finished.take(0)
            frame = selector.now(form.rate, WAKING, self._supervisor.settings, camera_gone=True)
            self._send(sinks, selector, frame)
            again_at = self._clock() + IDLE_S
            while self._clock() < again_at and self._goes_on():
                if self._look(sinks):
                    return
                self._supervisor.stopped.wait(LOOK_S)

    def _send(self, sinks: Sinks, selector: FrameSelector, frame: Frame) -> None:
        before = self._shown.after(0, 0)
        if before is None or frame is not before[1]:
            self._shown.show(frame)
        sinks.send(selector.finished(frame, self._supervisor.settings))

    def _reason(self) -> str:
        """Why no frame comes, for the placeholder."""
        if trouble := self._supervisor.trouble.get(WorkerName.CAPTURE):
            return trouble.what
        if self._capture.camera is None:
            return WAKING
        if self._clock() - self._capture.captured_at > LAST_PICTURE_S:
            return "the camera sends no frames"
        return "restoring has stopped" if self._processing.is_ready else "the engines are loading"

    def _note_freeze(self, rate: float) -> None:
        """Counts a freeze if the readers did not get another picture for too long."""
        now, before = self._clock(), self._moved_at
        if before is not None and now - before > max(FREEZE_S, MISSED_PICTURES / rate):
            self._telemetry.count("freezes")
            log.info("the picture stood still for %.0f ms", 1000 * (now - before))
        self._moved_at = now

    def _account(self, sent: FinishedFrame) -> None:
        now = self._clock()
        self._telemetry.record("out", now - sent.at)
        self._telemetry.record("added", now - sent.frame.captured_at)
        self._telemetry.tick("sent")
        self.frames += 1
        if self.first_picture_s is None:
            self.first_picture_s = round(now - self._started_at, 2)
            log.info("first frame sent after %.2f s", self.first_picture_s)
