"""Checks an engine against the FP32 ONNX of its model on real crops of a face, and times both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import cv2
import numpy as np

import engines
from engines import EngineBuildError, EngineOptions, EngineRunError, InferenceEngine
from engines.base import Tensor
from engines.contract import CROP_PX, HIDDEN, TEMPLATE_PART, WIDE_PX, Image
from engines.errors import ContractMismatch
from engines.manifest import Model
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.sources import SourceOptions
from occlufix_vcam.sources.demo.source import Demo
from occlufix_vcam.stages.align import align
from occlufix_vcam.stages.find import open_finder

Shapes = Mapping[str, tuple[int, ...]]

CROPS = 64
WARM_UP = 3
FRAME_SIZE = (640, 360)
#: Required agreement with the FP32 ONNX: minimum in dB, and maximum mean error in steps of 255. FP16 and bf16 reach
#: 54 dB and more; an engine that computes something else is below 30.
LEAST_PSNR_DB, MOST_MEAN_ERROR = 40.0, 1.0
#: int8 deviates more by nature, the finder's distances most of all (33 dB): its cost in faces, holes and landmarks
#: was measured before release (train/export/quantise.py). Here it only has to be the same network.
BOUNDS = {"int8": (30.0, 6.0)}


@dataclass(frozen=True, slots=True)
class EngineCheck:
    """Check of one engine. Errors are in steps of 255: of an image, or of the range of the network's output.

    Values that were not measured are None, and `note` says why; `file` is the plan's path, if the backend has one.
    """

    model: str
    shape: str
    backend: str
    device: str
    precision: str
    build_s: float
    crops: int = 0
    psnr_db: float | None = None
    mean_error: float | None = None
    largest_error: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    fp32_p50_ms: float | None = None
    fp32_p99_ms: float | None = None
    size_mb: float | None = None
    file: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class CheckPictures:
    """Frames of the demo and the face in each, in the wide field."""

    frames: Sequence[Image]
    faces: Sequence[Image]

    def face(self, turn: int, side: int) -> Image:
        """The wide field, for an input of that side; else the template."""
        wide = self.faces[turn]
        return wide if side == WIDE_PX else wide[TEMPLATE_PART]


def compare(
    check: EngineCheck,
    engine: InferenceEngine,
    model: Model,
    shapes: Shapes,
    pictures: CheckPictures,
    tell: Callable[[float], None],
) -> EngineCheck:
    """Runs both engines on the same crops, in turn, and compares them. Raises EngineError."""
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    errors = {spec.name: _Error(of_255=spec.dtype == "uint8") for spec in engine.outputs}
    with closing(engines.load(model, EngineOptions("onnxruntime", "fp32", input_shapes=shapes))) as reference_engine:
        for turn in range(-WARM_UP, CROPS):
            feeds = _feeds(engine, pictures, turn % CROPS)
            began = time.perf_counter()
            ours = engine.run(feeds)
            between = time.perf_counter()
            theirs = reference_engine.run(feeds)
            ended = time.perf_counter()
            if turn < 0:
                continue
            times["ours"].append((between - began) * 1e3)
            times["theirs"].append((ended - between) * 1e3)
            for name, error in errors.items():
                error.note(ours[name], theirs[name])
            tell((turn + 1) / CROPS)
    (p50, p99), (fp32_p50, fp32_p99) = (np.percentile(taken, (50, 99)) for taken in times.values())
    worst = max(errors.values(), key=lambda error: error.mean_square)
    return replace(
        check,
        shape="x".join(map(str, engine.inputs[0].shape)),
        crops=CROPS,
        psnr_db=worst.psnr_db,
        mean_error=max(error.mean for error in errors.values()),
        largest_error=max(error.largest for error in errors.values()),
        p50_ms=float(p50),
        p99_ms=float(p99),
        fp32_p50_ms=float(fp32_p50),
        fp32_p99_ms=float(fp32_p99),
    )


class _Error:
    """Error of one output over all crops, in steps of 255 of its range."""

    def __init__(self, of_255: bool) -> None:
        self._range = 255.0 if of_255 else 0.0
        self._fixed = of_255
        self._count = 0
        self._sum = self._squares = self._largest = 0.0

    def note(self, ours: Tensor, theirs: Tensor) -> None:
        expected = theirs.astype(np.float64)
        difference = np.abs(ours.astype(np.float64) - expected)
        if not self._fixed:
            self._range = max(self._range, float(np.abs(expected).max()))
        self._count += difference.size
        self._sum += float(difference.sum())
        self._squares += float((difference**2).sum())
        self._largest = float(np.maximum(self._largest, difference.max()))  # keeps NaN

    @property
    def _step(self) -> float:
        return 255.0 / self._range if self._range else 255.0

    @property
    def mean(self) -> float:
        return self._sum / self._count * self._step

    @property
    def mean_square(self) -> float:
        return self._squares / self._count * self._step**2

    @property
    def largest(self) -> float:
        return self._largest * self._step

    @property
    def psnr_db(self) -> float:
        """PSNR in dB; 99 if nothing differs."""
        return min(99.0, float(10 * np.log10(255.0**2 / max(self.mean_square, 1e-9))))


def refuse_if_off(check: EngineCheck) -> None:
    """Raises EngineBuildError if the engine's outputs differ too much from its model's."""
    assert check.psnr_db is not None and check.mean_error is not None
    least_db, most_mean = BOUNDS.get(check.precision, (LEAST_PSNR_DB, MOST_MEAN_ERROR))
    if check.psnr_db >= least_db and check.mean_error <= most_mean:
        return
    raise EngineBuildError(
        f"The {check.backend} engine for {check.model} ({check.precision}) is refused: on {check.crops} crops it is "
        f"off the FP32 ONNX by {check.mean_error:.2f} of 255 in the mean and {check.largest_error:.0f} at most, "
        f"{check.psnr_db:.1f} dB; {most_mean:.0f} and {least_db:.0f} dB are the bounds",
        "try --precision fp32 or another backend; an earlier engine is kept",
    )


def _feeds(engine: InferenceEngine, pictures: CheckPictures, turn: int) -> dict[str, Tensor]:
    """Inputs as the product would feed them, by name. Raises ContractMismatch for unknown inputs."""
    hidden = np.zeros((CROP_PX, CROP_PX), np.uint8)
    cv2.ellipse(hidden, (128, 175), (70, 60), 0, 0, 360, HIDDEN, cv2.FILLED)
    side = engine.inputs[0].shape[1]
    known = {
        "frame": pictures.frames[turn],
        "face": pictures.face(turn, side),
        "mask": hidden,
        "reference": pictures.face(turn - 1, side),
        "reference_mask": np.full((CROP_PX, CROP_PX), HIDDEN, np.uint8),
    }
    feeds: dict[str, Tensor] = {}
    for spec in engine.inputs:
        picture = known.get(spec.name)
        if picture is None or len(spec.shape) != 4 or spec.dtype != "uint8":
            form = "x".join(map(str, spec.shape))
            raise ContractMismatch(
                f"there are no test images for the input {spec.name} ({form} {spec.dtype})",
                f"use only uint8 inputs named: {', '.join(known)}",
            )
        batch, height, width, channels = spec.shape
        fitted = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, -1)
        if fitted.shape[2] != channels:
            raise ContractMismatch(f"{spec.name} has {channels} channels, not {fitted.shape[2]}", "export it again")
        feeds[spec.name] = np.repeat(fitted[None], batch, axis=0)
    return feeds


def real_pictures(settings: Settings) -> CheckPictures:
    """CROPS moments of the demo, each with its face as found by the FP32 ONNX."""
    frames: list[Image] = []
    wide: list[Image] = []
    exact = EngineSet(settings.but(backend="onnxruntime", precision="fp32"))
    with closing(Demo("demo", SourceOptions(realtime=False))) as demo, closing(exact):
        finder = open_finder("own", exact.load)
        for moment in range(CROPS):
            frame = Frame(demo.render(moment * demo.round_frames // CROPS), moment, 0.0)
            finder.reset()
            faces = finder(frame)
            crop = align(frame, faces[0]) if faces else None
            if crop is not None:
                small = cv2.resize(frame.image, FRAME_SIZE, interpolation=cv2.INTER_AREA)
                frames.append(small.astype(np.uint8, copy=False))
                wide.append(crop.wide)
    if not wide:
        raise EngineRunError("the `faces` network finds no face in the demo", "run `occlufix-vcam doctor`")
    repeats = [turn % len(wide) for turn in range(CROPS)]  # a crop for a face that was not found
    return CheckPictures([frames[turn] for turn in repeats], [wide[turn] for turn in repeats])
