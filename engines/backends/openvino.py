"""OpenVINO on the processor: the fastest way on a machine without a GPU, more so where it has bf16 (AMX).

It reads the FP32 file and computes in bf16 on wish by itself, or reads the int8 file.
Its GPU and NPU plug-ins come with it; Intel's devices were not at hand, so those two have only been tried as far as
that goes without one.
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
    hint = f"On Intel and AMD processors it halves the time: {install_extra('openvino')}"
    raise EngineUnavailable("The package openvino is not installed", hint) from error

_TYPES = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16, "fp16": openvino.Type.f16}
_PRECISIONS: dict[str, Precision] = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}

_log = logging.getLogger(__name__)


class OpenVinoEngine(BufferedEngine):
    """One compiled model and one infer request, bound to this engine's arrays once and for all."""

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
        self._execute()  # the first run is the slow one

    @staticmethod
    def devices() -> Sequence[str]:
        """A graphics card, the processor, a neural processor, as far as they are there."""
        return _devices()

    @staticmethod
    def precisions(model: Model, device: str) -> Sequence[Precision]:
        """What it is fastest in without loss: int8 only for who asks for it.

        On a processor with AVX512-VNNI and no AMX, OpenVINO 2026.4 ran the restorer's int8 file 13 of 255 off in the
        hole, ONNX Runtime the same file 2.6.
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
    """One for the whole process: a second one would load all its plug-ins again."""
    return openvino.Core()


@cache
def _devices() -> tuple[str, ...]:
    """Best first: GPU or GPU.0 and so on, CPU, NPU. A neural processor takes long to compile: it is last."""
    order = ("GPU", "CPU", "NPU")
    found = [device for device in _core().available_devices if device.partition(".")[0] in order]
    return tuple(sorted(found, key=lambda device: order.index(device.partition(".")[0])))


def _default_precision(device: str) -> Precision:
    """What OpenVINO itself takes: bf16 where the processor is fast in it, else fp32; fp16 on ARM and elsewhere."""
    if device != "CPU":
        return "fp16"
    return _PRECISIONS[_core().get_property(device, "INFERENCE_PRECISION_HINT").to_string()]


def _choose_precision(device: str, model: Model, wanted: Precision) -> Precision:
    if wanted == "auto":
        return OpenVinoEngine.precisions(model, device)[0]
    if wanted.upper() not in _core().get_property(device, "OPTIMIZATION_CAPABILITIES"):
        raise EngineUnavailable(f"{device} cannot compute in {wanted}", "Choose precision auto or fp32.")
    return wanted


def _properties(device: str, precision: Precision, options: EngineOptions) -> dict[str, Any]:
    floats = _default_precision(device) if precision == "int8" else precision  # of the layers that stay exact
    properties: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _TYPES[floats]}
    if device == "CPU":
        # A thread that is bound to a core waits there while another program uses it.
        properties["ENABLE_CPU_PINNING"] = False
        if options.threads:
            properties["INFERENCE_NUM_THREADS"] = options.threads
    return properties


def _compile(model: Model, path: Path, device: str, precision: Precision, options: EngineOptions) -> Any:
    """The compiled network; from the cache if it was compiled before, which halves the time of a start.

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
    """All that the compiled network hangs on."""
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
    """Through the ONNX frontend: `Core.read_model` tries all formats and prints what each thinks of a broken file."""
    try:
        frontend = frontends.FrontEndManager().load_by_framework("onnx")
        network = frontend.convert(frontend.load(str(path)))
    except frontends.GeneralFailure as error:
        raise ModelCorrupt(f"{path} is no ONNX model: {_reason(error)}", "Export it again.") from error
    except (frontends.OpConversionFailure, frontends.OpValidationFailure) as error:
        raise EngineBuildError(f"OpenVINO does not know {path.name}: {_reason(error)}") from error
    if not network.outputs:
        raise ModelCorrupt(f"{path} is no ONNX model: it holds nothing", "Export it again.")
    return network


def _input_shape(port: Any, model: Model, options: EngineOptions) -> tuple[int, ...]:
    name = port.any_name
    declared = [None if size.is_dynamic else size.get_length() for size in port.partial_shape]
    return static_shape(name, declared, options.input_shapes.get(name, model.inputs.get(name)))


def _specs(ports: Sequence[Any]) -> list[TensorSpec]:
    """Raises EngineBuildError where an output's shape depends on what is fed."""
    for port in ports:
        if port.partial_shape.is_dynamic:
            raise EngineBuildError(f"The shape of {port.any_name} is not known before the model runs")
    return [TensorSpec(port.any_name, tuple(port.shape), port.element_type.to_dtype().name) for port in ports]


def _reason(error: Exception) -> str:
    """The last line says it; before it stand source files and check numbers."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "no reason given")
