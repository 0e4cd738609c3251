"""TensorRT on a GPU that is not there: stand-ins for its libraries that record calls and really compute.

They take the place of the modules `tensorrt_rtx` (or `tensorrt`) and, with cuda_standin.py, `cuda.bindings.runtime`. A
plan holds its ONNX file, and a run goes through ONNX Runtime: so inputs, outputs, copies, their order and all errors'
paths are tested as they are. test_standin.py holds names and parameters against those of the real libraries.
"""

from __future__ import annotations

import ctypes
import enum
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest

from engines.offline import import_offline
from tests.harness.cuda_standin import Machine, cuda_runtime
from tests.harness.fakes import WAIT_S

onnxruntime = import_offline("onnxruntime")
MAGIC = b"vtrt-standin"


class DataType(enum.Enum):
    FLOAT, HALF, UINT8 = range(3)


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class EngineValidity(enum.IntEnum):
    VALID, SUBOPTIMAL, INVALID = range(3)


class EngineInvalidityDiagnostics(enum.IntFlag):
    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2
    OLD_CUDA_DRIVER = 4
    OLD_CUDA_RUNTIME = 8
    INSUFFICIENT_GPU_MEMORY = 16
    MALFORMED_ENGINE = 32
    CUDA_ERROR = 64


class ComputeCapability(enum.IntEnum):
    NONE, CURRENT, SM75, SM86, SM89, SM120 = 0, 1, 75, 86, 89, 120


class CudaGraphStrategy(enum.Enum):
    DISABLED, WHOLE_GRAPH_CAPTURE = range(2)


class HardwareCompatibilityLevel(enum.Enum):
    NONE, AMPERE_PLUS = range(2)


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 0


class ErrorCode(enum.Enum):
    MODEL_DESERIALIZE_FAILED, UNSUPPORTED_NODE = range(2)


class Severity(enum.Enum):
    INTERNAL_ERROR, ERROR, INFO = range(3)


class ILogger:
    def __init__(self) -> None: ...


class IProgressMonitor:
    def __init__(self) -> None: ...


ONNX_TYPES = {onnx.TensorProto.FLOAT: "FLOAT", onnx.TensorProto.FLOAT16: "HALF", onnx.TensorProto.UINT8: "UINT8"}
#: What only TensorRT for RTX has; classic TensorRT is the rest.
RTX_ONLY = (
    "get_engine_validity",
    "cuda_graph_strategy",
    "create_runtime_cache",
    "set_runtime_cache",
    "set_compute_capability",
    "ComputeCapability",
    "CudaGraphStrategy",
    "EngineValidity",
    "EngineInvalidityDiagnostics",
    "IRuntimeCache",
)


def tensorrt(machine: Machine, name: str = "tensorrt_rtx") -> ModuleType:
    """The library; as "tensorrt" without what only TensorRT for RTX has."""
    module = ModuleType(name)
    module.__version__ = "1.0.0"
    kinds = {**_build_half(machine), **_runtime_half(machine)}
    if name == "tensorrt":
        for kind in kinds.values():
            for word in RTX_ONLY:
                if word in vars(kind):
                    delattr(kind, word)
    kinds |= {kind.__name__: kind for kind in (ILogger, IProgressMonitor, *ENUMERATIONS)}
    module.__dict__.update({word: kind for word, kind in kinds.items() if name != "tensorrt" or word not in RTX_ONLY})
    return module


ENUMERATIONS = (
    DataType,
    TensorIOMode,
    EngineValidity,
    EngineInvalidityDiagnostics,
    ComputeCapability,
    CudaGraphStrategy,
    HardwareCompatibilityLevel,
    NetworkDefinitionCreationFlag,
)


