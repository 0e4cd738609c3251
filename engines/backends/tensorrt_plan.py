"""Builds a TensorRT plan from an ONNX file: TensorRT for RTX on any machine, classic TensorRT only on a GPU.

Networks are strongly typed: the file's own types are computed in, so a plan in half precision comes from the FP16 file.
The flag for half precision is gone, and a builder without strong typing silently builds FP32.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from engines.backends.nvidia import Gpu, library_name, make_logger, no_garbage, one_line
from engines.base import EngineOptions, static_shape
from engines.cache import CacheKey
from engines.errors import BuildProgress, ContractMismatch, EngineBuildError, EngineUnavailable, ModelCorrupt
from engines.manifest import Model, sha256_of

#: Kind of plan that runs on every GPU from Ampere on.
PORTABLE = "portable"
TYPES = {"UINT8": "uint8", "FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What to build: a model file for one architecture ("sm86" or PORTABLE), in fixed shapes.

    `here`: the architecture is this machine's, under any name.
    """

    model: Model
    file: Path
    precision: str
    architecture: str
    shapes: Mapping[str, tuple[int, ...]]
    here: bool = False

    def key(self, library: ModuleType, gpu: Gpu | None) -> CacheKey:
        """Cache key of a plan for `gpu`; None: one for the architecture alone."""
        facts = {
            "model_sha256": sha256_of(self.file),
            "backend": "tensorrt",
            "library": library_name(library),
            "gpu": gpu.name if gpu else "",
            "architecture": self.architecture,
            "driver": gpu.driver if gpu else "",
            "cuda": gpu.runtime if gpu else "",
            "precision": self.precision,
            "shapes": {name: list(shape) for name, shape in sorted(self.shapes.items())},
        }
        return CacheKey(self.model.name, facts)


@dataclass(frozen=True, slots=True)
class Plan:
    """Built plan; `tensors` counts the network's tensors by type, HALF among them."""

    content: bytes
    seconds: float
    tensors: Mapping[str, int]

    @property
    def notes(self) -> dict[str, Any]:
        return {"build_s": round(self.seconds, 2), "tensors": dict(self.tensors)}


def plan_request(model: Model, options: EngineOptions, architecture: str, here: bool = False) -> PlanRequest:
    """Request for a model's plan. Raises ModelMissing, ModelCorrupt, and EngineUnavailable for an unsupported
    precision.
    """
    wanted = "fp16" if options.precision == "auto" else options.precision
    if wanted not in ("fp16", "fp32"):
        raise EngineUnavailable(f"TensorRT does not support {wanted}", "choose precision auto, fp16 or fp32")
    precision, file = model.pick(wanted)
    return PlanRequest(model, file, precision, architecture, {**model.inputs, **options.input_shapes}, here)


def build_plan(library: ModuleType, wanted: PlanRequest, progress: BuildProgress = lambda share: True) -> Plan:
    """Builds the plan. Raises EngineBuildError, ContractMismatch, ModelCorrupt."""
    began = time.perf_counter()
    logger = make_logger(library)
    try:
        with no_garbage():
            builder = library.Builder(logger)
    except (RuntimeError, TypeError) as error:  # classic TensorRT has no builder without a GPU
        raise EngineUnavailable(
            f"{library_name(library)} cannot build on this machine: {logger.last_error or one_line(error)}",
            "build on the machine with the GPU, or install tensorrt-rtx, which builds anywhere",
        ) from error
    network = builder.create_network(_strongly_typed(library))
    _parse(library, network, wanted.file, logger)
    _fix_inputs(network, wanted)
    tensors = _count_types(network)
    if wanted.precision == "fp16" and not tensors["HALF"]:
        raise EngineBuildError(f"{wanted.file.name} holds no half types: it would compute in FP32", "export it again")
    config = builder.create_builder_config()
    _aim(library, config, wanted)
    monitor = _make_monitor(library, progress)
    config.progress_monitor = monitor
    content = builder.build_serialized_network(network, config)
    if monitor.stopped:
        raise EngineBuildError(f"Building {wanted.model.name} was stopped")
    if content is None:
        reason = logger.last_error or "no reason given"
        raise EngineBuildError(f"TensorRT cannot build {wanted.file.name} for {wanted.architecture}: {reason}")
    progress(1.0)
    return Plan(bytes(content), time.perf_counter() - began, tensors)


def architectures(library: ModuleType) -> list[str]:
    """Architectures that this library builds for without a GPU; none for classic TensorRT."""
    known = getattr(library, "ComputeCapability", None)
    names = [name.lower() for name in known.__members__ if name.startswith("SM")] if known is not None else []
    return [*names, PORTABLE] if names else []


