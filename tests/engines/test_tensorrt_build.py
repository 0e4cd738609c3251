"""Building with the real TensorRT for RTX, which needs no GPU: the shipped networks, for every architecture."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from onnx import TensorProto, helper

from engines import ContractMismatch, EngineBuildError, EngineOptions, EngineUnavailable, ModelCorrupt, manifest
from engines.backends.tensorrt_plan import PORTABLE, Plan, PlanRequest, architectures, build_plan, plan_request
from engines.manifest import Model, ModelFile
from tests.harness.models import write_graph, write_models

try:
    import tensorrt_rtx
except ImportError as error:
    pytest.skip(f"NOTHING IS BUILT with TensorRT: tensorrt-rtx is not installed ({error})", allow_module_level=True)

SHIPPED = list(manifest.read_manifest())
LIBRARY: ModuleType = tensorrt_rtx


@pytest.fixture(scope="module")
def build() -> Callable[[str, str, str], Plan]:
    """Builds each model only once for all tests."""
    built: dict[tuple[str, str, str], Plan] = {}

    def build_once(name: str, precision: str, architecture: str) -> Plan:
        wanted = name, precision, architecture
        if wanted not in built:
            options = EngineOptions(precision=precision)
            built[wanted] = build_plan(LIBRARY, plan_request(manifest.read_manifest()[name], options, architecture))
        return built[wanted]

    return build_once


def order_for(path: Path) -> PlanRequest:
    return plan_request(Model(path.name, {manifest.OWN: ModelFile(path, "")}), EngineOptions(), "sm86")


@pytest.mark.parametrize("architecture", ["sm75", "sm86", "sm89", "sm120", PORTABLE])
@pytest.mark.parametrize("name", SHIPPED)
def test_every_model_builds_for_every_architecture(
    build: Callable[[str, str, str], Plan], name: str, architecture: str
) -> None:
    assert len(build(name, "fp16", architecture).content) > 500_000


@pytest.mark.parametrize("name", SHIPPED)
def test_half_precision_is_half_in_types_and_in_size(build: Callable[[str, str, str], Plan], name: str) -> None:
    half, full = build(name, "fp16", "sm86"), build(name, "fp32", "sm86")

    assert full.tensors.get("HALF", 0) == 0
    assert half.tensors["HALF"] > 3 * half.tensors.get("FLOAT", 0)
    weights = manifest.read_manifest()[name].pick("fp32")[1].stat().st_size
    # Half of the weights, less the code of kernels: of `restore`, which has many small ones, FP16 needs more of it.
    assert len(full.content) - len(half.content) > (0.25 if name == "restore" else 0.35) * weights


def test_no_convolution_of_a_half_network_computes_in_full_precision() -> None:
    logger = LIBRARY.Logger(LIBRARY.Logger.ERROR)
    for model in manifest.read_manifest().values():
        builder = LIBRARY.Builder(logger)
        network = builder.create_network(1 << int(LIBRARY.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        assert LIBRARY.OnnxParser(network, logger).parse(model.pick("fp16")[1].read_bytes())
        layers = [network.get_layer(at) for at in range(network.num_layers)]
        heavy = [layer for layer in layers if layer.type == LIBRARY.LayerType.CONVOLUTION]
        assert heavy
        assert {layer.get_output(0).dtype for layer in heavy} == {LIBRARY.DataType.HALF}, model.name


def test_the_tests_own_models_build_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the same suite runs where there is a GPU."""
    monkeypatch.setattr(manifest, "MODELS", write_models(tmp_path))
    for model in manifest.read_manifest().values():
        assert build_plan(LIBRARY, plan_request(model, EngineOptions(), "sm86")).tensors["HALF"]


def test_the_library_says_what_it_builds_for() -> None:
    assert {"sm75", "sm86", "sm89", "sm120", PORTABLE} <= set(architectures(LIBRARY))


def test_an_unknown_architecture_is_told_the_known_ones() -> None:
    with pytest.raises(EngineUnavailable, match="sm35") as unavailable:
        build_plan(LIBRARY, plan_request(manifest.read_manifest()["faces"], EngineOptions(), "sm35"))
    assert "sm86" in unavailable.value.hint and PORTABLE in unavailable.value.hint


