"""`build-engine`: makes engines, holds them against the FP32 ONNX on real crops of a face, and times both.

An engine whose answers differ too much is refused, and what was there before stays. TensorRT engines are built where no
GPU is, too, for the architectures that are named; then nobody has run them, and that is said.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import engines
from engines import EngineOptions, EngineUnavailable
from engines.contract import CLOSE_UP_SIZE, MODEL_NAMES, SEARCH_SIZE
from engines.manifest import OWN, Model, ModelFile, find_model
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.offline.engine_check import CheckPictures, EngineCheck, Shapes, compare, real_pictures, refuse_if_off

if TYPE_CHECKING:
    from engines.backends.tensorrt import UninstalledPlan

#: (what is done just now, how much of all is done: 0..1)
Tell = Callable[[str, float], None]

#: Of an engine's share of the progress bar, what building takes.
BUILDING = 0.4


def build_engines(
    models: Sequence[str],
    onnx: Path | None,
    settings: Settings,
    architectures: Sequence[str] = (),
    tell: Tell = lambda what, share: None,
) -> Iterator[EngineCheck]:
    """Each engine in turn; `onnx` takes the place of the one model's file. Raises EngineError, ConfigError.

    `architectures` ("sm86", "portable") asks for TensorRT engines for other GPUs than this machine's.
    """
    jobs = _jobs(models, onnx, settings, architectures)
    pictures: CheckPictures | None = None
    for number, (model, shapes, architecture) in enumerate(jobs):

        def tell_all(what: str, share: float, done: int = number, of: Model = model) -> None:
            tell(f"{what} {of.name}", (done + share) / len(jobs))

        def tell_check(share: float, tell_all: Tell = tell_all) -> None:
            tell_all("checking", BUILDING + (1 - BUILDING) * share)

        if architecture is not None:
            draft, check = _draft(model, shapes, settings, architecture, tell_all)
            reason = _cannot_run(architecture)
            if reason:
                yield replace(check, file=str(draft.install({"checked": False})), note=f"not run here: {reason}")
                continue
            pictures = pictures or real_pictures(settings)
            with closing(draft.open()) as engine:
                check = compare(check, engine, model, shapes, pictures, tell_check)
            refuse_if_off(check)
            yield replace(check, file=str(draft.install(_figures(check))))
            continue
        tell_all("making", 0.0)
        pictures = pictures or real_pictures(settings)
        began = time.perf_counter()
        options = EngineOptions(settings.backend, settings.precision, input_shapes=shapes)
        with closing(engines.load(model, options)) as engine:
            made = _described(model, engine.backend, engine.device, engine.precision, time.perf_counter() - began)
            check = compare(made, engine, model, shapes, pictures, tell_check)
        refuse_if_off(check)
        yield check


def _jobs(
    models: Sequence[str], onnx: Path | None, settings: Settings, architectures: Sequence[str]
) -> list[tuple[Model, Shapes, str | None]]:
    """What to make: a model, its shapes, and the architecture of a TensorRT plan; "" is this machine's own GPU."""
    if architectures and settings.backend not in ("auto", "tensorrt"):
        raise ConfigError("--for is about TensorRT engines", "leave out --backend, or choose tensorrt")
    targets: list[str | None] = list(dict.fromkeys(architectures))
    if not targets:
        targets = [_own_target(settings.backend)]
    named = _replaced(models, onnx) if onnx is not None else [find_model(name) for name in models]
    return [(model, shapes, target) for model in named for shapes in _shapes_of(model) for target in targets]


def _own_target(backend: str) -> str | None:
    """The plan's architecture where TensorRT is what runs here or what was asked for; None: it is not."""
    if backend not in ("auto", "tensorrt"):
        return None
    report = next((one for one in engines.survey() if one.name == "tensorrt"), None)
    if report is not None and report.available:
        return ""
    return "portable" if backend == "tensorrt" else None


def _replaced(models: Sequence[str], onnx: Path) -> list[Model]:
    """`onnx` in the place of one model's files: of the one named, or of the one that the file is called after."""
    if len(models) > 1:
        raise ConfigError("--onnx stands for one model", "name no model, or one, with --onnx")
    find_model(onnx)  # is it there?
    called = onnx.name.split(".")[0]
    name = models[0] if models else called if called in MODEL_NAMES else None
    if name is None:
        return [find_model(onnx)]
    return [replace(find_model(name), files={OWN: ModelFile(onnx, "")})]


def _shapes_of(model: Model) -> list[Shapes]:
    """The finder looks at whole frames and at faces close up; the others have one shape."""
    if model.name == "faces":
        return [{"frame": (1, *size, 3)} for size in (SEARCH_SIZE, CLOSE_UP_SIZE)]
    return [{}]


def _draft(
    model: Model, shapes: Shapes, settings: Settings, architecture: str, tell: Tell
) -> tuple[UninstalledPlan, EngineCheck]:
    from engines.backends.tensorrt import UninstalledPlan

    def progress(share: float) -> bool:
        tell("building", BUILDING * share)
        return True

    options = EngineOptions("tensorrt", settings.precision, input_shapes=shapes)
    draft = UninstalledPlan(model, options, architecture, progress)
    check = _described(model, "tensorrt", draft.device, draft.precision, draft.plan.seconds)
    shape = "x".join(map(str, {**model.inputs, **shapes}.get(next(iter(model.inputs), ""), ())))
    return draft, replace(check, shape=shape, size_mb=len(draft.plan.content) / 1e6)


def _cannot_run(architecture: str) -> str:
    """Why a plan for it is not run on this machine; "" where it is."""
    from engines.backends.tensorrt import TensorRtEngine

    if not architecture:
        return ""
    try:
        return f"it is for {architecture}, this machine has {TensorRtEngine.devices()[0]}"
    except EngineUnavailable as error:
        return error.message


def _described(model: Model, backend: str, device: str, precision: str, build_s: float) -> EngineCheck:
    return EngineCheck(model.name, "", backend, device, precision, build_s)


def _figures(check: EngineCheck) -> dict[str, float | bool | None]:
    """What the cache notes of an engine that passed."""
    return {"checked": True, "psnr_db": check.psnr_db, "mean_error": check.mean_error, "p50_ms": check.p50_ms}
