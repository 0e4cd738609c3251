"""A change of settings during a run: what it replaces, which workers still reopen, and how it ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from occlufix_vcam.core.status import WorkerName


class SettingsChange:
    """Settles once: it holds when every affected worker has reopened, or fails with the first error.

    `before` are the settings that return after a failure. `then` runs once, in the thread that settles it, with the
    error or None. Every method may be called from any thread.
    """

    def __init__(
        self,
        workers: frozenset[WorkerName],
        before: Mapping[str, object],
        then: Callable[[Exception | None], None] = lambda error: None,
    ) -> None:
        self.workers = workers
        self.before = before
        self.error: Exception | None = None
        self.settled = threading.Event()
        self._waiting = set(workers)
        self._then = then
        self._lock = threading.Lock()
        if not workers:
            self._settle(None)

    def opened(self, worker: WorkerName) -> None:
        """A worker runs with the new settings."""
        with self._lock:
            self._waiting.discard(worker)
            is_last = not self._waiting and not self.settled.is_set()
        if is_last:
            self._settle(None)

    def failed(self, error: Exception) -> None:
        """A worker could not open what the new settings name, or a later change replaced this one."""
        if not self.settled.is_set():
            self._settle(error)

    def _settle(self, error: Exception | None) -> None:
        self.error = error
        try:
            self._then(error)
        except Exception as problem:  # noqa: BLE001  a failed follow-up must not end a worker; the requester is told
            self.error = problem
        self.settled.set()
