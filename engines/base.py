"""The role of an engine: an ONNX file, ready to run, with uint8 inputs and outputs."""

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
    """How to run a model: a backend by name or "auto", its precision, and static shapes for dynamic inputs."""

    backend: str = "auto"
    precision: Precision = "auto"
    threads: int = 0  # 0: the backend decides
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    #: False: what is not built yet is passed over, and its SkippedBackend holds the build, to be run elsewhere.
    wait_for_build: bool = True
    #: Backends, each on a device, that failed again and again while they ran.
    avoid: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class SkippedBackend:
    """A backend that ranks higher than the one that runs, and why it does not run; `build` mends that."""

    backend: str
    reason: str
    build: Callable[[BuildProgress], object] | None = field(default=None, compare=False, repr=False)


class InferenceEngine(Protocol):
    """One model on one device. Built, used and closed by one thread; output arrays are reused by the next run."""

    backend: str
    device: str
    precision: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    passed_over: Sequence[SkippedBackend]

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]: ...

    def close(self) -> None: ...


class BufferedEngine(ABC):
    """What all backends share: checked feeds, input and output arrays that are made once, closing.

    A feed is copied into the engine's own input, 4 us for a 256x256 picture; so it may be read-only or a view, and
    need not outlive the call.
    """

    backend: str

    @staticmethod
    def precisions(model: Model, device: str) -> Sequence[Precision]:
        """In which precisions it runs a model on a device, the best first; "auto" is the backend's own choice."""
        return ("auto",)

    @staticmethod
    def warning() -> str:
        """What is wrong with the backend though it runs, and how to mend it; "" where nothing is."""
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
        """The outputs by name, for one array for each input. Raises ContractMismatch, EngineRunError."""
        if self._closed:
            raise EngineRunError(f"This {self.backend} engine is closed", "Load the model again.")
        if feeds.keys() != self._feeds.keys():
            raise ContractMismatch(f"The model takes {_names(self._feeds)}, but was given {_names(feeds)}")
        for name, feed in feeds.items():
            buffer = self._feeds[name]
            if feed.shape != buffer.shape or feed.dtype != buffer.dtype:
                raise ContractMismatch(f"{name} has to be {_form(buffer)}, but is {_form(feed)}")
            np.copyto(buffer, feed)
        self._execute()
        return self._results

    def close(self) -> None:
        """Gives everything back; a second call does nothing."""
        self._closed = True
        self._release()

    @abstractmethod
    def _execute(self) -> None:
        """From `_feeds` to `_results`. Raises EngineRunError."""

    @abstractmethod
    def _release(self) -> None:
        """Lets the backend's own objects go; may be called twice."""


def static_shape(name: str, declared: Sequence[int | None], wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    """An input's shape with nothing left open: `wanted` where it fits `declared` (None: open), else a batch of one.

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
            "Give a size for each ? in input_shapes.",
        )
    return wanted


def _names(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(sorted(tensors)) or "nothing"


def _form(tensor: Tensor) -> str:
    return f"{'x'.join(map(str, tensor.shape))} {tensor.dtype}"
