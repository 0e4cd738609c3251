"""A GPU that is not there: a stand-in for the CUDA runtime that records calls and really copies.

A "GPU" address is one of this process.
"""

from __future__ import annotations

import ctypes
import enum
import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

DEVICE = "Stand-in RTX"


class Machine:
    """What the stand-ins share: the record of calls, the GPU's memory, and what the test lets go wrong."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.memory: dict[int, np.ndarray] = {}
        self.locked: set[int] = set()
        self.driver = 13000
        self.devices = 1
        #: CUDA function or TensorRT method -> how it fails from now on.
        self.failing: dict[str, str] = {}
        self.validity = "VALID"
        self.complaints = 0
        self.builds = 0
        self.may_build = threading.Event()
        self.may_build.set()
        self.computes_rubbish = False
        self.recording: list[Callable[[], None]] | None = None
        self.graphs: dict[int, list[Callable[[], None]]] = {}

    def fails(self, call: str) -> str:
        self.calls.append(call)
        return self.failing.get(call, "")

    def do(self, work: Callable[[], None]) -> None:
        """At once, or when the graph that is being recorded is launched."""
        if self.recording is None:
            work()
        else:
            self.recording.append(work)

    def at(self, address: int, size: int) -> None:
        """Raises AssertionError unless so many bytes lie in one piece of the GPU's memory."""
        assert any(base <= address and address + size <= base + block.nbytes for base, block in self.memory.items())


class Status(enum.IntEnum):
    cudaSuccess = 0  # noqa: N815  CUDA's own names
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorIllegalAddress = 700  # noqa: N815
    cudaErrorStreamCaptureUnsupported = 900  # noqa: N815


def cuda_runtime(machine: Machine) -> ModuleType:
    """`cuda.bindings.runtime`: every function gives its status first."""
    streams = iter(range(1, 1_000_000))

    def answer(call: str, *results: Any) -> tuple[Any, ...]:
        said = machine.fails(call)
        return (Status[said], *(None for _ in results)) if said else (Status.cudaSuccess, *results)

    def cudaDriverGetVersion() -> Any:  # noqa: N802
        return answer("cudaDriverGetVersion", machine.driver)

    def cudaRuntimeGetVersion() -> Any:  # noqa: N802
        return answer("cudaRuntimeGetVersion", 13010)

    def cudaGetDeviceCount() -> Any:  # noqa: N802
        return answer("cudaGetDeviceCount", machine.devices)

    def cudaSetDevice(device: int) -> Any:  # noqa: N802
        return answer("cudaSetDevice")

    def cudaGetDeviceProperties(device: int) -> Any:  # noqa: N802
        name = DEVICE.encode().ljust(256, b"\0")
        return answer("cudaGetDeviceProperties", SimpleNamespace(name=name, major=8, minor=6))

    def cudaGetErrorString(error: Any) -> Any:  # noqa: N802
        return Status.cudaSuccess, f"words for {error.name}".encode()

    def cudaMalloc(size: int) -> Any:  # noqa: N802
        block = np.zeros(size + 256, np.uint8)
        address = block.ctypes.data + -block.ctypes.data % 256
        result = answer("cudaMalloc", address)
        if result[0] == 0:
            machine.memory[address] = block[address - block.ctypes.data :]
        return result

    def cudaFree(devPtr: int) -> Any:  # noqa: N802, N803
        machine.memory.pop(int(devPtr), None)
        return answer("cudaFree")

    def cudaHostRegister(ptr: int, size: int, flags: int) -> Any:  # noqa: N802
        assert ptr % 4096 == 0 and size % 4096 == 0
        result = answer("cudaHostRegister")
        if result[0] == 0:
            machine.locked.add(ptr)
        return result

    def cudaHostUnregister(ptr: int) -> Any:  # noqa: N802
        machine.locked.discard(ptr)
        return answer("cudaHostUnregister")

    def cudaMemcpyAsync(dst: int, src: int, count: int, kind: str, stream: int) -> Any:  # noqa: N802
        machine.at(dst if kind == "cudaMemcpyHostToDevice" else src, count)
        result = answer(kind)
        if result[0] == 0:
            machine.do(lambda: ctypes.memmove(dst, src, count))
        return result

    def cudaStreamCreateWithFlags(flags: int) -> Any:  # noqa: N802
        return answer("cudaStreamCreateWithFlags", next(streams))

    def cudaStreamDestroy(stream: int) -> Any:  # noqa: N802
        return answer("cudaStreamDestroy")

    def cudaStreamSynchronize(stream: int) -> Any:  # noqa: N802
        assert machine.recording is None
        return answer("cudaStreamSynchronize")

    def cudaStreamBeginCapture(stream: int, mode: str) -> Any:  # noqa: N802
        result = answer("cudaStreamBeginCapture")
        if result[0] == 0:
            machine.recording = []
        return result

    def cudaStreamEndCapture(stream: int) -> Any:  # noqa: N802
        recorded, machine.recording = machine.recording, None
        return answer("cudaStreamEndCapture", recorded)

    def cudaGraphInstantiate(graph: list[Callable[[], None]], flags: int) -> Any:  # noqa: N802
        machine.graphs[id(graph)] = graph
        return answer("cudaGraphInstantiate", id(graph))

    def cudaGraphLaunch(graphExec: int, stream: int) -> Any:  # noqa: N802, N803
        result = answer("cudaGraphLaunch")
        if result[0] == 0:
            for work in machine.graphs[graphExec]:
                work()
        return result

    def cudaGraphDestroy(graph: Any) -> Any:  # noqa: N802
        return answer("cudaGraphDestroy")

    def cudaGraphExecDestroy(graphExec: int) -> Any:  # noqa: N802, N803
        machine.graphs.pop(graphExec, None)
        return answer("cudaGraphExecDestroy")

    module = ModuleType("cuda.bindings.runtime")
    module.__dict__.update({name: made for name, made in locals().items() if name.startswith("cuda")})
    module.cudaStreamNonBlocking = 1
    ways = ("cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost")
    module.cudaMemcpyKind = SimpleNamespace(**{way: way for way in ways})
    module.cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread")
    return module
