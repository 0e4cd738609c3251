"""Running through TensorRT, on the stand-in of its libraries: calls in order, the cache, recovery, and every error."""

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
    ContractMismatch,
    EngineBuildError,
    EngineOptions,
    EngineRunError,
    EngineUnavailable,
    InferenceEngine,
    manifest,
)
from engines.backends.tensorrt import UninstalledPlan
from engines.cache import EngineCache
from engines.manifest import find_model
from tests.conftest import ROOT
from tests.harness import tensorrt_standin
from tests.harness.models import write_faces, write_models
from tests.harness.tensorrt_standin import Machine

TENSORRT = EngineOptions(backend="tensorrt")
IN_BACKGROUND = EngineOptions(wait_for_build=False)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def models(written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(manifest, "MODELS", written)
    return written


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return tensorrt_standin.install(monkeypatch, tmp_path)


@pytest.fixture
def classic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return tensorrt_standin.install(monkeypatch, tmp_path, "tensorrt")


def works(engine: InferenceEngine) -> bool:
    """Whether it computes, and not only claims to: the tiny segmenter gives the brightest colour."""
    face = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    return bool((engine.run({"face": face})["hidden"][..., 0] == face.max(axis=3)).all())


def plan_path() -> Path:
    (entry,) = EngineCache().entries()
    return entry.path


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


def test_a_second_start_builds_nothing_and_takes_what_was_compiled(machine: Machine) -> None:
    engines.load("hidden", TENSORRT).close()
    assert machine.builds == 1
    assert plan_path().with_suffix(".jit").read_bytes() == b"compiled"
    machine.calls.clear()

    assert works(engines.load("hidden", TENSORRT))

    assert machine.builds == 1
    assert "runtime cache taken" in machine.calls


def test_what_was_compiled_elsewhere_is_compiled_anew(machine: Machine) -> None:
    engines.load("hidden", TENSORRT).close()
    jit = plan_path().with_suffix(".jit")
    jit.write_bytes(b"of another driver")

    assert works(engines.load("hidden", TENSORRT))
    assert jit.read_bytes() == b"compiled" and machine.builds == 1


def _other_driver(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.driver = 13010


def _other_library(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["tensorrt_rtx"], "__version__", "1.1.0")


def _other_gpu(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_standin, "DEVICE", "Another RTX")


def _other_model(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.backends.tensorrt_plan.sha256_of", lambda path: "of a new file")


@pytest.mark.parametrize("change", [_other_driver, _other_library, _other_gpu, _other_model], ids=lambda f: f.__name__)
def test_whatever_the_engine_depends_on_makes_it_be_built_anew(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    engines.load("hidden", TENSORRT).close()
    change(machine, monkeypatch)
    assert works(engines.load("hidden", TENSORRT))
    assert machine.builds == 2


@pytest.mark.parametrize("harm", [lambda plan: plan[:99], lambda plan: plan[:-1] + b"x", lambda plan: b"foreign"])
def test_a_damaged_plan_is_built_anew(machine: Machine, harm: Any) -> None:
    engines.load("hidden", TENSORRT).close()
    plan_path().write_bytes(harm(plan_path().read_bytes()))

    assert works(engines.load("hidden", TENSORRT))
    assert machine.builds == 2


def _forge(content: bytes) -> None:
    """A plan that is whole for the cache, and none for TensorRT."""
    cache, path = EngineCache(), plan_path()
    (entry,) = cache.entries()
    key = engines.cache.CacheKey(entry.model, entry.facts)
    assert cache.write(key, content) == path


@pytest.mark.parametrize("library", ["tensorrt_rtx", "tensorrt"])
def test_a_plan_that_tensorrt_refuses_is_built_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    machine = tensorrt_standin.install(monkeypatch, tmp_path, library)
    engines.load("hidden", TENSORRT).close()
    _forge(b"not what TensorRT wrote")

    assert works(engines.load("hidden", TENSORRT))
    assert machine.builds == 2


def test_a_new_plan_that_is_refused_is_an_error_and_is_not_kept(machine: Machine) -> None:
    machine.validity, machine.complaints = "INVALID", 1

    with pytest.raises(EngineBuildError, match="version mismatch"):
        engines.load("hidden", TENSORRT)

    assert machine.builds == 1
    assert EngineCache().entries() == []


def test_what_a_new_plan_would_not_mend_builds_none(machine: Machine) -> None:
    engines.load("hidden", TENSORRT).close()
    machine.validity, machine.complaints = "INVALID", 4 | 16

    with pytest.raises(EngineUnavailable, match="old cuda driver, insufficient gpu memory"):
        engines.load("hidden", TENSORRT)

    assert machine.builds == 1 and len(EngineCache().entries()) == 1


def test_a_plan_of_less_speed_is_taken(machine: Machine) -> None:
    machine.validity = "SUBOPTIMAL"
    assert works(engines.load("hidden", TENSORRT))


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


def test_meanwhile_the_next_backend_runs_and_the_build_is_handed_over(machine: Machine) -> None:
    engine = engines.load("hidden", IN_BACKGROUND)
    assert engine.backend == "openvino" and works(engine)
    refusal, *_ = engine.passed_over
    assert refusal.backend == "tensorrt" and "not built yet" in refusal.reason
    assert machine.builds == 0 and refusal.build is not None

    shares: list[float] = []
    refusal.build(lambda share: shares.append(share) is None)

    assert machine.builds == 1 and shares[-1] == 1.0
    assert engines.load("hidden", IN_BACKGROUND).backend == "tensorrt"


def test_a_build_can_be_stopped_and_leaves_nothing(machine: Machine) -> None:
    refusal, *_ = engines.load("hidden", IN_BACKGROUND).passed_over
    assert refusal.build is not None
    with pytest.raises(EngineBuildError, match="stopped"):
        refusal.build(lambda share: share < 0.5)
    assert machine.builds == 0 and not [
        entry for entry in EngineCache().entries() if entry.facts["backend"] == "tensorrt"
    ]


def test_a_cache_that_cannot_be_used_leaves_it_to_the_next_backend(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OCCLUFIX_CACHE_DIR", str(tmp_path / "file"))

    engine = engines.load("hidden")

    assert engine.backend == "openvino"
    assert str(tmp_path / "file") in engine.passed_over[0].reason


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


def test_a_draft_is_run_before_it_is_installed(machine: Machine) -> None:
    draft = UninstalledPlan(find_model("hidden"), EngineOptions(), "", lambda share: True)
    engine = draft.open()
    assert works(engine) and (engine.device, engine.precision) == (tensorrt_standin.DEVICE, "fp16")
    engine.close()
    assert EngineCache().entries() == []

    path = draft.install({"psnr": 50.0})

    (entry,) = EngineCache().entries()
    assert entry.path == path and entry.notes["psnr"] == 50.0
    assert works(engines.load("hidden", TENSORRT)) and machine.builds == 1


def test_a_draft_for_others_is_not_run_and_never_taken_for_this_gpu(machine: Machine) -> None:
    draft = UninstalledPlan(find_model("hidden"), EngineOptions(), "sm120", lambda share: True)
    with pytest.raises(EngineUnavailable, match="sm120"):
        draft.open()
    draft.install({})
    engines.load("hidden", TENSORRT)
    assert machine.builds == 2


def test_a_draft_that_does_not_load_is_an_error(machine: Machine) -> None:
    draft = UninstalledPlan(find_model("hidden"), EngineOptions(), "", lambda share: True)
    machine.validity, machine.complaints = "INVALID", 32
    with pytest.raises(EngineBuildError, match="malformed engine"):
        draft.open()


def test_a_promise_of_other_doors_is_broken_before_anything_is_built(
    machine: Machine, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (written / manifest.MANIFEST).read_text(encoding="utf-8")
    (tmp_path / manifest.MANIFEST).write_text(text.replace("{ hidden =", "{ covered ="), encoding="utf-8")
    (tmp_path / "hidden.fp16.onnx").write_bytes((written / "hidden.fp16.onnx").read_bytes())
    monkeypatch.setattr(manifest, "MODELS", tmp_path)

    with pytest.raises(ContractMismatch, match=r"gives hidden, not face and covered") as mismatch:
        engines.load("hidden", TENSORRT)

    assert "train export hidden" in mismatch.value.hint and machine.builds == 0


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
    """Looking at the table of backends costs nothing where nobody asks for this one."""
    imported = "import sys, engines.backends.tensorrt; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True, check=True, cwd=ROOT)
    names = set(modules.stdout.split())
    assert "engines.backends.tensorrt" in names
    assert not names & {"tensorrt_rtx", "tensorrt", "cuda", "cuda.bindings.runtime"}