def _strongly_typed(library: ModuleType) -> int:
    """Flag for strong typing; newer libraries have no flag because every network is strongly typed."""
    flag = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(library: ModuleType, network: Any, file: Path, logger: Any) -> None:
    parser = library.OnnxParser(network, logger)
    understood = parser.parse(file.read_bytes(), str(file))
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    if any(error.code().name == "MODEL_DESERIALIZE_FAILED" for error in errors) or not (network.num_outputs or errors):
        raise ModelCorrupt(f"{file} is not an ONNX model", "export it again")
    if errors or not understood:
        reasons = "; ".join(dict.fromkeys(_in_words(error) for error in errors)) or logger.last_error
        raise EngineBuildError(f"TensorRT does not know {file.name}: {reasons}", "export it with opset 18 again")


def _in_words(error: Any) -> str:
    """One line: node, operator and reason, without the library's source files and assertions."""
    description = one_line(error.desc()).split(" [checkMacros.cpp", 1)[0].removeprefix("Assertion failed: ")
    description = re.sub(r" ?In \w+ at \S+?:\d+", "", description)
    place = " ".join(filter(None, (error.node_name(), f"({error.node_operator()})" if error.node_operator() else "")))
    return f"{place}: {description}" if place else description


def _fix_inputs(network: Any, wanted: PlanRequest) -> None:
    """Fixes the shape of every input.

    Raises ContractMismatch if inputs or outputs differ from those promised.
    """
    inputs = {item.name: item for item in (network.get_input(at) for at in range(network.num_inputs))}
    outputs = {network.get_output(at).name for at in range(network.num_outputs)}
    promised = wanted.model
    if promised.inputs and (inputs.keys() != promised.inputs.keys() or outputs != promised.outputs.keys()):
        raise ContractMismatch(
            f"{wanted.file.name} takes {', '.join(sorted(inputs))} and gives {', '.join(sorted(outputs))}, not "
            f"{', '.join(sorted(promised.inputs))} and {', '.join(sorted(promised.outputs))}",
            f"export it again: python -m train export {promised.name}",
        )
    unknown = wanted.shapes.keys() - inputs.keys()
    if unknown:
        raise ContractMismatch(f"{wanted.model.name} has no input {', '.join(sorted(unknown))}")
    for name, item in inputs.items():
        declared = [None if size < 0 else int(size) for size in item.shape]
        item.shape = static_shape(name, declared, wanted.shapes.get(name))


def _count_types(network: Any) -> Counter[str]:
    layers = [network.get_layer(at) for at in range(network.num_layers)]
    return Counter(layer.get_output(at).dtype.name for layer in layers for at in range(layer.num_outputs))


def _aim(library: ModuleType, config: Any, wanted: PlanRequest) -> None:
    """Sets the target: one architecture, or every GPU from Ampere on. Raises EngineUnavailable."""
    known = getattr(library, "ComputeCapability", None)
    if wanted.here and known is None:
        return  # the library's default
    if wanted.architecture == PORTABLE:
        if known is None:
            config.hardware_compatibility_level = library.HardwareCompatibilityLevel.AMPERE_PLUS
        return
    target = getattr(known, wanted.architecture.upper(), known.CURRENT if wanted.here and known else None)
    if target is None:
        can = ", ".join(architectures(library)) or f"the installed GPU or {PORTABLE} (tensorrt-rtx has others)"
        raise EngineUnavailable(f"{library_name(library)} does not build for {wanted.architecture}", f"choose {can}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(target, 0)


def _make_monitor(library: ModuleType, progress: BuildProgress) -> Any:
    """Progress monitor that merges nested phases into one share, which only grows."""

    class Monitor(library.IProgressMonitor):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)
            self.stopped = False
            self._phases: dict[str, tuple[str | None, int, int]] = {}
            self._share = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases[phase_name] = (parent_phase, num_steps, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            parent, steps, _ = self._phases.get(phase_name, (None, 1, 0))
            self._phases[phase_name] = (parent, steps, step + 1)
            self._share = max(self._share, _share_done(self._phases, phase_name))
            self.stopped = self.stopped or not progress(self._share)
            return not self.stopped

        def phase_finish(self, phase_name: str) -> None:
            self._phases.pop(phase_name, None)

    return Monitor()


def _share_done(phases: Mapping[str, tuple[str | None, int, int]], phase: str) -> float:
    """Share of the whole build: each phase is one step of the phase around it."""
    _, steps, done = phases[phase]
    share = done / max(steps, 1)
    inside, around = {phase}, phases[phase][0]
    while around is not None and around in phases and around not in inside:
        inside.add(around)
        parent, steps, done = phases[around]
        share = min(1.0, (done + share) / max(steps, 1))
        around = parent
    return share
