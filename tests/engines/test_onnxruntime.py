"""What ONNX Runtime needs beside the contract: memory of a device, plug-ins, packages that lie over each other."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import engines
from engines import EngineOptions, EngineUnavailable, manifest
from engines.backends import onnxruntime as backend
from tests.harness.models import write_models

HERE = EngineOptions(backend="onnxruntime")


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MODELS", write_models(tmp_path))


def test_a_devices_own_memory_is_filled_and_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The road of CUDA, with the processor's memory in the part of the GPU's."""
    monkeypatch.setattr(backend, "_OWN_MEMORY", {"CPU": "cpu"})
    engine, plain = engines.load("hidden", HERE), engines.load("hidden", EngineOptions(backend="openvino"))
    rng = np.random.default_rng(0)
    for _ in range(3):
        feeds = {"face": rng.integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)}
        np.testing.assert_array_equal(engine.run(feeds)["hidden"], plain.run(feeds)["hidden"])
    engine.close()


def test_a_network_without_a_half_precision_file_runs_from_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the smaller ones do in the wheel."""
    (manifest.MODELS / "hidden.fp16.onnx").unlink()
    model = manifest.find_model("hidden")
    assert backend.OnnxRuntimeEngine.precisions(model, "CUDA") == ("fp32",)
    asked = EngineOptions(backend="onnxruntime", precision="fp16")
    assert [engines.load(name, asked).precision for name in ("hidden", "restore")] == ["fp32", "fp16"]


def test_a_graph_that_cannot_be_recorded_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[dict[str, str]] = []
    session = backend._session

    def refusing(path: Path, device: str, threads: int, options: Any) -> Any:
        tried.append(dict(options))
        if options:
            raise RuntimeError("this session cannot use the graph capture feature")
        return session(path, device, threads, options)

    monkeypatch.setattr(backend, "_GRAPH", {"CPU": {"enable_cuda_graph": "1"}})
    monkeypatch.setattr(backend, "_session", refusing)

    assert engines.load("hidden", HERE).device == "CPU"
    assert tried == [{"enable_cuda_graph": "1"}, {}]


@pytest.mark.parametrize("broken", [False, True])
def test_a_plug_in_is_registered_and_a_broken_one_leaves_the_rest(
    broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered: list[tuple[str, str]] = []

    def register(name: str, path: str) -> None:
        registered.append((name, path))
        if broken:
            raise RuntimeError("libcudart is missing")

    provider = "NvTensorRTRTXExecutionProvider"
    plug_in = SimpleNamespace(get_library_path=lambda: "/there/libplug.so")
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", plug_in)
    monkeypatch.setattr(backend.onnxruntime, "register_execution_provider_library", register)
    monkeypatch.setattr(backend.onnxruntime, "get_ep_devices", lambda: [SimpleNamespace(ep_name=provider)])
    backend._plug_in.cache_clear()
    try:
        devices = backend.OnnxRuntimeEngine.devices()
        assert devices == (("CPU",) if broken else ("TensorRT-RTX", "CPU"))
        backend.OnnxRuntimeEngine.devices()
        assert registered == [(provider, "/there/libplug.so")]
    finally:
        backend._plug_in.cache_clear()


def test_two_packages_over_each_other_are_told_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend.OnnxRuntimeEngine.warning() == ""
    monkeypatch.setattr(backend, "_is_installed", lambda name: name in ("onnxruntime", "onnxruntime-gpu"))
    (report,) = [one for one in engines.survey() if one.name == "onnxruntime"]

    assert report.available
    assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu" in report.warning


def test_a_broken_package_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime/__init__.py").write_text("raise ImportError('DLL load failed')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "engines.backends.onnxruntime")
    monkeypatch.delitem(sys.modules, "onnxruntime")

    with pytest.raises(EngineUnavailable, match=r"broken: DLL load failed") as unavailable:
        engines.load("hidden", HERE)

    assert "--force-reinstall" in unavailable.value.hint
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
