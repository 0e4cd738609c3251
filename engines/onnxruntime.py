"""ONNX Runtime: runs everywhere; on a GPU through CUDA, DirectML or CoreML, else on the processor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engines.base import (
    BufferedEngine,
    ContractMismatch,
    EngineBuildError,
    EngineOptions,
    EngineRunError,
    EngineUnavailable,
    ModelCorrupt,
    TensorSpec,
    static_shape,
)
from engines.manifest import Model

try:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as failures
except ImportError as error:
    raise EngineUnavailable("The package onnxruntime is not installed", "pip install onnxruntime") from error

#: Best first: device name to provider and the file that it is fastest with. CoreML halves by itself what it can.
_PROVIDERS = {
    "CUDA": ("CUDAExecutionProvider", "fp16"),
    "DirectML": ("DmlExecutionProvider", "fp16"),
    "CoreML": ("CoreMLExecutionProvider", "fp32"),
    "CPU": ("CPUExecutionProvider", "fp32"),
}
_NO_MODEL = (failures.InvalidProtobuf, failures.InvalidArgument, failures.NoModel)
_FAILURES = (
    failures.EPFail,
    failures.Fail,
    failures.InvalidArgument,
    failures.InvalidGraph,
    failures.NotImplemented,
    failures.RuntimeException,
    RuntimeError,
)
_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}


class OnnxRuntimeEngine(BufferedEngine):
    """One session, its inputs and outputs bound to this engine's arrays."""

    backend = "onnxruntime"

    def __init__(self, model: Model, device: str, options: EngineOptions) -> None:
        if options.precision == "bf16":
            raise EngineUnavailable("ONNX Runtime does not compute in bf16", "Choose precision auto, fp32 or fp16.")
        provider, fastest = _PROVIDERS[device]
        precision, path = model.pick(fastest if options.precision == "auto" else options.precision)
        self._session: Any = _open_session(path, provider, options.threads)
        if self._session.get_providers()[0] != provider:
            raise EngineUnavailable(f"ONNX Runtime has {provider}, but it does not start here")
        inputs = [_input_spec(node, model, options) for node in self._session.get_inputs()]
        super().__init__(device, precision, inputs, _run_once(self._session, inputs))
        self._binding: Any = self._session.io_binding()
        for name, array in self._results.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    @staticmethod
    def devices() -> Sequence[str]:
        present = onnxruntime.get_available_providers()
        return tuple(device for device, (provider, _) in _PROVIDERS.items() if provider in present)

    def _execute(self) -> None:
        try:
            # Bound anew for each run: on a GPU it is the binding that takes the array there.
            for name, array in self._feeds.items():
                self._binding.bind_cpu_input(name, array)
            self._session.run_with_iobinding(self._binding)
            self._binding.synchronize_outputs()
        except _FAILURES as error:
            raise EngineRunError(f"ONNX Runtime failed: {_reason(error)}") from error

    def _release(self) -> None:
        self._binding = self._session = None


def _open_session(path: Path, provider: str, threads: int) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.log_severity_level = 4  # what goes wrong is raised; it need not be printed too
    # Threads that spin while they wait for the next frame would keep the cores busy for nothing.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider == "DmlExecutionProvider":
        settings.enable_mem_pattern = False  # DirectML demands it
    providers = [provider] if provider == "CPUExecutionProvider" else [provider, "CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(str(path), settings, providers=providers)
    except _NO_MODEL as error:
        raise ModelCorrupt(f"{path} is no ONNX model: {_reason(error)}", "Export it again.") from error
    except _FAILURES as error:
        raise EngineBuildError(f"ONNX Runtime cannot load {path.name}: {_reason(error)}") from error


def _input_spec(node: Any, model: Model, options: EngineOptions) -> TensorSpec:
    if node.type not in _TYPES:
        raise ContractMismatch(f"{node.name} is a {node.type}; an input has to be uint8 or float")
    declared = [size if isinstance(size, int) else None for size in node.shape]
    wanted = options.input_shapes.get(node.name, model.inputs.get(node.name))
    return TensorSpec(node.name, static_shape(node.name, declared, wanted), _TYPES[node.type])


def _run_once(session: Any, inputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """The outputs as they really come: open axes get their sizes only by running. It also warms the session."""
    try:
        results = session.run(None, {spec.name: np.zeros(spec.shape, spec.dtype) for spec in inputs})
    except _FAILURES as error:
        raise EngineRunError(f"ONNX Runtime failed: {_reason(error)}") from error
    nodes = session.get_outputs()
    return [TensorSpec(node.name, result.shape, result.dtype.name) for node, result in zip(nodes, results, strict=True)]


def _reason(error: Exception) -> str:
    """Without the marks in front: "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from ..."."""
    return str(error).split(" : ", 3)[-1].strip()
