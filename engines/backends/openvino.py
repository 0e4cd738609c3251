"""OpenVINO: the fastest backend without a GPU, even more so on processors with bf16 (AMX).

It reads the FP32 file and computes in bf16 if asked to, or reads the int8 file. Its GPU and NPU plug-ins are included;
without such devices at development time, those two are only tested as far as possible without one.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from engines.base import BufferedEngine, EngineOptions, Precision, TensorSpec, static_shape
from engines.cache import CacheKey, EngineCache
from engines.errors import CacheUnusable, EngineBuildError, EngineRunError, EngineUnavailable, ModelCorrupt
from engines.installing import install_extra
from engines.manifest import Model, sha256_of
from engines.offline import import_offline

try:
    openvino = import_offline("openvino")
    frontends = import_offline("openvino.frontend")
except ImportError as error:
    hint = f"it halves the time on Intel and AMD processors: {install_extra('openvino')}"
    raise EngineUnavailable("the package openvino is not installed", hint) from error

_TYPES = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16, "fp16": openvino.Type.f16}
_PRECISIONS: dict[str, Precision] = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}

_log = logging.getLogger(__name__)


class OpenVinoEngine(BufferedEngine):
    """Compiled model with one infer request, bound to this engine's arrays."""

    backend = "openvino"

    def __init__(self, model: Model, device: str, options: EngineOptions) -> None:
        precision = _choose_precision(device, model, options.precision)
        path = model.pick("int8" if precision == "int8" else "fp32")[1]
        try:
            compiled = _compile(model, path, device, precision, options)
            self._request: Any = compiled.create_infer_request()
        except RuntimeError as error:
            raise EngineBuildError(f"OpenVINO cannot compile {model.name}: {_reason(error)}") from error
        super().__init__(device, precision, _specs(compiled.inputs), _specs(compiled.outputs))
        for name, array in (self._feeds | self._results).items():
            self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        self._execute()  # the first run is slow

    @staticmethod
    def devices() -> Sequence[str]:
        """Graphics card, processor and neural processor, as far as they exist."""
        return _devices()

    @staticmethod
    def precisions(model: Model, device: str) -> Sequence[Precision]:
        """Precisions that lose nothing, fastest first; int8 only on request.

        On a processor with AVX512-VNNI and without AMX, OpenVINO 2026.4 runs the restorer's int8 file with an error of
        13 of 255 in the hole; ONNX Runtime runs the same file with 2.6.
        """
        return (_default_precision(device),)

    def _execute(self) -> None:
        try:
            self._request.infer(share_outputs=True)  # else every output is copied once more
        except RuntimeError as error:
            raise EngineRunError(f"OpenVINO failed: {_reason(error)}") from error

    def _release(self) -> None:
        self._request = None


@cache
def _core() -> Any:
    """OpenVINO core, shared by the process: a second one would load every plug-in again."""
    return openvino.Core()


@cache
def _devices() -> tuple[str, ...]:
    """Devices, best first: GPU (or GPU.0 and so on), CPU, NPU. A neural processor compiles slowly and comes last."""
    order = ("GPU", "CPU", "NPU")
    found = [device for device in _core().available_devices if device.partition(".")[0] in order]
    return tuple(sorted(found, key=lambda device: order.index(device.partition(".")[0])))


def _default_precision(device: str) -> Precision:
    """OpenVINO's own choice: bf16 if the processor is fast at it, else fp32; fp16 on ARM and other devices."""
    if device != "CPU":
        return "fp16"
    return _PRECISIONS[_core().get_property(device, "INFERENCE_PRECISION_HINT").to_string()]


def _choose_precision(device: str, model: Model, wanted: Precision) -> Precision:
    if wanted == "auto":
        return OpenVinoEngine.precisions(model, device)[0]
    if wanted.upper() not in _core().get_property(device, "OPTIMIZATION_CAPABILITIES"):
        raise EngineUnavailable(f"{device} cannot compute in {wanted}", "choose precision auto or fp32")
    return wanted


