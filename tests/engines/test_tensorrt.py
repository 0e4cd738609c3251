"""Running through TensorRT, on the stand-in of its libraries: calls in order, recovery, and every error."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engines
from engines import (
    EngineBuildError,
    EngineOptions,
    EngineRunError,
    EngineUnavailable,
)
from engines.cache import EngineCache
from tests.conftest import ROOT
from tests.harness.cuda_standin import Machine
from tests.harness.models import write_faces
from tests.harness.tensorrt_engines import TENSORRT, works

pytestmark = pytest.mark.usefixtures("models")


def test_a_run_is_one_copy_there_the_network_and_one_copy_back(machine: Machine) -> None:
    engine = engines.load("restore", TENSORRT)
    machine.calls.clear()
    engine.run({spec.name: np.zeros(spec.shape, np.uint8) for spec in engine.inputs})

    assert machine.calls == [
        "cudaMemcpyHostToDevice",
        "execute_async_v3",
        "cudaMemcpyDeviceToHost",
        "cudaStreamSynchronize",
    ]


def test_a_run_keeps_no_memory(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even until the next garbage collection: whatever it makes, it makes once."""
    engine: Any = engines.load("hidden", TENSORRT)
    monkeypatch.setattr(type(engine._session._context), "_compute", lambda context: None)
    feeds = {"face": np.zeros((1, 256, 256, 3), np.uint8)}
    engine.run(feeds)
    gc.disable()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            machine.calls.clear()
            engine.run(feeds)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        gc.enable()
    assert kept < 10_000


def test_the_library_records_graphs_itself_where_it_can(machine: Machine) -> None:
    assert works(engines.load("hidden", TENSORRT))
    assert "graphs: CudaGraphStrategy.WHOLE_GRAPH_CAPTURE" in machine.calls
    assert "cudaStreamBeginCapture" not in machine.calls


def test_classic_tensorrt_is_recorded_and_launched_as_a_whole(classic: Machine) -> None:
    engine = engines.load("hidden", TENSORRT)
    classic.calls.clear()

    assert works(engine)
    assert classic.calls == ["cudaGraphLaunch", "cudaStreamSynchronize"]
    engine.close()
    assert classic.graphs == {}


@pytest.mark.parametrize(
    "failing",
    [
        {"cudaStreamBeginCapture": "cudaErrorStreamCaptureUnsupported"},
        {"capture": "yes"},
        {"cudaGraphInstantiate": "cudaErrorStreamCaptureUnsupported"},
        {"cudaGraphLaunch": "cudaErrorStreamCaptureUnsupported"},
    ],
    ids=lambda failing: next(iter(failing)),
)
def test_without_a_graph_it_runs_too(classic: Machine, failing: dict[str, str]) -> None:
    classic.failing = failing
    engine = engines.load("hidden", TENSORRT)
    classic.calls.clear()

    assert works(engine)
    assert classic.calls[1] == "execute_async_v3"


def test_memory_that_cannot_be_locked_is_used_as_it_is(machine: Machine) -> None:
    machine.failing = {"cudaHostRegister": "cudaErrorMemoryAllocation"}
    engine = engines.load("hidden", TENSORRT)
    assert works(engine)
    engine.close()
    assert "cudaHostUnregister" not in machine.calls


def test_closing_gives_everything_back(machine: Machine) -> None:
    engine = engines.load("restore", TENSORRT)
    assert machine.memory and machine.locked
    engine.close()
    engine.close()
    assert not machine.memory and not machine.locked
    assert machine.calls.count("cudaStreamDestroy") == 1


