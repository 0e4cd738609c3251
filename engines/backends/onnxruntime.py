"""ONNX Runtime: runs everywhere; on a GPU through TensorRT-RTX, CUDA, DirectML or CoreML, else on the processor.

Developed with a processor only: calls for the other devices are tested on a fake.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from engines.base import BufferedEngine, EngineOptions, Precision, TensorSpec, static_shape
from engines.errors import ContractMismatch, EngineBuildError, EngineRunError, EngineUnavailable, ModelCorrupt
from engines.installing import install_package
from engines.manifest import Model
from engines.offline import import_offline

#: Packages that all install a folder `onnxruntime`: the last one overwrites the files of the others.
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-qnn")


def side_by_side() -> str:
    """Command that repairs an installation with several of _PACKAGES; "" if there is nothing to repair."""
    found = [name for name in _PACKAGES if _is_installed(name)]
    if len(found) < 2:
        return ""
    return f"pip uninstall -y {' '.join(found)} && pip install {found[-1]}"


def _is_installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


try:
    onnxruntime = import_offline("onnxruntime")
    failures = import_offline("onnxruntime.capi.onnxruntime_pybind11_state")
except ModuleNotFoundError as error:
    raise EngineUnavailable("the package onnxruntime is not installed", install_package("onnxruntime")) from error
except Exception as error:  # a native library that does not load can raise anything
    reason = f"onnxruntime is broken: {' '.join(str(error).split())}"
    if mend := side_by_side():
        raise EngineUnavailable(f"{reason}; two of its packages overwrote each other", mend) from error
    raise EngineUnavailable(reason, "pip install --force-reinstall onnxruntime") from error

#: Best first: device name, provider and the precision that is fastest there. CoreML converts to half by itself.
_PROVIDERS: dict[str, tuple[str, Precision]] = {
    "TensorRT-RTX": ("NvTensorRTRTXExecutionProvider", "fp16"),
    "CUDA": ("CUDAExecutionProvider", "fp16"),
    "DirectML": ("DmlExecutionProvider", "fp16"),
    "CoreML": ("CoreMLExecutionProvider", "fp32"),
    "CPU": ("CPUExecutionProvider", "fp32"),
}
#: Providers in packages of their own, which ONNX Runtime has to load explicitly.
_PLUG_INS = {"TensorRT-RTX": "onnxruntime_ep_nv_tensorrt_rtx"}
#: Devices whose memory the engine copies to and from itself, by ONNX Runtime's name. Other providers copy themselves.
_OWN_MEMORY = {"CUDA": "cuda"}
#: A recorded graph is one launch instead of a hundred. It needs every tensor at a fixed address.
_GRAPH = {"CUDA": {"enable_cuda_graph": "1"}, "TensorRT-RTX": {"enable_cuda_graph": "1"}}
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
_log = logging.getLogger(__name__)

_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}


class OnnxRuntimeEngine(BufferedEngine):
    """Session with its inputs and outputs bound to this engine's arrays."""

    backend = "onnxruntime"

    def __init__(self, model: Model, device: str, options: EngineOptions) -> None:
        if options.precision == "bf16":
            raise EngineUnavailable("ONNX Runtime does not compute in bf16", "choose precision auto, fp32 or fp16")
        wanted = self.precisions(model, device)[0] if options.precision == "auto" else options.precision
        precision, path = model.pick(wanted)
        self._session: Any = _open_session(path, device, options.threads)
        inputs = [_input_spec(node, model, options) for node in self._session.get_inputs()]
        super().__init__(device, precision, inputs, _run_once(self._session, inputs))
        self._binding: Any = self._session.io_binding()
        self._there: dict[str, Any] = {}
        memory = _OWN_MEMORY.get(device, "")
        for name, array in (self._feeds | self._results).items():
            bind = self._binding.bind_input if name in self._feeds else self._binding.bind_output
            place = array.ctypes.data
            if memory:
                self._there[name] = onnxruntime.OrtValue.ortvalue_from_numpy(array, memory, 0)
                place = self._there[name].data_ptr()
            bind(name, memory or "cpu", 0, array.dtype, array.shape, place)
        self._execute()  # records the graph if there is one

    @staticmethod
    def devices() -> Sequence[str]:
        present = onnxruntime.get_available_providers()
        return tuple(
            device
            for device, (provider, _) in _PROVIDERS.items()
            if (_plug_in(device) if device in _PLUG_INS else provider in present)
        )

    @staticmethod
    def precisions(model: Model, device: str) -> Sequence[Precision]:
        """Precisions of a device. The processor includes int8 if `model` has it: timing shows which is faster."""
        fastest: Precision = _PROVIDERS[device][1] if model.has(_PROVIDERS[device][1]) else "fp32"
        return (fastest, "int8") if device == "CPU" and "int8" in model.files else (fastest,)

    @staticmethod
    def warning() -> str:
        mend = side_by_side()
        return f"two onnxruntime packages overwrote each other; fix: {mend}" if mend else ""

    def _execute(self) -> None:
        try:
            for name, value in self._there.items():
                if name in self._feeds:
                    value.update_inplace(self._feeds[name])
            self._session.run_with_iobinding(self._binding)
            self._binding.synchronize_outputs()
            for name, value in self._there.items():
                if name in self._results:
                    np.copyto(self._results[name], value.numpy())
        except _FAILURES as error:
            raise EngineRunError(f"ONNX Runtime failed: {_reason(error)}") from error

    def _release(self) -> None:
        self._binding = self._session = None
        self._there = {}


