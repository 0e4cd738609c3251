"""Keeps workers running until the stop, and makes them reopen what a change of settings affects.

A worker opens its resources, uses them while `goes_on`, and closes them, in its own thread. Failures that may pass are
retried with growing pauses; any other failure stops all workers.

A setting that a worker cannot apply at once makes it close and reopen its resources while the others continue. If that
fails, the old settings return, and the worker reopens what it had. A change that takes longer than SWITCH_S is pending:
it is saved once it holds, and if it fails, `status` says why.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import NoReturn

from engines.errors import EngineError
from occlufix_vcam.core.errors import ConfigError, OccluFixError, Trouble, trouble_of
from occlufix_vcam.core.settings import Reopens, Settings, reopened_by, settings_that_reopen
from occlufix_vcam.core.status import WorkerName
from occlufix_vcam.runtime.settings_change import SettingsChange

log = logging.getLogger(__name__)

PATIENCE_S = 0.2  # no call blocks longer without checking for the stop
JOIN_S = 2.0
FIRST_PAUSE_S, LONGEST_PAUSE_S, HEALTHY_AFTER_S = 0.5, 5.0, 10.0
LONGEST_CAMERA_PAUSE_S = 1.0  # checking whether a camera is connected again costs little
SWITCH_S = 10.0  # longest wait for a change of camera, sinks or pipeline


class NeedsRestart(ConfigError):
    """The setting is valid, but a running daemon cannot change it."""


class SwitchFailed(ConfigError):
    """What the new settings name could not be opened; the old ones hold again."""


class Replaced(SwitchFailed):
    """A later change affects the same workers."""


class Supervisor:
    """Workers by name, and their settings. Every method may be called from any thread."""

    def __init__(
        self, settings: Settings, clock: Callable[[], float], at_stop: Sequence[Callable[[], None]] = ()
    ) -> None:
        self.settings = settings
        #: Current trouble by worker.
        self.trouble: dict[WorkerName, Trouble] = {}
        #: Why the last change of settings does not hold, if its requester was only told that it is pending.
        self.refused: Trouble | None = None
        self.stopped = threading.Event()
        self._clock = clock
        self._at_stop = at_stop
        self._changing = threading.Lock()
        self._switching = threading.Lock()  # held for the duration of a change; `toggle` never waits for it
        self._switches: dict[WorkerName, SettingsChange] = {}
        self._opening: dict[WorkerName, SettingsChange | None] = {}
        self._pending: list[SettingsChange] = []
        self._proven: set[WorkerName] = set()
        self._working = False
        self._fatal: Exception | None = None

    @contextmanager
    def working(self, workers: Mapping[WorkerName, Callable[[], None]]) -> Iterator[None]:
        """Runs the workers during the block, or until something stops them, which is raised if it was an error."""
        threads = [threading.Thread(target=self._keep, args=item, name=item[0]) for item in workers.items()]
        self._working = True
        try:
            for thread in threads:
                thread.start()
            yield
        finally:
            self.stop()
            for thread in reversed(threads):
                thread.join(JOIN_S)
                if thread.is_alive():
                    log.error("%s does not stop: only exiting the process stops it", thread.name)
            self._working = False
        if self._fatal is not None:
            raise self._fatal

    def stop(self) -> None:
        self.stopped.set()
        for call in self._at_stop:
            call()

    # ---- for the workers ----

    def goes_on(self, name: WorkerName) -> bool:
        """Whether a worker keeps its resources open."""
        return not self.stopped.is_set() and name not in self._switches

    def well(self, name: WorkerName) -> None:
        """Reports that the worker's resources work."""
        self._proven.add(name)
        self.trouble.pop(name, None)
        change = self._opening[name]
        if change is not None:
            change.opened(name)

    def is_proven(self, name: WorkerName) -> bool:
        """Whether the worker has ever succeeded."""
        return name in self._proven

    def is_asked_anew(self, name: WorkerName) -> bool:
        """Whether the worker opens for the first time, or because of changed settings."""
        return not self.is_proven(name) or self._opening[name] is not None

    # ---- settings ----

    def toggle(self, enabled: bool | None) -> bool:
        with self._changing:
            now = not self.settings.enabled if enabled is None else enabled
            self.settings = self.settings.but(enabled=now)
        return now

    def update(self, changes: Mapping[str, object], save: Callable[[], object] = lambda: None) -> bool:
        """See `Daemon.update`."""
        self.settings.but(**changes)
        fixed = sorted(set(changes) & settings_that_reopen(Reopens.RESTART))
        if fixed := [key for key in fixed if self._differs(key, changes)]:
            raise NeedsRestart(
                f"{', '.join(fixed)} cannot change during a run",
                "use `occlufix-vcam config set`, then restart",
                code="needs_restart",
                settings=", ".join(fixed),
            )
        if not self._switching.acquire(timeout=SWITCH_S):
            raise SwitchFailed("another change is still in progress", "try again in a moment", code="change_under_way")
        try:
            change = self._begin(changes, save)
            ends_at = self._clock() + SWITCH_S
            while not change.settled.wait(PATIENCE_S) and self._clock() < ends_at and not self.stopped.is_set():
                pass
        finally:
            self._switching.release()
        if change.settled.is_set() and change.error is not None:
            self.refused = None  # the requester is told here
            _raise_as_refused(change.error)
        return change.settled.is_set()

    def open_anew(self, name: WorkerName) -> None:
        """Makes the worker reopen its resources; a change in progress does the same."""
        self._switches.setdefault(name, SettingsChange(frozenset(), {}))

    def _differs(self, key: str, changes: Mapping[str, object]) -> bool:
        return bool(getattr(self.settings.but(**changes), key) != getattr(self.settings, key))

    def _begin(self, changes: Mapping[str, object], save: Callable[[], object]) -> SettingsChange:
        """Sets the settings and makes the affected workers reopen.

        A pending change that affects one of these workers is replaced: if the new one fails, the settings before both
        return.
        """
        with self._changing:
            old = self.settings
            self.settings = old.but(**changes)
            before = {key: getattr(old, key) for key in changes if getattr(old, key) != getattr(self.settings, key)}
            workers = _workers_of(before.keys()) if self._working else frozenset()
            replaced = [one for one in self._pending if one.workers & workers and not one.settled.is_set()]
            for one in replaced:
                before |= one.before
            change = SettingsChange(workers, before, self._ended(save))
            self._pending = [one for one in [*self._pending, change] if not one.settled.is_set()]
            self._switches.update(dict.fromkeys(workers, change))
        for one in replaced:
            one.failed(Replaced("a later change replaced it", code="change_replaced"))
        return change

    def _ended(self, save: Callable[[], object]) -> Callable[[Exception | None], None]:
        """Follow-up of a change: it is saved once it holds; otherwise `status` keeps the reason."""

        def ended(error: Exception | None) -> None:
            try:
                if error is not None:
                    raise error
                save()
                self.refused = None
            except Exception as problem:
                if not isinstance(problem, Replaced):
                    self.refused = trouble_of(problem)
                raise

        return ended

    def _put_back(self, name: WorkerName, change: SettingsChange, error: Exception) -> None:
        """Restores the old settings; the change's other workers reopen what they had."""
        log.warning("%s: a change of settings is reverted: %s", name, error)
        with self._changing:
            self.settings = self.settings.but(**change.before)
            for other in change.workers - {name}:
                self._switches[other] = SettingsChange(frozenset(), {})
        change.failed(error)

    # ---- errors ----

    def _keep(self, name: WorkerName, work: Callable[[], None]) -> None:
        """Runs a worker until the stop, retrying failures that may pass; any other failure stops all workers."""
        for pause in self._pauses(LONGEST_CAMERA_PAUSE_S if name is WorkerName.CAPTURE else LONGEST_PAUSE_S):
            change = self._opening[name] = self._switches.pop(name, None)
            try:
                work()
                if self.stopped.is_set():
                    return
                continue
            except Exception as error:  # noqa: BLE001  the worker continues, or reports why the daemon ends
                if change is not None and not change.settled.is_set():
                    self._put_back(name, change, error)
                    continue
                if not self._can_mend(name, error):
                    self._fatal = self._fatal or error
                    self.stop()
                    return
            self._rest(name, pause)
            if self.stopped.is_set():
                return

    def _can_mend(self, name: WorkerName, error: Exception) -> bool:
        """Whether a retry makes sense; if so, reports the failure in status and placeholder."""
        if not isinstance(error, (OccluFixError, EngineError)):
            log.error("%s failed", name, exc_info=error)
            return False
        log.warning("%s: %s", name, error.message)
        if name not in self._proven or isinstance(error, ConfigError) or self.stopped.is_set():
            return False
        self.trouble[name] = trouble_of(error)
        return True

    def _rest(self, name: WorkerName, pause: float) -> None:
        ends_at = self._clock() + pause
        while self.goes_on(name) and (left := ends_at - self._clock()) > 0:
            self.stopped.wait(min(left, PATIENCE_S))

    def _pauses(self, longest: float) -> Iterator[float]:
        """Growing pauses between attempts, reset after a healthy period."""
        pause = FIRST_PAUSE_S
        while True:
            began = self._clock()
            yield pause
            healthy = self._clock() - began > HEALTHY_AFTER_S
            pause = FIRST_PAUSE_S if healthy else min(2 * pause, longest)


def _raise_as_refused(error: Exception) -> NoReturn:
    """Raises what stopped a change, for its requester."""
    if isinstance(error, ConfigError):
        raise error
    why = trouble_of(error)
    hint = why.hint or "run `occlufix-vcam doctor` and read the log"
    raise SwitchFailed(getattr(error, "message", repr(error)), hint, why.code, **why.values) from error


def _workers_of(changed: Set[str]) -> frozenset[WorkerName]:
    """Workers that have to reopen something."""
    workers = {
        Reopens.CAMERA: WorkerName.CAPTURE,
        Reopens.SINKS: WorkerName.OUTPUT,
        Reopens.PIPELINE: WorkerName.PROCESS,
    }
    return frozenset(workers[part] for key in changed if (part := reopened_by(key)) in workers)
