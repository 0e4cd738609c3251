"""From an ONNX file to numbers, on whatever the machine has: `load` a model, or `survey` the backends.

A new backend is one file in engines/backends/ and one line in the table there. Each name is imported when it is first
asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engines.autotune import CandidateTiming, EngineCandidate
    from engines.backends import BACKENDS
    from engines.base import EngineOptions, InferenceEngine, SkippedBackend, TensorSpec
    from engines.errors import (
        ContractMismatch,
        EngineBuildError,
        EngineError,
        EngineRunError,
        EngineUnavailable,
        ModelCorrupt,
        ModelError,
        ModelMissing,
    )
    from engines.loader import BackendReport, load, measure, survey, timed

__all__ = [
    "BACKENDS",
    "BackendReport",
    "CandidateTiming",
    "ContractMismatch",
    "EngineBuildError",
    "EngineCandidate",
    "EngineError",
    "EngineOptions",
    "EngineRunError",
    "EngineUnavailable",
    "InferenceEngine",
    "ModelCorrupt",
    "ModelError",
    "ModelMissing",
    "SkippedBackend",
    "TensorSpec",
    "load",
    "measure",
    "survey",
    "timed",
]

_HOMES = {
    "BACKENDS": "engines.backends",
    "EngineOptions": "engines.base",
    "InferenceEngine": "engines.base",
    "SkippedBackend": "engines.base",
    "TensorSpec": "engines.base",
    "CandidateTiming": "engines.autotune",
    "EngineCandidate": "engines.autotune",
    "ContractMismatch": "engines.errors",
    "EngineBuildError": "engines.errors",
    "EngineError": "engines.errors",
    "EngineRunError": "engines.errors",
    "EngineUnavailable": "engines.errors",
    "ModelCorrupt": "engines.errors",
    "ModelError": "engines.errors",
    "ModelMissing": "engines.errors",
    "BackendReport": "engines.loader",
    "load": "engines.loader",
    "measure": "engines.loader",
    "survey": "engines.loader",
    "timed": "engines.loader",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