def _properties(device: str, precision: Precision, options: EngineOptions) -> dict[str, Any]:
    floats = _default_precision(device) if precision == "int8" else precision  # precision of the layers that stay exact
    properties: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _TYPES[floats]}
    if device == "CPU":
        # A thread pinned to a core waits there while another program uses the core.
        properties["ENABLE_CPU_PINNING"] = False
        if options.threads:
            properties["INFERENCE_NUM_THREADS"] = options.threads
    return properties


def _compile(model: Model, path: Path, device: str, precision: Precision, options: EngineOptions) -> Any:
    """Compiles the network, or loads it from the cache, which halves the startup time.

    A cache that cannot be used only costs that time. Raises RuntimeError, EngineBuildError, ModelError.
    """

    def build() -> tuple[bytes, dict[str, Any]]:
        network = _read_network(path)
        network.reshape({port.any_name: _input_shape(port, model, options) for port in network.inputs})
        made.append(_core().compile_model(network, device, properties))
        content = io.BytesIO()
        made[0].export_model(content)
        return content.getvalue(), {}

    made: list[Any] = []
    properties = _properties(device, precision, options)
    if "EXPORT_IMPORT" not in _core().get_property(device, "OPTIMIZATION_CAPABILITIES"):
        build()
        return made[0]
    engines, key = EngineCache(), CacheKey(model.name, _facts(model, path, device, precision, options))
    try:
        content = engines.obtain(key, build)
        if not made:
            try:
                return _core().import_model(io.BytesIO(content), device, properties)
            except RuntimeError as error:
                _log.warning("the cached %s does not load: %s", model.name, _reason(error))
                engines.delete(key)
    except CacheUnusable as error:
        _log.warning("%s", error.message)
    if not made:
        build()
    return made[0]


def _facts(model: Model, path: Path, device: str, precision: Precision, options: EngineOptions) -> dict[str, Any]:
    """Everything that the compiled network depends on."""
    properties = _properties(device, precision, options)
    return {
        "model_sha256": sha256_of(path),
        "backend": OpenVinoEngine.backend,
        "library": f"openvino {openvino.get_version()}",
        "device": device,
        "architecture": _core().get_property(device, "FULL_DEVICE_NAME"),
        "capabilities": sorted(_core().get_property(device, "OPTIMIZATION_CAPABILITIES")),
        "precision": precision,
        "properties": {name: str(value) for name, value in properties.items()},
        "shapes": {name: list(shape) for name, shape in {**model.inputs, **options.input_shapes}.items()},
    }


def _read_network(path: Path) -> Any:
    """Reads through the ONNX frontend: `Core.read_model` tries every format and prints an error for each."""
    try:
        frontend = frontends.FrontEndManager().load_by_framework("onnx")
        network = frontend.convert(frontend.load(str(path)))
    except frontends.GeneralFailure as error:
        raise ModelCorrupt(f"{path} is not an ONNX model: {_reason(error)}", "export it again") from error
    except (frontends.OpConversionFailure, frontends.OpValidationFailure) as error:
        raise EngineBuildError(f"OpenVINO does not know {path.name}: {_reason(error)}") from error
    if not network.outputs:
        raise ModelCorrupt(f"{path} is not an ONNX model: it is empty", "export it again")
    return network


def _input_shape(port: Any, model: Model, options: EngineOptions) -> tuple[int, ...]:
    name = port.any_name
    declared = [None if size.is_dynamic else size.get_length() for size in port.partial_shape]
    return static_shape(name, declared, options.input_shapes.get(name, model.inputs.get(name)))


def _specs(ports: Sequence[Any]) -> list[TensorSpec]:
    """Specifications of the outputs. Raises EngineBuildError if a shape depends on the input's values."""
    for port in ports:
        if port.partial_shape.is_dynamic:
            raise EngineBuildError(f"the shape of {port.any_name} is not known before the model runs")
    return [TensorSpec(port.any_name, tuple(port.shape), port.element_type.to_dtype().name) for port in ports]


def _reason(error: Exception) -> str:
    """Last line of an error; the lines before it hold source files and check numbers."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "no reason given")