def _build_half(machine: Machine) -> dict[str, type]:
    class ITensor:
        def __init__(self, name: str, shape: tuple[int, ...], kind: str) -> None:
            self.name, self.shape, self.dtype = name, shape, DataType[kind]

    class INetworkDefinition:
        def __init__(self) -> None:
            self.content = b""
            self.inputs: list[ITensor] = []
            self.outputs: list[ITensor] = []
            self.halves = 0

        num_inputs = property(lambda self: len(self.inputs))
        num_outputs = property(lambda self: len(self.outputs))
        num_layers = property(lambda self: 1)

        def get_input(self, index: int) -> ITensor:
            return self.inputs[index]

        def get_output(self, index: int) -> ITensor:
            return self.outputs[index]

        def get_layer(self, index: int) -> Any:
            tensor = ITensor("inside", (), "HALF" if self.halves else "FLOAT")
            return SimpleNamespace(num_outputs=1, get_output=lambda at: tensor)

    class OnnxParser:
        def __init__(self, network: INetworkDefinition, logger: Any) -> None:
            self._network = network
            self._errors: list[Any] = []

        num_errors = property(lambda self: len(self._errors))

        def parse(self, model: bytes, path: str | None = None) -> bool:
            network = self._network
            try:
                graph = onnx.load_from_string(model).graph
            except Exception:  # noqa: BLE001  protobuf's own errors
                self._errors = [_parser_error("MODEL_DESERIALIZE_FAILED", "no protobuf", "", "")]
                return False
            network.content = model
            network.inputs, network.outputs = (
                [_tensor(item) for item in items] for items in (graph.input, graph.output)
            )
            attributes = [attribute for node in graph.node for attribute in node.attribute]
            network.halves = sum(item.data_type == onnx.TensorProto.FLOAT16 for item in graph.initializer) + sum(
                item.name == "to" and item.i == onnx.TensorProto.FLOAT16 for item in attributes
            )
            return True

        def get_error(self, index: int) -> Any:
            return self._errors[index]

    class IBuilderConfig:
        def __init__(self) -> None:
            self.num_compute_capabilities = 0
            self.progress_monitor: Any = None
            self.hardware_compatibility_level = HardwareCompatibilityLevel.NONE
            self.target = "portable"

        def set_compute_capability(self, compute_capability: ComputeCapability, index: int) -> bool:
            assert 0 <= index < self.num_compute_capabilities
            self.target = compute_capability.name
            return True

    class Builder:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def create_network(self, flags: int) -> INetworkDefinition:
            assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
            return INetworkDefinition()

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
            said = machine.fails("build_serialized_network")
            if said:
                self._logger.log(Severity.ERROR, said)
                return None
            monitor = config.progress_monitor
            monitor.phase_start("Building", None, 2)
            for step in range(2):
                if not monitor.step_complete("Building", step):
                    return None
                assert machine.may_build.wait(WAIT_S)
            monitor.phase_finish("Building")
            machine.builds += 1
            shapes = {item.name: tuple(item.shape) for item in network.inputs}
            header = json.dumps({"target": config.target, "shapes": shapes}).encode()
            return MAGIC + len(header).to_bytes(4, "big") + header + network.content

    def _tensor(item: Any) -> ITensor:
        kind = item.type.tensor_type
        shape = tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in kind.shape.dim)
        return ITensor(item.name, shape, ONNX_TYPES[kind.elem_type])

    def _parser_error(code: str, why: str, node: str, operator: str) -> Any:
        return SimpleNamespace(
            code=lambda: ErrorCode[code], desc=lambda: why, node_name=lambda: node, node_operator=lambda: operator
        )

    kinds = (ITensor, INetworkDefinition, OnnxParser, IBuilderConfig, Builder)
    return {kind.__name__: kind for kind in kinds}


