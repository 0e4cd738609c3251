"""Picks the fastest backend, device and precision for a model: timed once on the model itself, then cached.

Until then, the order of the table BACKENDS decides. Times are stored beside the built engines, under a key of
everything that could change them: the model's files, the candidates, the versions of their libraries, the processor.
Timing takes seconds and every core, so it never happens while a model is loaded.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import numpy as np

from engines.base import InferenceEngine, Precision
from engines.cache import CacheKey, EngineCache
from engines.errors import CacheUnusable, EngineError, EngineRunError
from engines.manifest import Model

WARM_UP, RUNS = 3, 30
#: Candidates take turns, so that other load on the machine slows all of them alike.
RUNS_IN_A_TURN = 3
#: A candidate that is far too slow is not timed to the end.
ENOUGH_S = 4.0
SUFFIX = ".times"
#: int8 is less exact, so it is picked only if it is faster by more than this share.
INT8_GAIN = 0.1
LIBRARIES = (
    "openvino",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-ep-nv-tensorrt-rtx",
    "tensorrt-rtx",
    "tensorrt",
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineCandidate:
    """A backend on one device in one precision."""

    backend: str
    device: str
    precision: Precision

    def __str__(self) -> str:
        return f"{self.backend} on {self.device}, {self.precision}"


@dataclass(frozen=True, slots=True)
class CandidateTiming:
    """A candidate and its median time. `p50_ms` is None if the model does not run on it; `reason` then says why."""

    candidate: EngineCandidate
    p50_ms: float | None
    reason: str = ""

    @property
    def rank_ms(self) -> float:
        """Sort key of candidates: their time, with a handicap for int8; infinite if the model does not run."""
        if self.p50_ms is None:
            return float("inf")
        return self.p50_ms / (1 - INT8_GAIN) if self.candidate.precision == "int8" else self.p50_ms

    def __str__(self) -> str:
        return f"{self.candidate}: {f'{self.p50_ms:.1f} ms' if self.p50_ms else self.reason}"


def remembered(model: Model, candidates: Sequence[EngineCandidate]) -> list[CandidateTiming]:
    """Cached times of these candidates, fastest first; empty if there are none or if their inputs changed."""
    cache, key = EngineCache(), _key(model, candidates)
    try:
        told = json.loads(cache.read_beside(key, SUFFIX))
        return [_checked(one, candidates) for one in told]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        _log.warning("cannot read the times of %s: %s", model.name, error)
        return []


def _checked(one: dict[str, Any], candidates: Sequence[EngineCandidate]) -> CandidateTiming:
    """Cached time as it was stored. Raises ValueError, KeyError, TypeError if it is not one of these candidates'."""
    timing = CandidateTiming(EngineCandidate(**one["candidate"]), one["p50_ms"], str(one["reason"]))
    if timing.candidate not in candidates:
        raise ValueError(f"{timing.candidate} is no candidate")
    if timing.p50_ms is not None and not 0 < float(timing.p50_ms) < float("inf"):
        raise ValueError(f"{timing.p50_ms} ms is no time")
    return timing


def measure(
    model: Model, candidates: Sequence[EngineCandidate], load: Callable[[EngineCandidate], InferenceEngine]
) -> list[CandidateTiming]:
    """Times `model` in each of `candidates`, caches the times and returns them, fastest first. `load` raises
    EngineError.
    """
    failed: list[CandidateTiming] = []
    lasting = True
    with ExitStack() as stack:
        engines: dict[EngineCandidate, InferenceEngine] = {}
        for candidate in candidates:
            try:
                engines[candidate] = stack.enter_context(closing(load(candidate)))
            except EngineError as error:
                failed.append(CandidateTiming(candidate, None, error.message))
                lasting = lasting and not isinstance(error, EngineRunError)
        timed = [CandidateTiming(candidate, p50_ms) for candidate, p50_ms in _take_turns(engines).items()]
    found = sorted(timed, key=lambda one: one.rank_ms) + failed
    if timed and lasting:  # running out of memory today does not mean it will tomorrow
        _remember(model, candidates, found)
    return found


def _take_turns(engines: dict[EngineCandidate, InferenceEngine]) -> dict[EngineCandidate, float]:
    rng = np.random.default_rng(0)
    times: dict[EngineCandidate, list[float]] = {candidate: [] for candidate in engines}
    feeds = {
        candidate: {spec.name: rng.integers(0, 256, spec.shape).astype(spec.dtype) for spec in engine.inputs}
        for candidate, engine in engines.items()
    }
    for turn in range(RUNS // RUNS_IN_A_TURN):
        for candidate, engine in engines.items():
            if sum(times[candidate]) > ENOUGH_S:
                continue
            for run in range(RUNS_IN_A_TURN + (WARM_UP if turn == 0 else 0)):
                began = time.perf_counter()
                engine.run(feeds[candidate])
                if turn or run >= WARM_UP:
                    times[candidate].append(time.perf_counter() - began)
    return {candidate: round(float(np.median(seconds)) * 1e3, 3) for candidate, seconds in times.items()}


def _remember(model: Model, candidates: Sequence[EngineCandidate], found: Sequence[CandidateTiming]) -> None:
    cache, key = EngineCache(), _key(model, candidates)
    try:
        with cache.locked(key):
            cache.write_beside(key, SUFFIX, json.dumps([asdict(one) for one in found], indent=1).encode())
    except CacheUnusable as error:
        _log.warning("cannot store the times of %s: %s", model.name, error.message)


def _key(model: Model, candidates: Sequence[EngineCandidate]) -> CacheKey:
    facts = {
        "what": "times",
        "files": {precision: file.sha256 for precision, file in model.files.items()},
        "shapes": {name: list(shape) for name, shape in model.inputs.items()},
        "candidates": sorted(str(candidate) for candidate in candidates),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
        "machine": [platform.machine(), platform.processor(), platform.release(), os.cpu_count()],
    }
    return CacheKey(model.name, facts)


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""
