"""`build-engine`: the shipped networks, checked on crops of the demo's face; TensorRT on a stand-in."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

import engines
from engines import ContractMismatch, EngineBuildError, EngineOptions, EngineUnavailable, ModelMissing, manifest
from engines.cache import CacheEntry, EngineCache
from engines.contract import MODEL_NAMES
from engines.manifest import find_model
from occlufix_vcam.cli.app import app
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.diagnostics import doctor
from occlufix_vcam.offline import engine_check
from occlufix_vcam.offline.build_engine import build_engines
from occlufix_vcam.offline.engine_check import EngineCheck
from tests.harness import cuda_standin, tensorrt_standin
from tests.harness.cuda_standin import Machine
from tests.harness.models import write_graph

SHIPPED = manifest.MODELS
FEW = 3


@pytest.fixture(autouse=True)
def few_crops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engine_check, "CROPS", FEW)
    monkeypatch.setenv("OCCLUFIX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("OCCLUFIX_CONFIG", str(tmp_path / "settings.toml"))


@pytest.fixture
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt_rtx", "tensorrt"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return tensorrt_standin.install(monkeypatch, tmp_path / "cache")


def plans() -> list[CacheEntry]:
    """The TensorRT engines that are kept; others have theirs there too."""
    return [entry for entry in EngineCache().entries() if entry.facts["backend"] == "tensorrt"]


def build(*models: str, onnx: Path | None = None, **settings: object) -> list[EngineCheck]:
    return list(build_engines(models, onnx, Settings().but(**settings)))


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_all_models_are_checked_and_timed_beside_the_fp32_onnx(precision: str, no_tensorrt: None) -> None:
    told: list[float] = []
    settings = Settings().but(precision=precision)
    try:
        checks = list(build_engines(MODEL_NAMES, None, settings, (), lambda what, share: told.append(share)))
    except EngineBuildError as error:
        if precision != "int8" or "vnni" in Path("/proc/cpuinfo").read_text():
            raise
        pytest.skip(f"a processor without VNNI, on which int8 is refused as it should be: {error}")

    assert {check.model for check in checks} == set(MODEL_NAMES)
    assert [check.shape for check in checks if check.model == "faces"] == ["1x192x320x3", "1x160x160x3"]
    for check in checks:
        assert check.crops == FEW and check.device == "CPU" and not check.note
        assert precision in {"auto", check.precision} or not find_model(check.model).has(precision)
        engine_check.refuse_if_off(check)
        assert all((check.p50_ms, check.p99_ms, check.fp32_p50_ms, check.fp32_p99_ms))
    assert told == sorted(told) and told[-1] == 1.0


def test_an_engine_is_run_before_it_is_installed(machine: Machine) -> None:
    (check,) = build("hidden")

    assert (check.backend, check.device, check.precision) == ("tensorrt", cuda_standin.DEVICE, "fp16")
    assert check.psnr_db is not None and check.psnr_db > 50
    (entry,) = plans()
    assert check.file == str(entry.path) and entry.notes["checked"] and entry.notes["psnr_db"] == check.psnr_db
    assert engines.load("hidden", EngineOptions("tensorrt")).backend == "tensorrt" and machine.builds == 1


def test_an_engine_that_is_off_is_refused_and_the_old_one_kept(machine: Machine) -> None:
    build("hidden")
    (before,) = plans()
    machine.computes_rubbish = True

    with pytest.raises(EngineBuildError, match=r"refused.*dB.*bounds") as refused:
        build("hidden")

    assert "kept" in refused.value.hint and machine.builds == 2
    assert plans() == [before]


@pytest.mark.parametrize(
    ("precision", "psnr_db", "mean", "kept"),
    [
        ("fp16", 41.0, 0.9, True),
        ("fp16", 39.0, 0.9, False),
        ("bf16", 60.0, 1.1, False),
        ("int8", 32.0, 5.0, True),
        ("int8", 29.0, 5.0, False),
        ("int8", 32.0, 7.0, False),
    ],
)
def test_int8_may_be_farther_off_but_not_another_network(
    precision: str, psnr_db: float, mean: float, kept: bool
) -> None:
    check = EngineCheck("faces", "", "openvino", "CPU", precision, 0.0, FEW, psnr_db, mean, 20.0)
    with nullcontext() if kept else pytest.raises(EngineBuildError, match="refused"):
        engine_check.refuse_if_off(check)


def test_numbers_that_are_none_are_refused(machine: Machine) -> None:
    error = engine_check._Error(of_255=False)
    error.note(np.array([np.nan, 1.0]), np.array([0.5, 1.0]))
    check = EngineCheck("faces", "", "tensorrt", "", "fp16", 0.0, FEW, error.psnr_db, error.mean, error.largest)
    with pytest.raises(EngineBuildError, match="refused"):
        engine_check.refuse_if_off(check)


def test_engines_for_others_are_built_and_said_not_to_be_run(machine: Machine) -> None:
    checks = list(build_engines(["hidden"], None, Settings(), ["sm120", "portable", "sm120"]))

    assert [check.device for check in checks] == ["sm120", "portable"]
    here = f"this machine has {cuda_standin.DEVICE}"
    assert all(here in check.note and check.psnr_db is None for check in checks)
    assert [entry.notes["checked"] for entry in plans()] == [False, False]


def test_without_a_driver_it_builds_and_says_so(machine: Machine) -> None:
    machine.driver = 0
    (check,) = build("hidden", backend="tensorrt")
    assert check.device == "portable" and "not run here" in check.note and "no NVIDIA driver" in check.note
    assert Path(check.file).is_file()
    (usual,) = build("hidden")
    assert usual.backend != "tensorrt"


def test_an_unknown_architecture_and_a_backend_that_knows_none(machine: Machine) -> None:
    with pytest.raises(EngineUnavailable, match="sm35") as unavailable:
        list(build_engines(["hidden"], None, Settings(), ["sm35"]))
    assert "sm86" in unavailable.value.hint
    with pytest.raises(ConfigError, match="--for"):
        list(build_engines(["hidden"], None, Settings().but(backend="openvino"), ["sm86"]))


def test_without_tensorrt_the_extra_is_named(no_tensorrt: None) -> None:
    with pytest.raises(EngineUnavailable) as unavailable:
        list(build_engines(["hidden"], None, Settings(), ["sm86"]))
    assert "[tensorrt]" in unavailable.value.hint


def test_a_freshly_trained_network_takes_the_models_place(machine: Machine, tmp_path: Path) -> None:
    fresh = tmp_path / "hidden.fp16.onnx"
    fresh.write_bytes((SHIPPED / "hidden.fp16.onnx").read_bytes())

    (by_name,) = build("hidden", onnx=fresh)
    (by_file_name,) = build(onnx=fresh)

    assert by_name.model == by_file_name.model == "hidden"
    assert by_name.precision == manifest.OWN and by_name.psnr_db is not None


@pytest.mark.parametrize("gpu", [True, False])
def test_an_onnx_with_other_inputs_is_refused(
    gpu: bool, tmp_path: Path, request: pytest.FixtureRequest, no_tensorrt: None
) -> None:
    if gpu:
        request.getfixturevalue("machine")
    nodes = [helper.make_node("Cast", ["picture"], ["seen"], to=TensorProto.FLOAT)]
    path = write_graph(tmp_path / "own.onnx", nodes, {"picture": [1, 8, 8, 3]}, {"seen": ("float32", [1, 8, 8, 3])})

    with pytest.raises(ContractMismatch, match="picture"):
        build("hidden", onnx=path)
    with pytest.raises(ContractMismatch, match="there are no test images for the input picture"):
        build(onnx=path)
    assert plans() == []


def test_one_file_stands_for_one_model_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one model"):
        build("hidden", "restore", onnx=SHIPPED / "hidden.fp32.onnx")
    with pytest.raises(ModelMissing, match=r"no\.onnx"):
        build(onnx=tmp_path / "no.onnx")


def test_doctor_says_what_was_never_run_on_a_gpu_and_where_engines_are_kept(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = [finding for finding in doctor._backends() if "tensorrt" in finding.found]
    assert [finding.verdict for finding in here] == ["ok", "warning"]
    assert "never run on a GPU" in here[1].found and "build-engine" in here[1].hint
    machine.driver = 0
    (without,) = (finding for finding in doctor._backends() if "tensorrt" in finding.found)
    assert without.verdict == "ok" and "never run on a GPU" in without.found and "no NVIDIA driver" in without.found

    (kept,) = doctor._cache()
    assert kept.verdict == "ok" and str(tmp_path / "cache") in kept.found
    monkeypatch.setenv("OCCLUFIX_CACHE_DIR", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    (unusable,) = doctor._cache()
    assert unusable.verdict == "warning" and "OCCLUFIX_CACHE_DIR" in unusable.hint


def test_the_command_prints_lists_and_cleans(machine: Machine) -> None:
    run = CliRunner().invoke
    built = run(app, ["build-engine", "hidden"])
    assert built.exit_code == 0, built.output
    assert f"tensorrt on {cuda_standin.DEVICE}, fp16" in built.output and f"{FEW} crops" in built.output
    assert "FP32 ONNX p50" in built.output

    listed = run(app, ["build-engine", "--list"]).output
    assert "tensorrt_rtx 1.0.0" in listed and cuda_standin.DEVICE in listed and "  checked" in listed
    assert "engines deleted" in run(app, ["build-engine", "--clean"]).output
    assert "hidden" not in run(app, ["build-engine", "--list"]).output

    others = run(app, ["build-engine", "hidden", "--for", "sm75, portable"])
    assert "tensorrt for sm75" in others.output and "not run here" in others.output
