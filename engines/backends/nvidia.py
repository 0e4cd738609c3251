"""What an engine needs of NVIDIA's libraries, and nothing else: TensorRT itself, the GPU, its memory and its graphs.

TensorRT for RTX and classic TensorRT differ little; what only one of them has is asked for by name, never by version.
CUDA comes through cuda-python. Each of its failures becomes an EngineRunError.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from engines.base import Tensor, TensorSpec
from engines.errors import EngineRunError, EngineUnavailable
from engines.installing import install_extra

LIBRARIES = ("tensorrt_rtx", "tensorrt")
OUT_OF_MEMORY = "cudaErrorMemoryAllocation"
#: Page-locking works on whole pages, and TensorRT wants addresses that 256 divides.
_PAGE, _ALIGNMENT = 4096, 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU that CUDA shows; `driver` and `runtime` are CUDA versions, as "13.0"."""

    name: str
    architecture: str
    driver: str
    runtime: str


class Cuda:
    """The CUDA runtime. Raises EngineUnavailable where cuda-python is missing or broken."""

    def __init__(self) -> None:
        try:
            self._runtime = importlib.import_module("cuda.bindings.runtime")
        except ModuleNotFoundError as error:
            raise EngineUnavailable("The package cuda-python is not installed", install_extra("tensorrt")) from error
        except Exception as error:  # a broken native library may raise anything
            raise EngineUnavailable(f"cuda-python is broken: {one_line(error)}", _reinstall()) from error

    def call(self, name: str, *arguments: Any) -> Any:
        """What the function `name` gives beside its status. Raises EngineRunError."""
        status, *results = getattr(self._runtime, name)(*arguments)
        if int(status) != 0:
            raise self._failure(name, status)
        return results[0] if results else None

    def constant(self, kind: str, name: str) -> Any:
        return getattr(getattr(self._runtime, kind), name)

    def flag(self, name: str) -> int:
        return int(getattr(self._runtime, name))

    def find_gpu(self) -> Gpu:
        """Raises EngineUnavailable where there is none, or no driver for it."""
        driver, runtime = (int(self.call(f"cuda{kind}GetVersion")) for kind in ("Driver", "Runtime"))
        if driver == 0:
            raise EngineUnavailable("There is no NVIDIA driver on this machine", "Install it, or use another backend.")
        try:
            if int(self.call("cudaGetDeviceCount")) == 0:
                raise EngineUnavailable("There is no NVIDIA GPU on this machine", "Use another backend.")
            self.call("cudaSetDevice", 0)
            found = self.call("cudaGetDeviceProperties", 0)
        except EngineRunError as error:
            raise EngineUnavailable(f"The NVIDIA GPU cannot be used: {error.message}", "Update its driver.") from error
        name = found.name.decode(errors="replace").rstrip("\0")
        return Gpu(name, f"sm{found.major}{found.minor}", _version(driver), _version(runtime))

    def release(self, name: str, *arguments: Any) -> None:
        """Like `call`, for giving something back: after a lost GPU even that fails, and nobody can help it."""
        try:
            self.call(name, *arguments)
        except EngineRunError as error:
            _log.debug("%s", error.message)

    def _failure(self, call: str, status: Any) -> EngineRunError:
        _, words = self._runtime.cudaGetErrorString(status)
        if status.name == OUT_OF_MEMORY:
            return EngineRunError("The GPU is out of memory", "Close what else uses it, or choose another backend.")
        return EngineRunError(f"{words.decode(errors='replace')} ({status.name} in {call})", "The engine is made anew.")