@pytest.mark.parametrize(
    "failing", ["cudaMalloc", "create_execution_context", "set_tensor_address", "execute_async_v3"]
)
def test_what_fails_while_it_opens_gives_everything_back(machine: Machine, failing: str) -> None:
    machine.failing = {failing: "cudaErrorMemoryAllocation"}
    with pytest.raises(EngineRunError, match=r"memory|TensorRT"):
        engines.load("hidden", TENSORRT)
    assert not machine.memory and not machine.locked


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ({"cudaMemcpyHostToDevice": "cudaErrorIllegalAddress"}, "words for cudaErrorIllegalAddress"),
        ({"cudaStreamSynchronize": "cudaErrorIllegalAddress"}, "cudaErrorIllegalAddress in cudaStreamSynchronize"),
        ({"execute_async_v3": "Error Code 1: Cuda Runtime (out of memory)"}, "out of memory"),
        ({"cudaMemcpyDeviceToHost": "cudaErrorMemoryAllocation"}, "the GPU is out of memory"),
    ],
)
def test_a_gpu_that_fails_is_an_engine_run_error(machine: Machine, failing: dict[str, str], said: str) -> None:
    engine = engines.load("hidden", TENSORRT)
    machine.failing = failing
    with pytest.raises(EngineRunError, match=said) as failure:
        engine.run({"face": np.zeros((1, 256, 256, 3), np.uint8)})
    assert failure.value.hint
    engine.close()  # though nothing can be given back properly any more
    machine.failing = {}
    assert works(engines.load("hidden", TENSORRT))


def test_a_gpu_that_stays_lost_leaves_it_to_the_next_backend(machine: Machine) -> None:
    machine.failing = {"deserialize_cuda_engine": "Error Code 1: Cuda Runtime (unspecified launch failure)"}

    engine = engines.load("hidden")

    assert engine.backend == "openvino" and works(engine)
    assert "unspecified launch failure" in engine.passed_over[0].reason
    kept = [entry.facts["backend"] for entry in EngineCache().entries()]
    assert kept.count("tensorrt") == 1  # the plan was not to blame


def test_no_driver_no_gpu_and_no_cuda_are_told_apart(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def reason() -> str:
        return next(report.reason for report in engines.survey() if report.name == "tensorrt")

    machine.devices = 0
    assert "tensorrt_rtx is installed, but: there is no NVIDIA GPU" in reason()
    machine.driver = 0
    assert "no NVIDIA driver" in reason()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    assert "cuda-python is not installed" in reason() and "[tensorrt]" in reason()


def test_without_a_gpu_the_library_is_not_even_imported(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes 100 MB."""
    machine.driver = 0
    monkeypatch.setattr("engines.backends.tensorrt.open_library", lambda: pytest.fail("imported"))
    assert engines.load("hidden").backend == "openvino"


def test_precision_is_that_of_the_file(machine: Machine) -> None:
    assert engines.load("hidden", TENSORRT).precision == "fp16"
    assert engines.load("hidden", EngineOptions(backend="tensorrt", precision="fp32")).precision == "fp32"
    with pytest.raises(EngineUnavailable, match="bf16"):
        engines.load("hidden", EngineOptions(backend="tensorrt", precision="bf16"))


def test_a_file_of_ones_own(machine: Machine, tmp_path: Path) -> None:
    path = write_faces(tmp_path / "own.onnx")
    engine = engines.load(path, EngineOptions(backend="tensorrt", input_shapes={"frame": (1, 16, 24, 3)}))
    heat = engine.run({"frame": np.full((1, 16, 24, 3), 255, np.uint8)})["heat"]
    np.testing.assert_allclose(heat, np.ones((1, 2, 3, 1)), atol=0.01)
    assert heat.dtype == np.float32


def test_nothing_is_printed(
    machine: Machine, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="engines")  # a daemon of another test may have set it otherwise
    machine.failing = {"build_serialized_network": "no kernel\n  for this"}
    with pytest.raises(EngineBuildError, match="no kernel for this"):
        engines.load("hidden", TENSORRT)
    assert capfd.readouterr() == ("", "")
    assert "no kernel" in caplog.text


def test_the_module_imports_nothing_of_nvidias() -> None:
    """Reading the table of backends costs nothing as long as this one is not used."""
    imported = "import sys, engines.backends.tensorrt; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True, check=True, cwd=ROOT)
    names = set(modules.stdout.split())
    assert "engines.backends.tensorrt" in names
    assert not names & {"tensorrt_rtx", "tensorrt", "cuda", "cuda.bindings.runtime"}
