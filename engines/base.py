"""The role of an engine: an ONNX file, ready to run, with uint8 doors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[np.generic]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, static shape and element type of one input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to run a model: a backend by name or "auto", its precision, and static shapes for dynamic inputs."""

    backend: str = "auto"
    precision: Precision = "auto"
    threads: int = 0  # 0: the backend decides
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


class InferenceEngine(Protocol):
    """One model on one device. Built, used and closed by one thread; output arrays are reused by the next run."""

    backend: str
    device: str
    precision: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]: ...

    def close(self) -> None: ...


class EngineError(Exception):
    """Something about an engine failed. `hint` says what to do, in one line."""

    exit_code = 5

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class EngineUnavailable(EngineError):
    """The backend, its package or its device is not on this machine."""


class EngineBuildError(EngineError):
    """The model could not be turned into an engine."""


class EngineRunError(EngineError):
    """The engine failed while it ran."""


class ModelError(EngineError):
    """Something about a model file is wrong."""

    exit_code = 4


class ModelMissing(ModelError):
    """There is no such model file."""


class ModelCorrupt(ModelError):
    """The model file is not the one that models.toml names, or is no model at all."""


class ContractMismatch(ModelError):
    """The model's doors are not those of the contract."""
