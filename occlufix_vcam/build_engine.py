"""`build-engine`: makes an engine, checks what it says against ONNX Runtime in fp32 on real faces, and times it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

import engines
from engines import EngineOptions, EngineRunError, InferenceEngine
from engines.base import Precision, Tensor
from engines.contract import CLOSE_UP_SIZE, CROP_PX, HIDDEN, SEARCH_SIZE, Image
from occlufix_vcam.assembly import Engines
from occlufix_vcam.errors import ConfigError
from occlufix_vcam.settings import Settings
from occlufix_vcam.sources import open_source
from occlufix_vcam.stages.find import open_finder
from occlufix_vcam.stages.geometry import align

Shapes = Mapping[str, tuple[int, ...]]

PICTURES = 4
WARM_UP, TIMED = 5, 40
#: How far apart in the demo's motion the pictures are, in frames.
STRIDE = 45
MOST_TRIES = 12
FP32: Precision = "fp32"


@dataclass(frozen=True, slots=True)
class EngineCheck:
    """One engine. Errors are absolute, in units of the output: grey levels where that is a picture or a mask."""

    model: str
    shape: str
    backend: str
    device: str
    precision: str
    build_s: float
    p50_ms: float
    p95_ms: float
    largest_error: float
    mean_error: float


def build_engines(models: Sequence[str], onnx: Path | None, settings: Settings) -> Iterator[EngineCheck]:
    """Each engine in turn; `onnx` takes the place of the one model's file. Raises EngineError, ConfigError."""
    if onnx is not None and len(models) > 1:
        raise ConfigError("--onnx stands for one model", "name no model, or one, with --onnx")
    frames, crops = _real_pictures(settings)
    for model in [str(onnx)] if onnx else models:
        shapes: list[Shapes] = (
            [{"frame": (1, *size, 3)} for size in (SEARCH_SIZE, CLOSE_UP_SIZE)] if model == "faces" else [{}]
        )
        for shape in shapes:
            yield _check(model, shape, frames, crops, settings)


def _check(model: str, shape: Shapes, frames: list[Image], crops: list[Image], settings: Settings) -> EngineCheck:
    began = time.perf_counter()
    options = EngineOptions(settings.backend, settings.precision, input_shapes=shape)
    with closing(engines.load(model, options)) as engine:
        build_s = time.perf_counter() - began
        feeds = [_feeds(engine, frame, crops, turn) for turn, frame in enumerate(frames)]
        with closing(engines.load(model, EngineOptions("onnxruntime", FP32, input_shapes=shape))) as yardstick:
            errors = np.concatenate([_errors(engine, yardstick, feed) for feed in feeds])
        p50_ms, p95_ms = _time(engine, feeds[0])
        return EngineCheck(
            model=Path(model).name,
            shape="x".join(map(str, engine.inputs[0].shape)),
            backend=engine.backend,
            device=engine.device,
            precision=engine.precision,
            build_s=build_s,
            p50_ms=p50_ms,
            p95_ms=p95_ms,
            largest_error=float(errors.max()),
            mean_error=float(errors.mean()),
        )


def _errors(engine: InferenceEngine, yardstick: InferenceEngine, feed: dict[str, Tensor]) -> Tensor:
    ours, theirs = engine.run(feed), yardstick.run(feed)
    return np.concatenate(
        [np.abs(ours[name].astype(np.float64) - theirs[name].astype(np.float64)).ravel() for name in ours]
    )


def _time(engine: InferenceEngine, feed: dict[str, Tensor]) -> tuple[float, float]:
    """p50 and p95 of a run, in ms."""
    times = []
    for _ in range(WARM_UP + TIMED):
        began = time.perf_counter()
        engine.run(feed)
        times.append((time.perf_counter() - began) * 1e3)
    p50, p95 = np.percentile(times[WARM_UP:], (50, 95))
    return float(p50), float(p95)


def _feeds(engine: InferenceEngine, frame: Image, crops: list[Image], turn: int) -> dict[str, Tensor]:
    """What the product would feed, by the names of the contract's doors."""
    hidden = np.zeros((CROP_PX, CROP_PX), np.uint8)
    cv2.ellipse(hidden, (128, 175), (70, 60), 0, 0, 360, HIDDEN, cv2.FILLED)
    doors = {
        "frame": frame,
        "face": crops[turn],
        "mask": hidden[..., None],
        "reference": crops[turn - 1],
        "reference_mask": np.full((CROP_PX, CROP_PX, 1), HIDDEN, np.uint8),
    }
    feeds: dict[str, Tensor] = {}
    for spec in engine.inputs:
        if spec.name not in doors:
            raise ConfigError(f"nobody knows what to feed the input `{spec.name}`", f"known are: {', '.join(doors)}")
        picture = cv2.resize(doors[spec.name], spec.shape[2:0:-1], interpolation=cv2.INTER_AREA)
        feeds[spec.name] = picture.reshape(spec.shape)
    return feeds


def _real_pictures(settings: Settings) -> tuple[list[Image], list[Image]]:
    """Frames of the demo and the face in each, in the template; found by whatever engine is best here."""
    frames: list[Image] = []
    crops: list[Image] = []
    usual = Engines(settings.but(backend="auto", precision="auto"))
    with closing(open_source("demo", realtime=False)) as demo, closing(usual):
        finder = open_finder("own", usual.load)
        for _ in range(STRIDE * MOST_TRIES):
            frame = demo.read(1.0)
            if frame is None or frame.index % STRIDE:
                continue
            finder.reset()
            faces = finder(frame)
            crop = align(frame, faces[0]) if faces else None
            if crop is not None:
                frames.append(frame.image)
                crops.append(crop.image)
            if len(crops) == PICTURES:
                return frames, crops
    raise EngineRunError("the `faces` network finds no face in the demo", "run `occlufix-vcam doctor`")