@cache
def _plug_in(device: str) -> tuple[Any, ...]:
    """ONNX Runtime devices that a plug-in of _PLUG_INS serves; empty if it is not installed or finds none."""
    try:
        package = importlib.import_module(_PLUG_INS[device])
        provider = _PROVIDERS[device][0]
        onnxruntime.register_execution_provider_library(provider, package.get_library_path())
        return tuple(one for one in onnxruntime.get_ep_devices() if one.ep_name == provider)
    except ModuleNotFoundError:
        return ()
    except Exception as error:  # noqa: BLE001  a broken plug-in must not disable the other devices
        _log.warning("cannot use the plug-in %s: %s", _PLUG_INS[device], _reason(error))
        return ()


def _open_session(path: Path, device: str, threads: int) -> Any:
    """Opens a session, with a recorded graph if device and model allow it. Raises EngineError."""
    try:
        if device in _GRAPH:
            try:
                return _session(path, device, threads, _GRAPH[device])
            except _FAILURES as error:
                _log.info("running %s without a graph: %s", path.name, _reason(error))
        return _session(path, device, threads, {})
    except _NO_MODEL as error:
        raise ModelCorrupt(f"{path} is not an ONNX model: {_reason(error)}", "export it again") from error
    except _FAILURES as error:
        raise EngineBuildError(f"ONNX Runtime cannot load {path.name}: {_reason(error)}") from error


def _session(path: Path, device: str, threads: int, provider_options: Mapping[str, str]) -> Any:
    provider, _ = _PROVIDERS[device]
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.log_severity_level = 4  # errors are raised; printing them as well is noise
    # Threads that spin while they wait for the next frame keep the cores busy for nothing.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if device == "DirectML":
        settings.enable_mem_pattern = False  # required by DirectML
    if device in _PLUG_INS:
        settings.add_provider_for_devices(_plug_in(device)[:1], dict(provider_options))
        session = onnxruntime.InferenceSession(str(path), settings)
    else:
        providers: list[Any] = [(provider, dict(provider_options))]
        providers += [] if device == "CPU" else ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(str(path), settings, providers=providers)
    if session.get_providers()[0] != provider:
        raise EngineUnavailable(f"ONNX Runtime has {provider}, but it does not start on this machine")
    return session


def _input_spec(node: Any, model: Model, options: EngineOptions) -> TensorSpec:
    if node.type not in _TYPES:
        raise ContractMismatch(f"{node.name} is a {node.type}; an input has to be uint8 or float")
    declared = [size if isinstance(size, int) else None for size in node.shape]
    wanted = options.input_shapes.get(node.name, model.inputs.get(node.name))
    return TensorSpec(node.name, static_shape(node.name, declared, wanted), _TYPES[node.type])


def _run_once(session: Any, inputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """Runs once and returns the outputs with their real sizes, which open axes have only then. Also warms up the
    session.
    """
    try:
        results = session.run(None, {spec.name: np.zeros(spec.shape, spec.dtype) for spec in inputs})
    except _FAILURES as error:
        raise EngineRunError(f"ONNX Runtime failed: {_reason(error)}") from error
    nodes = session.get_outputs()
    return [TensorSpec(node.name, result.shape, result.dtype.name) for node, result in zip(nodes, results, strict=True)]


def _reason(error: Exception) -> str:
    """Error text without its prefix: "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from ..."."""
    return str(error).split(" : ", 3)[-1].strip()
