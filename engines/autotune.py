"""Which backend, device and precision run a model fastest here: timed once, on the model itself, and remembered.

Until that is done the order of the table BACKENDS holds. What was timed is kept beside the built engines, under a key
of everything that could change it: the model's files, the candidates, the versions of their libraries, the
processor. Timing takes seconds and both cores, so it never happens while a model is loaded.
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

import numpy as np

from engines.base import InferenceEngine, Precision
from engines.cache import CacheKey, EngineCache
from engines.errors import CacheUnusable, EngineError, EngineRunError
from engines.manifest import Model

WARM_UP, RUNS = 3, 30
#: Candidates take turns, so that whatever else the machine does slows all of them alike.
RUNS_IN_A_TURN = 3
#: One that is hopelessly slow is not run to the end.
ENOUGH_S = 4.0
SUFFIX = ".times"
#: int8 says less exactly what the network says, so it is taken where it is faster by more than this share.
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
    """A backend on one of its devices, in a precision."""

    backend: str
    device: str
    precision: Precision

    def __str__(self) -> str:
        return f"{self.backend} on {self.device}, {self.precision}"


@dataclass(frozen=True, slots=True)
class CandidateTiming:
    """A candidate and its median time; `p50_ms` is None, and `reason` says why, where the model does not run on it."""

    candidate: EngineCandidate
    p50_ms: float | None
    reason: str = ""

    @property
    def rank_ms(self) -> float:
        """The sort key of candidates: the time, a little longer for int8; infinite where it does not run."""
        if self.p50_ms is None:
            return float("inf")
        return self.p50_ms / (1 - INT8_GAIN) if self.candidate.precision == "int8" else self.p50_ms

    def __str__(self) -> str:
        return f"{self.candidate}: {f'{self.p50_ms:.1f} ms' if self.p50_ms else self.reason}"


def remembered(model: Model, candidates: Sequence[EngineCandidate]) -> list[CandidateTiming]:
    """What was timed of these candidates, the best first; nothing where nothing was, or what it depends on changed."""
    cache, key = EngineCache(), _key(model, candidates)
    try:
        told = json.loads(cache.path(key, SUFFIX).read_text(encoding="utf-8"))
        return [CandidateTiming(EngineCandidate(**one["candidate"]), one["p50_ms"], one["reason"]) for one in told]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("the times of %s cannot be read: %s", model.name, error)
        return []


def measure(
    model: Model, candidates: Sequence[EngineCandidate], load: Callable[[EngineCandidate], InferenceEngine]
) -> list[CandidateTiming]:
    """Times `model` in each of `candidates` now and remembers it; the best first. `load` raises EngineError."""
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
    if timed and lasting:  # what ran out of memory today may run tomorrow
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
        _log.warning("the times of %s are not kept: %s", model.name, error.message)


def _key(model: Model, candidates: Sequence[EngineCandidate]) -> CacheKey:
    facts = {
        "what": "times",
        "files": {precision: file.sha256 for precision, file in model.files.items()},
        "shapes": {name: list(shape) for name, shape in model.inputs.items()},
        "ways": sorted(str(candidate) for candidate in candidates),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
        "machine": [platform.machine(), platform.processor(), platform.release(), os.cpu_count()],
    }
    return CacheKey(model.name, facts)


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""
