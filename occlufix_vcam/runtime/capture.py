"""Worker that owns the camera: opens it on demand, passes each frame on, closes it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from occlufix_vcam.core.background_open import BackgroundOpen
from occlufix_vcam.core.errors import CameraNotFound, Trouble
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.status import WorkerName
from occlufix_vcam.runtime.demand import Demand
from occlufix_vcam.runtime.supervisor import PATIENCE_S, Supervisor
from occlufix_vcam.sources import CameraSource, EndOfClip
from occlufix_vcam.sources.opening import is_camera

SLOW_OPENING_S = 6.0  # the first frame may take 5 s
DOES_NOT_OPEN = Trouble("the camera does not open: its driver does not respond", "reconnect it", code="camera_stuck")


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """Format of the virtual camera, fixed when it opens: (width, height), and frames per second."""

    size: tuple[int, int]
    rate: float


@dataclass(frozen=True, slots=True)
class OpenCamera:
    """Source while it is open. Compared by identity: each opening is a different one."""

    size: tuple[int, int]
    rate: float


class Capture:
    """Capture worker. `work` runs in its thread; any thread may read its properties."""

    def __init__(
        self,
        supervisor: Supervisor,
        demand: Demand,
        open_camera: Callable[[Settings], CameraSource],
        find_camera: Callable[[Settings], str],
        deliver: Callable[[Frame], None],
        clock: Callable[[], float],
    ) -> None:
        #: Display name of the source, and the source itself while it is open.
        self.name: str | None = None
        self.camera: OpenCamera | None = None
        #: Time of the newest frame.
        self.captured_at = float("inf")
        self._supervisor, self._demand = supervisor, demand
        self._open, self._find, self._deliver, self._clock = open_camera, find_camera, deliver, clock
        self._form: OutputFormat | None = None
        self._form_known = threading.Event()
        self._same_camera: tuple[str, str] | None = None
        self._new_call = True

    @property
    def form(self) -> OutputFormat | None:
        return self._form

    def wait_for_form(self, timeout: float) -> OutputFormat | None:
        """Format of the virtual camera; None if it is not known within `timeout` seconds."""
        return self._form if self._form_known.wait(timeout) else None

    def work(self) -> None:
        settings = self._supervisor.settings
        on_demand = is_camera(settings.source)
        if on_demand and self._supervisor.is_asked_anew(WorkerName.CAPTURE):
            # Programs list the virtual camera before the camera is open, so its format cannot be the camera's.
            self.name = self._find(settings)
            self._know_form(OutputFormat((settings.width, settings.height), settings.rate))
        while self._supervisor.goes_on(WorkerName.CAPTURE):
            if on_demand and not self._demand.wait(PATIENCE_S):
                self._new_call = True
                if self._supervisor.is_proven(WorkerName.OUTPUT):
                    # There are no readers yet, so a busy camera may stay busy.
                    self._supervisor.well(WorkerName.CAPTURE)
                continue
            source = self._open_unless_stopped(lambda: self._open_camera(settings))
            if source is not None:
                with closing(source):
                    self._read(source, on_demand)
            on_demand = True

    def _open_camera(self, settings: Settings) -> CameraSource:
        """Reopens the previous camera, even if its number has changed; another one only for a new call."""
        if self._same_camera is None or self._same_camera[0] != settings.source:
            return self._open(settings)
        try:
            return self._open(settings.but(source=self._same_camera[1]))
        except CameraNotFound:
            if not self._new_call:
                raise
        return self._open(settings)

    def _read(self, source: CameraSource, form_is_known: bool) -> None:
        """Reads until the stop, the end of the clip, or until no program reads any more."""
        self.name = source.description
        if not form_is_known:
            self._know_form(OutputFormat(source.size, source.rate))
            self._demand.note()
        else:
            self._same_camera = self._supervisor.settings.source, source.identity
        self._new_call = False
        self.camera = OpenCamera(source.size, source.rate)
        self._supervisor.well(WorkerName.CAPTURE)
        try:
            while self._supervisor.goes_on(WorkerName.CAPTURE) and self._demand.now:
                frame = source.read(PATIENCE_S)
                if frame is not None:
                    self.captured_at = self._clock()
                    self._deliver(frame)
        except EndOfClip:
            self._supervisor.stop()
        finally:
            self.camera = None

    def _know_form(self, form: OutputFormat) -> None:
        self._form = form
        self._form_known.set()

    def _open_unless_stopped(self, open_: Callable[[], CameraSource]) -> CameraSource | None:
        """Result of `open_`; None if the stop came first, because a driver may take seconds to open a camera."""
        opening = BackgroundOpen(open_)
        slow_at = self._clock() + SLOW_OPENING_S
        while self._supervisor.goes_on(WorkerName.CAPTURE):
            if opening.is_over(PATIENCE_S):
                return opening.result()
            if self._clock() > slow_at and self._supervisor.is_proven(WorkerName.CAPTURE):
                self._supervisor.trouble[WorkerName.CAPTURE] = DOES_NOT_OPEN
        opening.give_up()
        return None
