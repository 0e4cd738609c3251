"""Engine builds that a client requested: one at a time, in a thread of their own, with the result of each."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from typing_extensions import TypedDict

from engines.contract import MODEL_NAMES
from engines.errors import EngineError
from occlufix_vcam.core.errors import ConfigError, OccluFixError
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.offline.build_engine import Tell, build_engines
from occlufix_vcam.offline.engine_check import EngineCheck

log = logging.getLogger(__name__)

Build = Callable[[Sequence[str], Settings, Tell], Iterator[EngineCheck]]


class BuildStatus(TypedDict):
    """`made` are the engines that are done, in order; `error` and `hint` say why the last build ended early, `code` is
    that of an error.

    `doing` says what is under way, `share` how much of all of it is done: 0..1.
    """

    running: bool
    doing: str
    share: float
    models: list[str]
    made: list[dict[str, Any]]
    error: str
    hint: str
    code: str


class BuildUnderWay(ConfigError):
    """Only one build at a time."""

    def __init__(self) -> None:
        super().__init__("engines are already being built", "wait until the build is done", code="build_under_way")


class Builds:
    """Starts builds and knows how far the last one is. Safe for many threads."""

    def __init__(
        self, build: Build = lambda models, settings, tell: build_engines(models, None, settings, tell=tell)
    ) -> None:
        self._build = build
        self._lock = threading.Lock()
        self._status = _status([])

    def status(self) -> BuildStatus:
        with self._lock:
            return BuildStatus(**{**self._status, "made": list(self._status["made"])})

    def start(self, models: Sequence[str], settings: Settings) -> BuildStatus:
        """Raises BuildUnderWay, and ConfigError for a model that there is not."""
        if unknown := [model for model in models if model not in MODEL_NAMES]:
            raise ConfigError(f"there is no model `{unknown[0]}`", f"there are: {', '.join(MODEL_NAMES)}")
        models = list(models or MODEL_NAMES)
        with self._lock:
            if self._status["running"]:
                raise BuildUnderWay
            self._status = _status(models, running=True)
        # A daemon thread: a compiler can't be interrupted, and the product does not wait for it to end.
        threading.Thread(target=self._run, args=(models, settings), name="build", daemon=True).start()
        return self.status()

    def _tell(self, what: str, share: float) -> None:
        with self._lock:
            self._status["doing"], self._status["share"] = what, round(share, 3)

    def _run(self, models: Sequence[str], settings: Settings) -> None:
        try:
            for check in self._build(models, settings, self._tell):
                with self._lock:
                    self._status["made"].append(asdict(check))
            self._end()
        except (OccluFixError, EngineError) as failure:
            log.warning("a build failed: %s", failure.message)
            self._end(failure.message, failure.hint, code="build_failed")
        except Exception as failure:  # the thread's boundary: the client is told
            log.error("a build failed", exc_info=failure)
            self._end(repr(failure), "read the log for details", code="build_failed")

    def _end(self, error: str = "", hint: str = "", code: str = "") -> None:
        with self._lock:
            self._status.update({"running": False, "error": error, "hint": hint, "code": code})


def _status(models: list[str], running: bool = False) -> BuildStatus:
    return BuildStatus(running=running, doing="", share=0.0, models=models, made=[], error="", hint="", code="")
