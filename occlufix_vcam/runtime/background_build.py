"""Builds engines in the background while the pipeline runs on the next best backend.

It builds engines that are skipped only because they are not built yet; then the pipeline reopens. Each is tried once
per run of the product, so that a build that fails, or does not load, does not keep the machine busy.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from engines.errors import EngineError
from occlufix_vcam.inference import Build

log = logging.getLogger(__name__)

JOIN_S = 2.0


class BackgroundBuild:
    """Background builds. Safe for any thread; `on_built` is called in the build thread, after the last of several
    builds.
    """

    def __init__(self, on_built: Callable[[], None]) -> None:
        self._on_built = on_built
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._tried: set[str] = set()
        self._shares: dict[str, float] = {}
        self._failures: dict[str, str] = {}
        self._built: set[str] = set()
        self._thread: threading.Thread | None = None
        self._waiting: dict[str, Build] = {}

    def build(self, wanted: Mapping[str, Build]) -> None:
        """Starts the builds that were not tried before, by name, and returns at once."""
        with self._lock:
            for name in self._built & wanted.keys():
                self._failures[name] = "it was built but does not load; the log has the reason"
            fresh = {name: build for name, build in wanted.items() if name not in self._tried}
            if not fresh or self._stop.is_set():
                return
            self._tried |= fresh.keys()
            self._waiting |= fresh
            self._shares |= dict.fromkeys(fresh, 0.0)
            if self._thread is None:
                # A daemon thread: a compiler may not check whether to stop, and exit does not wait for it.
                self._thread = threading.Thread(target=self._work, name="building", daemon=True)
                self._thread.start()

    def shares(self) -> dict[str, float]:
        """Engines being built, and the share of each that is done: 0..1."""
        with self._lock:
            return {name: round(share, 2) for name, share in self._shares.items()}

    def tell(self, name: str) -> str:
        """Why an unbuilt engine is missing; "" if nothing is known about it."""
        with self._lock:
            if name in self._shares:
                return f"its engine is being built, {round(100 * self._shares[name])} % done"
            if name in self._failures:
                return f"no engine for it: {self._failures[name]}"
            return "its engine is built and will be used next" if name in self._built else ""

    def stop(self) -> None:
        """Cancels the build in progress."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join(JOIN_S)

    def _work(self) -> None:
        built = False
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    break
                name = next(iter(self._waiting))
                build = self._waiting.pop(name)
            built = self._try(name, build) or built
        if built and not self._stop.is_set():
            self._on_built()

    def _try(self, name: str, build: Build) -> bool:
        failure = ""
        try:
            build(lambda share: self._note(name, share))
        except EngineError as error:
            failure = error.message
        except Exception as error:  # boundary of the thread: the product continues without that engine
            log.error("building the engine for %s failed", name, exc_info=error)
            failure = repr(error)
        with self._lock:
            self._shares.pop(name)
            if failure:
                self._failures[name] = failure
            else:
                self._built.add(name)
        if failure and not self._stop.is_set():
            log.warning("%s: its engine could not be built: %s", name, failure)
        return not failure

    def _note(self, name: str, share: float) -> bool:
        """Notes the share that is done; returns whether to continue."""
        with self._lock:
            self._shares[name] = share
        return not self._stop.is_set()