def _runtime_half(machine: Machine) -> dict[str, type]:
    class IRuntimeCache:
        def __init__(self) -> None:
            self.content = b""

        def deserialize(self, blob: bytes) -> bool:
            machine.calls.append("runtime cache taken" if blob == b"compiled" else "runtime cache refused")
            self.content = blob if blob == b"compiled" else b""
            return blob == b"compiled"

        def serialize(self) -> bytes:
            return self.content

    class IRuntimeConfig:
        cuda_graph_strategy = CudaGraphStrategy.DISABLED
        _cache: ClassVar[Any] = None

        def create_runtime_cache(self) -> IRuntimeCache:
            return IRuntimeCache()

        def set_runtime_cache(self, cache: IRuntimeCache | None = None) -> bool:
            self._cache = cache
            return True

    class IExecutionContext:
        def __init__(self, engine: ICudaEngine, config: Any) -> None:
            self._engine, self._config = engine, config
            self._addresses: dict[str, int] = {}

        def set_tensor_address(self, name: str, memory: int) -> bool:
            assert memory % 256 == 0
            machine.at(memory, 1)
            self._addresses[name] = memory
            return not machine.fails("set_tensor_address")

        def execute_async_v3(self, stream_handle: int) -> bool:
            assert type(stream_handle) is int
            said = machine.fails("execute_async_v3")
            if said:
                self._engine.logger.log(Severity.ERROR, said)
                return False
            if machine.recording is not None and "capture" in machine.failing:
                self._engine.logger.log(Severity.ERROR, "operation not permitted when stream is capturing")
                return False
            machine.do(self._compute)
            jit_cache = getattr(self._config, "_cache", None)
            if jit_cache is not None:
                jit_cache.content = b"compiled"
            return True

        def _compute(self) -> None:
            feeds = {name: self._memory_of(name) for name in self._engine.input_shapes}
            results = self._engine.session.run(None, feeds)
            for node, result in zip(self._engine.session.get_outputs(), results, strict=True):
                np.copyto(self._memory_of(node.name), 255 - result if machine.computes_rubbish else result)

        def _memory_of(self, name: str) -> np.ndarray:
            shape, dtype = self._engine.shapes[name], self._engine.dtypes[name]
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            machine.at(self._addresses[name], size)
            raw = (ctypes.c_uint8 * size).from_address(self._addresses[name])
            return np.frombuffer(raw, dtype).reshape(shape)

    class ICudaEngine:
        def __init__(self, plan: bytes, logger: Any) -> None:
            start = len(MAGIC) + 4
            end = start + int.from_bytes(plan[len(MAGIC) : start], "big")
            header = json.loads(plan[start:end])
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.log_severity_level = 1, 4
            self.session = onnxruntime.InferenceSession(plan[end:], options, providers=["CPUExecutionProvider"])
            self.logger = logger
            self.input_shapes: Mapping[str, Any] = {name: tuple(shape) for name, shape in header["shapes"].items()}
            results = self.session.run(None, {name: np.zeros(s, np.uint8) for name, s in self.input_shapes.items()})
            outputs = {node.name: result for node, result in zip(self.session.get_outputs(), results, strict=True)}
            self.shapes = {**self.input_shapes, **{name: result.shape for name, result in outputs.items()}}
            self.dtypes = {name: np.dtype(np.uint8) for name in self.input_shapes}
            self.dtypes |= {name: result.dtype for name, result in outputs.items()}

        num_io_tensors = property(lambda self: len(self.shapes))

        def get_tensor_name(self, index: int) -> str:
            return list(self.shapes)[index]

        def get_tensor_dtype(self, name: str) -> DataType:
            return {"uint8": DataType.UINT8, "float32": DataType.FLOAT, "float16": DataType.HALF}[
                self.dtypes[name].name
            ]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self.shapes[name]

        def get_tensor_mode(self, name: str) -> TensorIOMode:
            return TensorIOMode.INPUT if name in self.input_shapes else TensorIOMode.OUTPUT

        def create_runtime_config(self) -> IRuntimeConfig:
            return IRuntimeConfig()

        def create_execution_context(self, runtime_config: IRuntimeConfig | None = None) -> IExecutionContext | None:
            said = machine.fails("create_execution_context")
            if said:
                self.logger.log(Severity.ERROR, said)
                return None
            machine.calls.append(f"graphs: {getattr(runtime_config, 'cuda_graph_strategy', None)}")
            return IExecutionContext(self, runtime_config)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def get_engine_validity(self, buffer: bytes) -> tuple[EngineValidity, int]:
            machine.calls.append("get_engine_validity")
            if not buffer.startswith(MAGIC):
                return EngineValidity.INVALID, int(EngineInvalidityDiagnostics.MALFORMED_ENGINE)
            return EngineValidity[machine.validity], machine.complaints

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
            said = machine.fails("deserialize_cuda_engine")
            if said or not serialized_engine.startswith(MAGIC):
                self._logger.log(Severity.ERROR, said or "not a plan")
                return None
            return ICudaEngine(serialized_engine, self._logger)

    kinds = (Runtime, ICudaEngine, IExecutionContext, IRuntimeConfig, IRuntimeCache)
    return {kind.__name__: kind for kind in kinds}


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, library: str = "tensorrt_rtx") -> Machine:
    """Puts the stand-ins where the real modules would be imported from, and an empty cache in `folder`."""
    machine = Machine()
    for name in ("tensorrt_rtx", "tensorrt"):
        monkeypatch.setitem(sys.modules, name, tensorrt(machine, name) if name == library else None)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda_runtime(machine))
    monkeypatch.setenv("OCCLUFIX_CACHE_DIR", str(folder))
    return machine