def test_progress_grows_to_the_end_and_can_stop_it() -> None:
    wanted = plan_request(manifest.read_manifest()["faces"], EngineOptions(), "sm86")
    shares: list[float] = []
    build_plan(LIBRARY, wanted, lambda share: shares.append(share) is None)
    assert shares == sorted(shares) and shares[0] < 0.2 and shares[-1] == 1.0 and len(set(shares)) > 10

    with pytest.raises(EngineBuildError, match="stopped"):
        build_plan(LIBRARY, wanted, lambda share: share < 0.3)


def _uint8_inside(path: Path) -> Path:
    node = helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0], name="turn_it")
    return write_graph(path, [node], {"x": [2, 3]}, {"y": ("uint8", [3, 2])})


def _unknown_operator(path: Path) -> Path:
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Unique", ["f"], ["y"], name="look_for_doubles"),
    ]
    return write_graph(path, nodes, {"x": [6]}, {"y": ("float32", ["n"])})


@pytest.mark.parametrize(
    ("write", "said"),
    [(_uint8_inside, r"turn_it \(Transpose\): .*UInt8"), (_unknown_operator, r"look_for_doubles \(Unique\): ")],
)
def test_what_the_parser_does_not_know_is_one_clear_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], write: Callable[[Path], Path], said: str
) -> None:
    with pytest.raises(EngineBuildError, match=said) as failure:
        build_plan(LIBRARY, order_for(write(tmp_path / "odd.onnx")))
    assert "odd.onnx" in failure.value.message and "\n" not in failure.value.message
    assert len(failure.value.message) < 300
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "content", [b"", b"this is no model" * 9, b"\x08\x0a\x12\x07pytorch"], ids=["empty", "text", "cut"]
)
def test_what_is_no_model_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelCorrupt, match=r"own\.onnx"):
        build_plan(LIBRARY, order_for(path))


def test_a_builder_that_an_exception_kept_does_not_stop_the_next_one() -> None:
    """TensorRT logs with a lock held that a dying builder waits for: a collection in the midst of that never ended."""
    script = """
import gc, logging, tensorrt_rtx
from engines.backends import nvidia

class Collecting(logging.Handler):
    def emit(self, record): gc.collect()

logging.getLogger("engines.backends.nvidia").addHandler(Collecting())
logging.getLogger("engines.backends.nvidia").setLevel(logging.DEBUG)
gc.disable()
kept = [tensorrt_rtx.Builder(nvidia.make_logger(tensorrt_rtx))]
kept.append(kept)
del kept
with nvidia.no_garbage():
    tensorrt_rtx.Builder(nvidia.make_logger(tensorrt_rtx))
print("built")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "built\n", done.stderr


def test_open_axes_need_a_size_and_take_only_one_that_fits(tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    path = write_graph(tmp_path / "open.onnx", nodes, {"x": ["n", "w", 3]}, {"y": ("float32", ["n", "w", 3])})
    with pytest.raises(ContractMismatch, match=r"x is \?x\?x3"):
        build_plan(LIBRARY, order_for(path))
    wanted = plan_request(order_for(path).model, EngineOptions(input_shapes={"nobody": (1,)}), "sm86")
    with pytest.raises(ContractMismatch, match="nobody"):
        build_plan(LIBRARY, wanted)


def test_a_file_without_half_types_is_not_built_as_half(tmp_path: Path) -> None:
    full = manifest.read_manifest()["faces"].pick("fp32")[1]
    model = manifest.read_manifest()["faces"]
    wanted = PlanRequest(model, full, "fp16", "sm86", model.inputs)
    with pytest.raises(EngineBuildError, match="FP32"):
        build_plan(LIBRARY, wanted)


def test_two_builds_of_the_same_are_for_the_same_key() -> None:
    model = manifest.read_manifest()["faces"]
    keys = {plan_request(model, EngineOptions(), "sm86").key(LIBRARY, None).stem for _ in range(2)}
    other = plan_request(model, EngineOptions(input_shapes={"frame": (1, 160, 160, 3)}), "sm86").key(LIBRARY, None)
    assert len(keys) == 1 and other.stem not in keys
    assert np.array_equal(other.facts["shapes"]["frame"], [1, 160, 160, 3])
