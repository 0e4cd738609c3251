"""The stand-in of TensorRT and CUDA is true to life: what it has, the real libraries have, with the same parameters."""

from __future__ import annotations

import enum
import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.harness import cuda_standin, tensorrt_standin


def real(name: str) -> ModuleType:
    """The real module, or a skip that says what was not checked."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"NOT CHECKED against the real {name}, which is not installed here: {error}")


def kinds_of(module: ModuleType) -> list[type]:
    return [kind for kind in vars(module).values() if inspect.isclass(kind)]


def own_names(kind: type) -> list[str]:
    return [name for name in vars(kind) if not name.startswith("_")]


def documented_parameters(function: Any) -> list[list[str]]:
    """Of each overload, as pybind11 writes it: `name(self: K, first: T, second: T = None) -> R`."""
    lines = [line for line in (function.__doc__ or "").splitlines() if "(self: " in line]
    return [[name for name in re.findall(r"[(,] ?(\w+): ", line) if name != "self"] for line in lines]


def test_what_tensorrt_for_rtx_has() -> None:
    library = real("tensorrt_rtx")
    fake = tensorrt_standin.tensorrt(cuda_standin.Machine())

    checked = 0
    for kind in kinds_of(fake):
        there = getattr(library, kind.__name__)
        for name in own_names(kind):
            if issubclass(kind, enum.Enum):
                member = there.__members__[name]
                if issubclass(kind, enum.IntEnum):
                    assert int(member) == int(kind[name]), f"{kind.__name__}.{name}"
            elif inspect.isfunction(vars(kind)[name]):
                ours = list(inspect.signature(getattr(kind, name)).parameters)[1:]
                overloads = documented_parameters(getattr(there, name))
                assert ours in overloads, f"{kind.__name__}.{name}{ours} is not one of {overloads}"
                checked += 1
            else:
                assert hasattr(there, name), f"{kind.__name__}.{name}"
    assert checked >= 20
    for method in ("code", "desc", "node_name", "node_operator"):
        assert callable(getattr(library.ParserError, method))
    assert set(tensorrt_standin.ErrorCode.__members__) <= set(library.ErrorCode.__members__)
    assert set(tensorrt_standin.Severity.__members__) <= set(library.ILogger.Severity.__members__)


def test_the_callbacks_have_the_librarys_parameters() -> None:
    library = real("tensorrt_rtx")
    from engines.backends.nvidia import make_logger
    from engines.backends.tensorrt_plan import _make_monitor

    monitor, logger = _make_monitor(library, lambda share: True), make_logger(library)
    for ours, base in ((monitor, library.IProgressMonitor), (logger, library.ILogger)):
        for name in ("phase_start", "step_complete", "phase_finish", "log"):
            if hasattr(base, name):
                given = list(inspect.signature(getattr(ours, name)).parameters)
                assert [len(given)] == [len(taken) for taken in documented_parameters(getattr(base, name))]


def test_what_classic_tensorrt_has_by_the_names_in_its_wheel() -> None:
    """The bindings cannot be imported without the library, 1.5 GB; but its names stand in them."""
    found = importlib.util.find_spec("tensorrt_bindings")
    if found is None or found.origin is None:
        pytest.skip("NOT CHECKED against classic TensorRT: the wheel tensorrt-cu13-bindings is not installed here")
    (binary,) = (path for path in Path(found.origin).parent.iterdir() if path.name.startswith("tensorrt."))
    names = set(re.findall(rb"[A-Za-z_]\w{3,}", binary.read_bytes()))

    for kind in kinds_of(tensorrt_standin.tensorrt(cuda_standin.Machine(), "tensorrt")):
        # A compiler may write a short name into its code, where no search finds it.
        looked_for = [name for name in [kind.__name__, *own_names(kind)] if len(name) > 8]
        missing = {name for name in looked_for if name.encode() not in names}
        assert not missing, f"{kind.__name__}: {missing}"
    there = {name for name in tensorrt_standin.RTX_ONLY if name.encode() in names}
    assert not there, f"classic TensorRT has {there} too: ask for it"


def test_what_the_cuda_runtime_has() -> None:
    runtime = real("cuda.bindings.runtime")
    fake = cuda_standin.cuda_runtime(cuda_standin.Machine())

    functions = {name: made for name, made in vars(fake).items() if inspect.isfunction(made)}
    assert len(functions) >= 20
    for name, made in functions.items():
        line = (getattr(runtime, name).__doc__ or "").splitlines()[0]
        taken = re.search(r"\((.*)\)", line)
        assert taken is not None, line
        parameters = [part.split(":")[0].split()[-1].strip("*") for part in taken[1].split(",") if part.strip()]
        assert list(inspect.signature(made).parameters) == parameters, line
    for kind in ("cudaMemcpyKind", "cudaStreamCaptureMode"):
        assert vars(getattr(fake, kind)).keys() <= set(getattr(runtime, kind).__members__)
    for status in cuda_standin.Status:
        assert int(getattr(runtime.cudaError_t, status.name)) == int(status)
    assert runtime.cudaStreamNonBlocking == fake.cudaStreamNonBlocking
    properties = runtime.cudaDeviceProp()
    assert isinstance(properties.name, bytes) and (properties.major, properties.minor) == (0, 0)
