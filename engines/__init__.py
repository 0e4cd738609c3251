"""From an ONNX file to numbers, on whatever the machine has: `load` a model, or `survey` the backends.

A new backend is one file here and one line in BACKENDS.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from engines.base import (
    ContractMismatch,
    EngineBuildError,
    EngineError,
    EngineNotBuilt,
    EngineOptions,
    EngineRunError,
    EngineUnavailable,
    InferenceEngine,
    ModelCorrupt,
    ModelError,
    ModelMissing,
    Refusal,
    TensorSpec,
)
from engines.manifest import Model, find_model

__all__ = [
    "BACKENDS",
    "BackendReport",
    "ContractMismatch",
    "EngineBuildError",
    "EngineError",
    "EngineOptions",
    "EngineRunError",
    "EngineUnavailable",
    "InferenceEngine",
    "ModelCorrupt",
    "ModelError",
    "ModelMissing",
    "Refusal",
    "TensorSpec",
    "load",
    "survey",
]

#: Best first among equals. "auto" tries the accelerators of all of them, then the processor; never the fake.
BACKENDS = {
    "tensorrt": "engines.tensorrt:TensorRtEngine",
    "openvino": "engines.openvino:OpenVinoEngine",
    "onnxruntime": "engines.onnxruntime:OnnxRuntimeEngine",
    "fake": "engines.fake:FakeEngine",
}

_DEFAULTS = EngineOptions()
_log = logging.getLogger(__name__)


class Backend(Protocol):
    """What BACKENDS names: a class of engines."""

    @staticmethod
    def devices() -> Sequence[str]:
        """The devices that it can use here, best first; "CPU" is the processor. Raises EngineUnavailable."""

    def __call__(self, model: Model, device: str, options: EngineOptions) -> InferenceEngine:
        """Reads, compiles and warms. Raises EngineError."""


@dataclass(frozen=True, slots=True)
class BackendReport:
    """Whether a backend is there; `device` is the best that it has, `reason` says why it has none."""

    name: str
    available: bool
    device: str
    reason: str


def load(model: str | Path | Model, options: EngineOptions = _DEFAULTS) -> InferenceEngine:
    """The model, ready to run on the best backend that takes it; `passed_over` tells of those that did not.

    `model` is one of MODEL_NAMES, the path of an ONNX file, or what `find_model` gave. Raises ModelError where the
    model is at fault, EngineUnavailable, EngineBuildError or EngineRunError where no backend takes it.
    """
    found = find_model(model)
    candidates, failures = _rank(options.backend)
    for name, device in candidates:
        try:
            engine = _backend(name)(found, device, options)
        except (EngineUnavailable, EngineBuildError, EngineRunError) as error:
            _log.info("%s on %s passed over: %s", name, device, error.message)
            failures.append((name, error))
            continue
        _check_doors(engine, found, options)
        engine.passed_over = tuple(_refusal(name, error) for name, error in failures)
        return engine
    if len(failures) == 1:
        raise failures[0][1]
    reasons = "; ".join(f"{name}: {error.message}" for name, error in failures)
    raise EngineUnavailable(f"No backend runs {found.name}: {reasons}", "occlufix-vcam doctor says more.")


def survey() -> list[BackendReport]:
    """Which backends this machine has, in the order of the table. Loads no model."""
    reports = []
    for name in BACKENDS:
        try:
            reports.append(BackendReport(name, True, _backend(name).devices()[0], ""))
        except EngineUnavailable as error:
            reports.append(BackendReport(name, False, "", f"{error.message} ({error.hint})"))
    return reports


def _rank(wanted: str) -> tuple[list[tuple[str, str]], list[tuple[str, EngineError]]]:
    """Backends with their devices, best first, and those that are not there. Raises EngineUnavailable."""
    candidates: list[tuple[str, str]] = []
    missing: list[tuple[str, EngineError]] = []
    for name in [name for name in BACKENDS if name != "fake"] if wanted == "auto" else [wanted]:
        try:
            candidates += [(name, device) for device in _backend(name).devices()]
        except EngineUnavailable as error:
            missing.append((name, error))
    candidates.sort(key=lambda candidate: candidate[1] == "CPU")  # stable: else the order of the table
    return candidates, missing


def _backend(name: str) -> Backend:
    if name not in BACKENDS:
        raise EngineUnavailable(f"There is no backend {name}", f"Choose auto, {', '.join(BACKENDS)}.")
    module, _, class_name = BACKENDS[name].partition(":")
    try:
        return cast(Backend, getattr(importlib.import_module(module), class_name))
    except EngineError:
        raise
    except Exception as error:  # a broken native library may raise anything
        raise EngineUnavailable(
            f"The library of {name} is broken: {type(error).__name__}: {' '.join(str(error).split())}",
            "Install it again: pip install --force-reinstall",
        ) from error


def _refusal(name: str, error: EngineError) -> Refusal:
    return Refusal(name, error.message, error.build if isinstance(error, EngineNotBuilt) else None)


def _check_doors(engine: InferenceEngine, model: Model, options: EngineOptions) -> None:
    """A file of the right hash has to have the doors that models.toml promises. Raises ContractMismatch."""
    unknown = options.input_shapes.keys() - {spec.name for spec in engine.inputs}
    if unknown:
        engine.close()
        raise ContractMismatch(f"{model.name} has no input {', '.join(sorted(unknown))}")
    if not model.inputs:
        return
    inputs = {spec.name: spec.shape for spec in engine.inputs}
    promised = {**model.inputs, **options.input_shapes}
    outputs = {spec.name: spec.shape for spec in engine.outputs}
    same_outputs = outputs.keys() == model.outputs.keys() if options.input_shapes else outputs == dict(model.outputs)
    if inputs != promised or not same_outputs:
        engine.close()
        raise ContractMismatch(
            f"{model.name} takes {inputs} and gives {outputs}, not what models.toml says: "
            f"{dict(model.inputs)} and {dict(model.outputs)}",
            f"Export it again: python -m train export {model.name}",
        )
