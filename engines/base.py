"""Contract of an engine: an ONNX model, ready to run, with uint8 inputs and outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.errors import BuildProgress, ContractMismatch, EngineRunError

if TYPE_CHECKING:
    from engines.manifest import Model

Tensor = NDArray[np.generic]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, static shape and element type of one input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to run a model: backend name or "auto", precision, and static shapes for dynamic inputs."""

    backend: str = "auto"
    precision: Precision = "auto"
    threads: int = 0  # 0: the backend decides
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    #: False: unbuilt engines are skipped; their SkippedBackend holds the build, to run elsewhere.
    wait_for_build: bool = True
    #: Backends on devices that kept failing while they ran.
    avoid: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class SkippedBackend:
    """Backend that ranks higher than the one in use, and why it is not used; `build` fixes that."""

    backend: str
    reason: str
    build: Callable[[BuildProgress], object] | None = field(default=None, compare=False, repr=False)


class InferenceEngine(Protocol):
    """One model on one device. Built, used and closed by one thread; the next run reuses the output arrays."""

    backend: str
    device: str
    precision: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    passed_over: Sequence[SkippedBackend]

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]: ...

    def close(self) -> None: ...


class BufferedEngine(ABC):
    """Base class of all backends: checks inputs, allocates input and output arrays once, and closes.

    An input is copied into the engine's own array (4 us for a 256x256 image), so it may be read-only or a view, and may
    be reused after the call.
    """

    backend: str

    @staticmethod
    def precisions(model: Model, device: str) -> Sequence[Precision]:
        """Precisions in which it runs a model on a device, best first; "auto" is the backend's own choice."""
        return ("auto",)

    @staticmethod
    def warning() -> str:
        """What is wrong with a backend that still runs, and how to fix it; "" if nothing is."""
        return ""

    def __init__(
        self, device: str, precision: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        self.device = device
        self.precision = precision
        self.inputs: Sequence[TensorSpec] = tuple(inputs)
        self.outputs: Sequence[TensorSpec] = tuple(outputs)
        self.passed_over: Sequence[SkippedBackend] = ()
        self._feeds: dict[str, Tensor] = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in inputs}
        self._results: dict[str, Tensor] = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in outputs}
        self._closed = False

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Runs the model on one array per input and returns the outputs by name. Raises ContractMismatch,
        EngineRunError.
        """
        if self._closed:
            raise EngineRunError(f"this {self.backend} engine is closed", "load the model again")
        if feeds.keys() != self._feeds.keys():
            raise ContractMismatch(f"the model takes {_names(self._feeds)}, but was given {_names(feeds)}")
        for name, feed in feeds.items():
            buffer = self._feeds[name]
            if feed.shape != buffer.shape or feed.dtype != buffer.dtype:
                raise ContractMismatch(f"{name} must be {_form(buffer)}, but is {_form(feed)}")
            np.copyto(buffer, feed)
        self._execute()
        return self._results

    def close(self) -> None:
        """Releases everything. A second call does nothing."""
        self._closed = True
        self._release()

    @abstractmethod
    def _execute(self) -> None:
        """Computes `_results` from `_feeds`. Raises EngineRunError."""

    @abstractmethod
    def _release(self) -> None:
        """Releases the backend's own objects. May be called twice."""


def static_shape(name: str, declared: Sequence[int | None], wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    """Static shape of an input: `wanted` if it fits `declared` (None: open axis), else a batch of one.

    Raises ContractMismatch.
    """
    if wanted is None:
        wanted = tuple(1 if axis == 0 and size is None else size or 0 for axis, size in enumerate(declared))
    fits = len(wanted) == len(declared) and all(
        size > 0 and known in (None, size) for size, known in zip(wanted, declared, strict=True)
    )
    if not fits:
        form = "x".join("?" if size is None else str(size) for size in declared)
        raise ContractMismatch(
            f"{name} is {form} in the model, which does not fit {'x'.join(map(str, wanted))}",
            "give a size for each ? in input_shapes",
        )
    return wanted


def _names(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(sorted(tensors)) or "nothing"


def _form(tensor: Tensor) -> str:
    return f"{'x'.join(map(str, tensor.shape))} {tensor.dtype}"
