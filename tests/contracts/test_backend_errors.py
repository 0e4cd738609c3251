"""What every entry of BACKENDS refuses alike, and how it says so: shapes, files, packages, libraries that break."""

from __future__ import annotations

import importlib
import importlib.abc
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import engines
from engines import (
    ContractMismatch,
    EngineOptions,
    EngineUnavailable,
    InferenceEngine,
    ModelCorrupt,
    ModelMissing,
    manifest,
)
from tests.harness import cuda_standin

#: What is imported for a backend, where that is not called like it.
PACKAGES = {"tensorrt": ("tensorrt_rtx", "tensorrt")}
REAL = [name for name in engines.BACKENDS if name != "fake"]
Load = Callable[..., InferenceEngine]


@pytest.mark.parametrize("shapes", [{"picture": (1, 2, 2, 3)}, {"frame": (192, 320, 3)}, {"frame": (1, 0, 320, 3)}])
def test_impossible_shapes_are_refused(load: Load, shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ContractMismatch, match=r"picture|frame"):
        load("faces", input_shapes=shapes)


@pytest.mark.parametrize("name", REAL)
def test_an_altered_or_missing_file_is_refused_with_the_command_that_restores_it(
    name: str,
    written: Path,
    tmp_path: Path,
    install: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(name)
    monkeypatch.setattr(manifest, "MODELS", Path(shutil.copytree(written, tmp_path / "engines" / "models")))
    (tmp_path / ".git").mkdir()
    options = EngineOptions(backend=name, precision="fp32")
    file = manifest.MODELS / "hidden.fp32.onnx"

    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(ModelCorrupt, match=r"hidden\.fp32\.onnx") as corrupt:
        engines.load("hidden", options)
    file.unlink()
    with pytest.raises(ModelMissing, match=r"hidden\.fp32\.onnx") as missing:
        engines.load("hidden", options)

    command = f"git -C {tmp_path} checkout -- engines/models/hidden.fp32.onnx"
    assert command in corrupt.value.hint
    assert command in missing.value.hint


@pytest.mark.parametrize("content", [b"", b"this is no model" * 9, None], ids=["empty", "text", "cut"])
@pytest.mark.parametrize("name", REAL)
def test_a_broken_file_of_ones_own_is_refused(
    name: str, content: bytes | None, written: Path, tmp_path: Path, install: Callable[[str], str]
) -> None:
    install(name)
    path = tmp_path / "own.onnx"
    path.write_bytes((written / "restore.fp32.onnx").read_bytes()[:200] if content is None else content)

    with pytest.raises(ModelCorrupt, match=r"own\.onnx"):
        engines.load(path, EngineOptions(backend=name))


@pytest.mark.parametrize("name", REAL)
def test_a_missing_package_is_named(name: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = engines.BACKENDS[name].partition(":")[0]
    importlib.import_module("engines")
    monkeypatch.delitem(sys.modules, module, raising=False)
    for package in PACKAGES.get(name, (name,)):
        monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(EngineUnavailable, match=name) as unavailable:
        engines.load("restore", EngineOptions(backend=name))

    assert "pip install" in unavailable.value.hint
    assert [report.available for report in engines.survey() if report.name == name] == [False]


class _Broken(importlib.abc.MetaPathFinder):
    """Stands before all finders and fails as a native library does whose other half is missing."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = packages

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname in self._packages:
            raise OSError("libnative.so.4: cannot open shared object file")


@pytest.mark.parametrize("name", REAL)
def test_a_library_that_breaks_at_import_is_said_and_passed_over(
    name: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = PACKAGES.get(name, (name,))
    for module in (engines.BACKENDS[name].partition(":")[0], *packages):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(
        sys.modules, "cuda.bindings.runtime", cuda_standin.cuda_runtime(cuda_standin.Machine())
    )  # a GPU for it
    monkeypatch.setattr(sys, "meta_path", [_Broken(packages), *sys.meta_path])

    with pytest.raises(EngineUnavailable, match=r"broken.*libnative\.so\.4") as unavailable:
        engines.load("restore", EngineOptions(backend=name))

    assert "--force-reinstall" in unavailable.value.hint
    other = engines.load("restore")
    assert other.backend != name
