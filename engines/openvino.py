"""OpenVINO on the processor: the fastest way on a machine without a GPU, more so where it has bf16 (AMX).

It reads the FP32 file and computes in bf16 on wish by itself; our networks compile in well under a second, so
nothing is cached.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engines.base import (
    BufferedEngine,
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
    import openvino
    from openvino.frontend import FrontEndManager, GeneralFailure, OpConversionFailure, OpValidationFailure
except ImportError as error:
    raise EngineUnavailable("The package openvino is not installed", "pip install openvino") from error

_TYPES = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16, "fp16": openvino.Type.f16}
_PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}


class OpenVinoEngine(BufferedEngine):
    """One compiled model and one infer request, bound to this engine's arrays once and for all."""

    backend = "openvino"

    def __init__(self, model: Model, device: str, options: EngineOptions) -> None:
        core = openvino.Core()
        precision = _choose_precision(core, options.precision)
        network = _read_network(model.pick("fp32")[1])
        properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _TYPES[precision],
            # A thread that is bound to a core waits there while another program uses it.
            "ENABLE_CPU_PINNING": False,
        }
        if options.threads:
            properties["INFERENCE_NUM_THREADS"] = options.threads
        try:
            shapes = {port.any_name: _input_shape(port, model, options) for port in network.inputs}
            network.reshape(shapes)
            compiled = core.compile_model(network, device, properties)
            self._request: Any = compiled.create_infer_request()
        except RuntimeError as error:
            raise EngineBuildError(f"OpenVINO cannot compile {model.name}: {_reason(error)}") from error
        super().__init__(device, precision, _specs(compiled.inputs), _specs(compiled.outputs))
        for name, array in (self._feeds | self._results).items():
            self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        self._execute()  # the first run is the slow one

    @staticmethod
    def devices() -> Sequence[str]:
        return ("CPU",)

    def _execute(self) -> None:
        try:
            self._request.infer()
        except RuntimeError as error:
            raise EngineRunError(f"OpenVINO failed: {_reason(error)}") from error

    def _release(self) -> None:
        self._request = None


def _choose_precision(core: Any, wanted: str) -> str:
    """On "auto" what OpenVINO itself takes for this processor: bf16 where that is fast, else fp32 (fp16 on ARM)."""
    if wanted == "auto":
        return _PRECISIONS[core.get_property("CPU", "INFERENCE_PRECISION_HINT").to_string()]
    if wanted.upper() not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise EngineUnavailable(f"This processor cannot compute in {wanted}", "Choose precision auto or fp32.")
    return wanted


def _read_network(path: Path) -> Any:
    """Through the ONNX frontend: `Core.read_model` tries all formats and prints what each thinks of a broken file."""
    try:
        frontend = FrontEndManager().load_by_framework("onnx")
        network = frontend.convert(frontend.load(str(path)))
    except GeneralFailure as error:
        raise ModelCorrupt(f"{path} is no ONNX model: {_reason(error)}", "Export it again.") from error
    except (OpConversionFailure, OpValidationFailure) as error:
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
