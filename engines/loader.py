"""Loads a model on the best backend of this machine, and surveys the backends."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, cast

from engines import autotune
from engines.autotune import CandidateTiming, EngineCandidate
from engines.backends import BACKENDS, TEST_BACKEND
from engines.base import EngineOptions, InferenceEngine, Precision, SkippedBackend
from engines.errors import (
    ContractMismatch,
    EngineBuildError,
    EngineError,
    EngineNotBuilt,
    EngineRunError,
    EngineUnavailable,
)
from engines.manifest import Model, find_model

_DEFAULTS = EngineOptions()
_log = logging.getLogger(__name__)


class Backend(Protocol):
    """Entry of BACKENDS: a class of engines."""

    @staticmethod
    def devices() -> Sequence[str]:
        """Devices that it can use on this machine, best first; "CPU" is the processor. Raises EngineUnavailable."""

    @staticmethod
    def warning() -> str:
        """What is wrong with a backend that still runs; "" if nothing is."""

    def precisions(self, model: Model, device: str) -> Sequence[Precision]:
        """Precisions in which it runs `model` on a device, best first; "auto" is its own choice."""

    def __call__(self, model: Model, device: str, options: EngineOptions) -> InferenceEngine:
        """Reads, compiles and warms up a model. Raises EngineError."""


@dataclass(frozen=True, slots=True)
class BackendReport:
    """Whether a backend is available. `device` is its best one; `reason` says why it has none.

    `warning` is what is wrong with one that still runs.
    """

    name: str
    available: bool
    device: str
    reason: str
    warning: str = ""


def load(model: str | Path | Model, options: EngineOptions = _DEFAULTS) -> InferenceEngine:
    """Loads a model on the best backend that accepts it; `passed_over` lists the ones that did not.

    `model` is one of MODEL_NAMES, the path of an ONNX file, or a result of `find_model`. Raises ModelError if the model
    is at fault, and EngineUnavailable, EngineBuildError or EngineRunError if no backend accepts it.
    """
    found = find_model(model)
    found.check()
    candidates, failures = _candidates(found, options)
    times = _remembered(found, candidates, options)
    for place, candidate in enumerate(candidates):
        try:
            engine = _open(found, candidate, options)
        except (EngineUnavailable, EngineBuildError, EngineRunError) as error:
            _log.info("skipped %s: %s", candidate, error.message)
            failures.append((candidate.backend, error))
            continue
        failed = [_skipped(name, error) for name, error in failures]
        named = {one.backend for one in failed}
        slower = [one for one in _slower(candidate, candidates[place + 1 :], times) if one.backend not in named]
        engine.passed_over = (*failed, *slower)
        return engine
    if len(failures) == 1:
        raise failures[0][1]
    reasons = "; ".join(f"{name}: {error.message}" for name, error in failures)
    message = f"no backend can run {found.name}: {reasons}"
    raise EngineUnavailable(message, "run `occlufix-vcam doctor`", code="no_engine")


def measure(model: str | Path, again: bool = False) -> list[CandidateTiming]:
    """Times every candidate for `model`, fastest first, which `load` uses from then on.

    Takes seconds and all cores if there are no times yet or with `again`. Raises ModelError.
    """
    found = find_model(model)
    candidates, _ = _candidates(found, _DEFAULTS)
    known = [] if again else autotune.remembered(found, candidates)
    return known or autotune.measure(found, candidates, lambda candidate: _open(found, candidate, _DEFAULTS))


def timed(model: str | Path) -> list[CandidateTiming]:
    """Cached result of `measure`, if there is one. Raises ModelError."""
    found = find_model(model)
    return autotune.remembered(found, _candidates(found, _DEFAULTS)[0])


def survey() -> list[BackendReport]:
    """Backends of this machine, in the order of the table. Loads no model."""
    reports = []
    for name in BACKENDS:
        try:
            backend = _backend(name)
            reports.append(BackendReport(name, True, backend.devices()[0], "", backend.warning()))
        except EngineUnavailable as error:
            reports.append(BackendReport(name, False, "", f"{error.message} ({error.hint})"))
    return reports


def _candidates(model: Model, options: EngineOptions) -> tuple[list[EngineCandidate], list[tuple[str, EngineError]]]:
    """Candidates for a model, best first, and the backends that are missing. Raises EngineUnavailable."""
    candidates: list[EngineCandidate] = []
    missing: list[tuple[str, EngineError]] = []
    for name in [name for name in BACKENDS if name != TEST_BACKEND] if options.backend == "auto" else [options.backend]:
        try:
            backend = _backend(name)
            for device in backend.devices():
                own = backend.precisions(model, device)
                precisions = own if _chooses(model, options) else [options.precision]
                candidates += [EngineCandidate(name, device, precision) for precision in precisions]
        except EngineUnavailable as error:
            missing.append((name, error))
    last = {"CPU": 1, "NPU": 2}
    candidates.sort(key=lambda candidate: last.get(candidate.device, 0))  # stable sort: ties keep the table's order
    known = {one.candidate: one.rank_ms for one in _remembered(model, candidates, options)}
    candidates.sort(key=lambda candidate: known.get(candidate, float("inf")))
    return candidates, missing


def _chooses(model: Model, options: EngineOptions) -> bool:
    """Whether the precision is free. Not every network has int8; those without it run in their best precision."""
    return options.precision == "auto" or (options.precision == "int8" and not model.has("int8"))


def _remembered(model: Model, candidates: Sequence[EngineCandidate], options: EngineOptions) -> list[CandidateTiming]:
    """Cached times, used only if the precision is free, and only for a model known by its hash."""
    is_free = options.backend == options.precision == "auto"
    is_ours = all(file.sha256 for file in model.files.values())
    return autotune.remembered(model, candidates) if is_free and is_ours else []


def _open(model: Model, candidate: EngineCandidate, options: EngineOptions) -> InferenceEngine:
    if (candidate.backend, candidate.device) in options.avoid:
        raise EngineUnavailable("it kept failing while running", "read the log for the reason")
    engine = _backend(candidate.backend)(model, candidate.device, replace(options, precision=candidate.precision))
    _check_tensors(engine, model, options)
    return engine


def _slower(
    chosen: EngineCandidate, others: Sequence[EngineCandidate], times: Sequence[CandidateTiming]
) -> list[SkippedBackend]:
    """Why each candidate after the chosen one is skipped; of another backend only its best."""
    known = {one.candidate: one for one in times}
    best = known[chosen].p50_ms if chosen in known else None
    skipped: dict[str, SkippedBackend] = {}
    for candidate in others:
        name = (
            candidate.backend
            if candidate.backend != chosen.backend
            else f"{candidate.backend} {candidate.device} {candidate.precision}"
        )
        reason = f"ranks after {chosen.backend}, not timed on this machine yet"
        if candidate in known and best is not None:
            p50_ms = known[candidate].p50_ms
            reason = f"takes {p50_ms:.1f} ms here, {chosen} {best:.1f}" if p50_ms else known[candidate].reason
            reason += ", which is more exact" if p50_ms and p50_ms < best else ""
        skipped.setdefault(name, SkippedBackend(name, reason))
    return list(skipped.values())


def _backend(name: str) -> Backend:
    if name not in BACKENDS:
        raise EngineUnavailable(f"unknown backend {name}", f"choose auto, {', '.join(BACKENDS)}")
    module, _, class_name = BACKENDS[name].partition(":")
    try:
        return cast(Backend, getattr(importlib.import_module(module), class_name))
    except EngineError:
        raise
    except Exception as error:  # a broken native library can raise anything
        raise EngineUnavailable(
            f"the library of {name} is broken: {type(error).__name__}: {' '.join(str(error).split())}",
            "reinstall it: pip install --force-reinstall",
        ) from error


def _skipped(name: str, error: EngineError) -> SkippedBackend:
    return SkippedBackend(name, error.message, error.build if isinstance(error, EngineNotBuilt) else None)


def _check_tensors(engine: InferenceEngine, model: Model, options: EngineOptions) -> None:
    """Compares inputs and outputs with those in models.toml. Raises ContractMismatch."""
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
            f"export it again: python -m train export {model.name}",
        )
