"""Plans of TensorRT, on the stand-in of its libraries: built, kept, refused, built in the background."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import engines
from engines import (
    ContractMismatch,
    EngineBuildError,
    EngineOptions,
    EngineUnavailable,
    manifest,
)
from engines.backends.tensorrt import UninstalledPlan
from engines.cache import EngineCache
from engines.manifest import find_model
from tests.harness import cuda_standin, tensorrt_standin
from tests.harness.cuda_standin import Machine
from tests.harness.tensorrt_engines import IN_BACKGROUND, TENSORRT, works

pytestmark = pytest.mark.usefixtures("models")


def plan_path() -> Path:
    (entry,) = EngineCache().entries()
    return entry.path


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
    monkeypatch.setattr(cuda_standin, "DEVICE", "Another RTX")


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


def test_a_draft_is_run_before_it_is_installed(machine: Machine) -> None:
    draft = UninstalledPlan(find_model("hidden"), EngineOptions(), "", lambda share: True)
    engine = draft.open()
    assert works(engine) and (engine.device, engine.precision) == (cuda_standin.DEVICE, "fp16")
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


def test_a_promise_of_other_inputs_is_broken_before_anything_is_built(
    machine: Machine, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (written / manifest.MANIFEST).read_text(encoding="utf-8")
    (tmp_path / manifest.MANIFEST).write_text(text.replace("{ hidden =", "{ covered ="), encoding="utf-8")
    (tmp_path / "hidden.fp16.onnx").write_bytes((written / "hidden.fp16.onnx").read_bytes())
    monkeypatch.setattr(manifest, "MODELS", tmp_path)

    with pytest.raises(ContractMismatch, match=r"gives hidden, not face and covered") as mismatch:
        engines.load("hidden", TENSORRT)

    assert "train export hidden" in mismatch.value.hint and machine.builds == 0
