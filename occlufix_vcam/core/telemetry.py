"""Measurements and logs: durations of stages, counts of events, rates.

Cheap enough for every frame: each stage has one ring of durations, allocated once, and statistics are computed only on
request. Every method may be called from any thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType

import numpy as np
from typing_extensions import TypedDict

from occlufix_vcam.core.errors import ConfigError

LOGGER_NAMES = ("occlufix_vcam", "engines")
LOG_BYTES = 1_000_000
LOG_BACKUPS = 3
RATE_WINDOW_S = 2.0


class StageFigures(TypedDict):
    """Percentiles over the newest spans; `count` is the total number of spans."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    count: int


class Telemetry:
    """Spans, counters and rates by name; a name exists from its first use on."""

    def __init__(self, window: int = 1024, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._clock = clock
        self._lock = threading.Lock()
        self._rings: dict[str, _Ring] = {}
        self._ticks: dict[str, _Ring] = {}
        self._counts: Counter[str] = Counter()

    def span(self, stage: str) -> Span:
        """Times a block, `with telemetry.span("find"): ...`, even if it raises."""
        return Span(self, stage)

    def record(self, stage: str, seconds: float) -> None:
        with self._lock:
            ring = self._rings.get(stage)
            if ring is None:
                ring = self._rings[stage] = _Ring(self._window)
            ring.add(seconds)

    def percentiles(self) -> dict[str, StageFigures]:
        """Statistics of every stage, in the order in which they first ended."""
        with self._lock:
            samples = {stage: (ring.values(), ring.added) for stage, ring in self._rings.items()}
        figures: dict[str, StageFigures] = {}
        for stage, (seconds, added) in samples.items():
            p50, p95, p99 = (float(ms) for ms in np.percentile(seconds, (50, 95, 99)) * 1e3)
            figures[stage] = {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "count": added}
        return figures

    def count(self, name: str, more: int = 1) -> None:
        with self._lock:
            self._counts[name] += more

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    def tick(self, name: str) -> None:
        """Counts one frame for `rate`."""
        now = self._clock()
        with self._lock:
            ring = self._ticks.get(name)
            if ring is None:
                ring = self._ticks[name] = _Ring(256)
            ring.add(now)

    def rate(self, name: str) -> float:
        """Ticks per second over the newest two seconds; 0 if there were none."""
        now = self._clock()
        with self._lock:
            ring = self._ticks.get(name)
            if ring is None:
                return 0.0
            times = ring.values()
        recent = times[times > now - RATE_WINDOW_S]
        if len(recent) < 2:
            return 0.0
        return float((len(recent) - 1) / max(recent.max() - recent.min(), 1e-9))

    def reset(self) -> None:
        """Forgets every measurement, as after a warm-up."""
        with self._lock:
            self._rings.clear()
            self._ticks.clear()
            self._counts.clear()


class Span:
    """One running measurement, started by `Telemetry.span`."""

    __slots__ = ("_stage", "_started", "_telemetry")

    def __init__(self, telemetry: Telemetry, stage: str) -> None:
        self._telemetry = telemetry
        self._stage = stage
        self._started = 0

    def __enter__(self) -> None:
        self._started = time.perf_counter_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._telemetry.record(self._stage, (time.perf_counter_ns() - self._started) * 1e-9)


class _Ring:
    """The newest `size` numbers, in no order."""

    __slots__ = ("_numbers", "added")

    def __init__(self, size: int) -> None:
        self._numbers = np.zeros(size, dtype=np.float64)
        self.added = 0

    def add(self, number: float) -> None:
        self._numbers[self.added % len(self._numbers)] = number
        self.added += 1

    def values(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return self._numbers[: self.added].copy()


class SaidOnce:
    """Logger for trouble that may recur with every frame: logged at once, then counted and logged every `every`
    seconds.
    """

    def __init__(
        self, logger: logging.Logger, every: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._every = every
        self._clock = clock
        self._lock = threading.Lock()
        self._said_at: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()

    def warning(self, message: str, *values: object) -> None:
        """Like `Logger.warning`; messages with the same text before formatting count as the same trouble."""
        now = self._clock()
        with self._lock:
            said_at = self._said_at.get(message)
            if said_at is not None and now - said_at < self._every:
                self._unsaid[message] += 1
                return
            self._said_at[message] = now
            unsaid = self._unsaid.pop(message, 0)
        if unsaid:
            self._logger.warning(message + " (and %d more times before)", *values, unsaid)
        else:
            self._logger.warning(message, *values)


def configure_logging(path: Path, level: str = "INFO") -> None:
    """Sends the logs of product and engines to `path`, which rotates. A second call replaces the first.

    Raises ConfigError if the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_BACKUPS, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"the log file {path} cannot be written: {error.strerror}", "choose another log file"
        ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s"))
    for name in LOGGER_NAMES:
        logger = logging.getLogger(name)
        logger.setLevel(level.upper())
        for old in [old for old in logger.handlers if isinstance(old, RotatingFileHandler)]:
            logger.removeHandler(old)
            old.close()
        logger.addHandler(handler)
