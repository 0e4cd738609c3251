"""Which way of running a model is the fastest on this machine: timed once, on the model itself, and remembered.

Until that is done the order of the table BACKENDS holds. What was timed is kept beside the built engines, under a key
of everything that could change it: the model's files, the ways that there are, the versions of their libraries, the
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

from engines.base import CacheUnusable, EngineError, EngineRunError, InferenceEngine, Precision
from engines.cache import EngineCache, Key
from engines.manifest import Model

WARM_UP, RUNS = 3, 30
#: Ways take turns, so that whatever else the machine does slows all of them alike.
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
class Way:
    """A backend on one of its devices, in a precision."""

    backend: str
    device: str
    precision: Precision

    def __str__(self) -> str:
        return f"{self.backend} on {self.device}, {self.precision}"


@dataclass(frozen=True, slots=True)
class Timed:
    """A way and its median time; `p50_ms` is None, and `reason` says why, where the model does not run in that way."""

    way: Way
    p50_ms: float | None
    reason: str = ""

    @property
    def rank_ms(self) -> float:
        """By which ways are compared: the time, a little longer for int8; infinite where it does not run."""
        if self.p50_ms is None:
            return float("inf")
        return self.p50_ms / (1 - INT8_GAIN) if self.way.precision == "int8" else self.p50_ms

    def __str__(self) -> str:
        return f"{self.way}: {f'{self.p50_ms:.1f} ms' if self.p50_ms else self.reason}"


def remembered(model: Model, ways: Sequence[Way]) -> list[Timed]:
    """What was timed of these ways, the best first; nothing where nothing was, or what it depends on changed."""
    cache, key = EngineCache(), _key(model, ways)
    try:
        told = json.loads(cache.path(key, SUFFIX).read_text(encoding="utf-8"))
        return [Timed(Way(**one["way"]), one["p50_ms"], one["reason"]) for one in told]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("the times of %s cannot be read: %s", model.name, error)
        return []


def measure(model: Model, ways: Sequence[Way], load: Callable[[Way], InferenceEngine]) -> list[Timed]:
    """Times `model` in each of `ways` now and remembers it; the best first. `load` raises EngineError."""
    failed: list[Timed] = []
    lasting = True
    with ExitStack() as stack:
        engines: dict[Way, InferenceEngine] = {}
        for way in ways:
            try:
                engines[way] = stack.enter_context(closing(load(way)))
            except EngineError as error:
                failed.append(Timed(way, None, error.message))
                lasting = lasting and not isinstance(error, EngineRunError)
        timed = [Timed(way, p50_ms) for way, p50_ms in _take_turns(engines).items()]
    found = sorted(timed, key=lambda one: one.rank_ms) + failed
    if timed and lasting:  # what ran out of memory today may run tomorrow
        _remember(model, ways, found)
    return found


def _take_turns(engines: dict[Way, InferenceEngine]) -> dict[Way, float]:
    rng = np.random.default_rng(0)
    times: dict[Way, list[float]] = {way: [] for way in engines}
    feeds = {
        way: {spec.name: rng.integers(0, 256, spec.shape).astype(spec.dtype) for spec in engine.inputs}
        for way, engine in engines.items()
    }
    for turn in range(RUNS // RUNS_IN_A_TURN):
        for way, engine in engines.items():
            if sum(times[way]) > ENOUGH_S:
                continue
            for run in range(RUNS_IN_A_TURN + (WARM_UP if turn == 0 else 0)):
                began = time.perf_counter()
                engine.run(feeds[way])
                if turn or run >= WARM_UP:
                    times[way].append(time.perf_counter() - began)
    return {way: round(float(np.median(seconds)) * 1e3, 3) for way, seconds in times.items()}


def _remember(model: Model, ways: Sequence[Way], found: Sequence[Timed]) -> None:
    cache, key = EngineCache(), _key(model, ways)
    try:
        with cache.locked(key):
            cache.write_beside(key, SUFFIX, json.dumps([asdict(one) for one in found], indent=1).encode())
    except CacheUnusable as error:
        _log.warning("the times of %s are not kept: %s", model.name, error.message)


def _key(model: Model, ways: Sequence[Way]) -> Key:
    facts = {
        "what": "times",
        "files": {precision: file.sha256 for precision, file in model.files.items()},
        "shapes": {name: list(shape) for name, shape in model.inputs.items()},
        "ways": sorted(str(way) for way in ways),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
        "machine": [platform.machine(), platform.processor(), platform.release(), os.cpu_count()],
    }
    return Key(model.name, facts)


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""