class Buffers:
    """One block of page-locked memory and its twin on the GPU, inputs first: a copy each way moves everything.

    `arrays` and `addresses` are the tensors' places in the one and in the other. The host's block outlives `close`.
    """

    def __init__(self, cuda: Cuda, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        self._cuda = cuda
        places, end = _lay_out(inputs, 0)
        self._inputs_end = end
        output_places, self._end = _lay_out(outputs, end)
        space = np.zeros(_round_up(self._end, _PAGE) + _PAGE, np.uint8)
        start = -space.ctypes.data % _PAGE
        self._host = space[start : start + _round_up(self._end, _PAGE)]
        self._address = int(self._host.ctypes.data)
        self._there, self._back = (
            cuda.constant("cudaMemcpyKind", f"cudaMemcpy{direction}") for direction in ("HostToDevice", "DeviceToHost")
        )
        self._device = int(cuda.call("cudaMalloc", self._end))
        self._is_open = True
        self._locked = self._lock()
        self.arrays: Mapping[str, Tensor] = {
            spec.name: self._view(spec, place)
            for spec, place in zip([*inputs, *outputs], [*places, *output_places], strict=True)
        }
        self.addresses: Mapping[str, int] = {
            spec.name: self._device + place
            for spec, place in zip([*inputs, *outputs], [*places, *output_places], strict=True)
        }

    def upload(self, stream: Any) -> None:
        self._cuda.call("cudaMemcpyAsync", self._device, self._address, self._inputs_end, self._there, stream)

    def download(self, stream: Any) -> None:
        start, size = self._inputs_end, self._end - self._inputs_end
        self._cuda.call("cudaMemcpyAsync", self._address + start, self._device + start, size, self._back, stream)

    def close(self) -> None:
        """May be called twice."""
        if self._is_open:
            self._cuda.release("cudaFree", self._device)
        if self._locked:
            self._cuda.release("cudaHostUnregister", self._address)
        self._is_open = self._locked = False

    def _lock(self) -> bool:
        """Page-locked memory is copied faster; without it all works too."""
        try:
            self._cuda.call("cudaHostRegister", self._address, self._host.nbytes, 0)
        except EngineRunError as error:
            _log.info("memory stays unlocked: %s", error.message)
            return False
        return True

    def _view(self, spec: TensorSpec, place: int) -> Tensor:
        size = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
        return self._host[place : place + size].view(spec.dtype).reshape(spec.shape)


class Graph:
    """Work that was recorded once, to be launched as a whole."""

    def __init__(self, cuda: Cuda, handle: Any) -> None:
        self._cuda, self._handle = cuda, handle

    @classmethod
    def record(cls, cuda: Cuda, stream: Any, work: Callable[[], None]) -> Graph | None:
        """None, and a line in the log, where `work` cannot be recorded."""
        mode = cuda.constant("cudaStreamCaptureMode", "cudaStreamCaptureModeThreadLocal")
        recorded = None
        try:
            cuda.call("cudaStreamBeginCapture", stream, mode)
            try:
                work()
            finally:
                recorded = cuda.call("cudaStreamEndCapture", stream)
            return cls(cuda, cuda.call("cudaGraphInstantiate", recorded, 0))
        except EngineRunError as error:
            _log.info("running without a CUDA graph: %s", error.message)
            return None
        finally:
            if recorded is not None:
                cuda.release("cudaGraphDestroy", recorded)

    def launch(self, stream: Any) -> None:
        self._cuda.call("cudaGraphLaunch", self._handle, stream)

    def close(self) -> None:
        self._cuda.release("cudaGraphExecDestroy", self._handle)


def installed_library() -> str:
    """What `open_library` would import, unless all are broken: that takes 100 MB. Raises EngineUnavailable."""
    for name in LIBRARIES:
        try:
            if importlib.util.find_spec(name) is not None:
                return name
        except Exception:  # noqa: BLE001  it is there, and importing it will say what is wrong with it
            return name
    raise EngineUnavailable("The package tensorrt-rtx is not installed", install_extra("tensorrt"))


def open_library() -> ModuleType:
    """TensorRT for RTX, else classic TensorRT. Raises EngineUnavailable."""
    broken: list[str] = []
    for name in LIBRARIES:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                broken.append(f"{name}: {one_line(error)}")
        except Exception as error:  # noqa: BLE001  a broken native library may raise anything
            broken.append(f"{name}: {one_line(error)}")
    if broken:
        raise EngineUnavailable(f"TensorRT is broken: {'; '.join(broken)}", _reinstall())
    raise EngineUnavailable("The package tensorrt-rtx is not installed", install_extra("tensorrt"))


def library_name(library: ModuleType) -> str:
    return f"{library.__name__} {library.__version__}"


def make_logger(library: ModuleType) -> Any:
    """TensorRT's words go to our log, none to the terminal; `last_error` holds what it complained of last."""

    class Logger(library.ILogger):  # type: ignore[name-defined, misc]
        last_error = ""

        def __init__(self) -> None:
            library.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity.name in ("ERROR", "INTERNAL_ERROR"):
                self.last_error = one_line(message)
            _log.debug("TensorRT: %s", message)

    return Logger()


@contextlib.contextmanager
def no_garbage() -> Iterator[None]:
    """While TensorRT makes a builder or a runtime: it logs in Python and holds a lock that its dying objects wait for.

    One that an exception's traceback kept would be collected in the midst of that, and the thread waits for itself.
    """
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def one_line(message: object) -> str:
    return " ".join(str(message).split())


def _reinstall() -> str:
    return f"{install_extra('tensorrt')} --force-reinstall"


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _lay_out(specs: Sequence[TensorSpec], start: int) -> tuple[list[int], int]:
    """Where each tensor begins, and where the last one's space ends."""
    places = []
    for spec in specs:
        places.append(start)
        start = _round_up(start + int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize, _ALIGNMENT)
    return places, start


def _round_up(size: int, step: int) -> int:
    return -(-size // step) * step
