"""Keeps workers going until the stop, and makes them open anew what a change of settings concerns.

A worker opens what it uses, uses it as long as it `goes_on`, and closes it, in its own thread. What goes wrong and can
mend itself is tried again with growing pauses; anything else stops all of them.

A setting that a worker can't take as it goes makes that worker close what it has and open it anew, while the others go
on. Where that fails the settings are put back, and the worker opens what it had.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field

from engines.errors import EngineError
from occlufix_vcam.core.errors import ConfigError, OccluFixError, Trouble, trouble_of
from occlufix_vcam.core.settings import CAMERA_SETTINGS, LIVE_SETTINGS, SINK_SETTINGS, START_SETTINGS, Settings

log = logging.getLogger(__name__)

PATIENCE_S = 0.2  # no call blocks longer without looking at the stop
JOIN_S = 2.0
FIRST_PAUSE_S, LONGEST_PAUSE_S, HEALTHY_AFTER_S = 0.5, 5.0, 10.0
LONGEST_CAMERA_PAUSE_S = 1.0  # to look whether it is plugged in again costs little
SWITCH_S = 10.0  # for which a change of camera, sinks or pipeline is waited for


class NeedsRestart(ConfigError):
    """The setting is valid, and a running daemon cannot change it."""


class SwitchFailed(ConfigError):
    """What the new settings name could not be opened; the old ones hold again."""


class Supervisor:
    """Workers by name, and the settings that they go by. Every method may be called from any thread."""

    def __init__(
        self, settings: Settings, clock: Callable[[], float], at_stop: Sequence[Callable[[], None]] = ()
    ) -> None:
        self.settings = settings
        #: What is wrong now, by worker.
        self.trouble: dict[str, Trouble] = {}
        self.stopped = threading.Event()
        self._clock = clock
        self._at_stop = at_stop
        self._changing = threading.Lock()
        self._switching = threading.Lock()  # held for as long as a switch takes; `toggle` never waits for it
        self._switches: dict[str, _Switch] = {}
        self._opening: dict[str, _Switch | None] = {}
        self._proven: set[str] = set()
        self._working = False
        self._fatal: Exception | None = None

    @contextmanager
    def working(self, workers: Mapping[str, Callable[[], None]]) -> Iterator[None]:
        """They work while the block lasts, or until something stops them, which is raised if that was an error."""
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
                    log.error("%s does not end: only leaving the process ends it", thread.name)
            self._working = False
        if self._fatal is not None:
            raise self._fatal

    def stop(self) -> None:
        self.stopped.set()
        for call in self._at_stop:
            call()

    # ---- for the workers ----

    def goes_on(self, name: str) -> bool:
        """Whether a worker keeps what it has open."""
        return not self.stopped.is_set() and name not in self._switches

    def well(self, name: str) -> None:
        """What the worker opened works."""
        self._proven.add(name)
        self.trouble.pop(name, None)
        switch = self._opening[name]
        if switch is not None:
            switch.done.set()

    def is_proven(self, name: str) -> bool:
        """Whether the worker has ever been well."""
        return name in self._proven

    def is_asked_anew(self, name: str) -> bool:
        """Whether the worker opens something for the first time, or because the settings changed."""
        return not self.is_proven(name) or self._opening[name] is not None

    # ---- settings ----

    def toggle(self, enabled: bool | None) -> bool:
        with self._changing:
            now = not self.settings.enabled if enabled is None else enabled
            self.settings = self.settings.but(enabled=now)
        return now

    def update(self, changes: Mapping[str, object]) -> None:
        """See `Daemon.update`."""
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

    def open_anew(self, name: str) -> None:
        """Makes the worker open what it has once more; a change of settings that is under way does the same."""
        self._switches.setdefault(name, _Switch(frozenset(), {}))

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
            while not switch.done.wait(PATIENCE_S) and self._clock() < ends_at and not self.stopped.is_set():
                pass
        for switch in switches:
            if switch.error is not None:
                hint = getattr(switch.error, "hint", "") or "`occlufix-vcam doctor` and the log say more"
                raise SwitchFailed(getattr(switch.error, "message", repr(switch.error)), hint) from switch.error

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

    # ---- errors ----

    def _keep(self, name: str, work: Callable[[], None]) -> None:
        """Runs a worker until the stop, again after what can mend itself; anything else stops all of them."""
        for pause in self._pauses(LONGEST_CAMERA_PAUSE_S if name == "capture" else LONGEST_PAUSE_S):
            switch = self._opening[name] = self._switches.pop(name, None)
            try:
                work()
                if self.stopped.is_set():
                    return
                continue
            except Exception as error:  # noqa: BLE001  the worker's boundary: it goes on, or says why the daemon ends
                if switch is not None and not switch.done.is_set():
                    self._put_back(name, switch, error)
                    continue
                if not self._can_mend(name, error):
                    self._fatal = self._fatal or error
                    self.stop()
                    return
            self._rest(name, pause)
            if self.stopped.is_set():
                return

    def _can_mend(self, name: str, error: Exception) -> bool:
        """Whether trying again is worth while; says in status and picture what happened where it is."""
        if not isinstance(error, (OccluFixError, EngineError)):
            log.error("%s failed", name, exc_info=error)
            return False
        log.warning("%s: %s", name, error.message)
        if name not in self._proven or isinstance(error, ConfigError) or self.stopped.is_set():
            return False
        self.trouble[name] = trouble_of(error)
        return True

    def _rest(self, name: str, pause: float) -> None:
        ends_at = self._clock() + pause
        while self.goes_on(name) and (left := ends_at - self._clock()) > 0:
            self.stopped.wait(min(left, PATIENCE_S))

    def _pauses(self, longest: float) -> Iterator[float]:
        """Growing pauses between attempts; the first one again after a healthy time."""
        pause = FIRST_PAUSE_S
        while True:
            began = self._clock()
            yield pause
            healthy = self._clock() - began > HEALTHY_AFTER_S
            pause = FIRST_PAUSE_S if healthy else min(2 * pause, longest)


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
