"""Benchmark of the live pipeline on this machine, stage by stage, on frames with a hidden face.

Frames are prepared before timing starts: read, fitted to their size, with a mask drawn over the largest face, so that
there is something to restore in every frame.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, TypeAlias

import cv2
import numpy as np
import psutil

from engines.base import InferenceEngine, SkippedBackend, Tensor, TensorSpec
from engines.contract import TEMPLATE, Image, Points, similarity, transform_points
from occlufix_vcam.assembly import build_pipeline, open_camera
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.status import EngineFacts
from occlufix_vcam.core.telemetry import StageFigures, Telemetry
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.sources import EndOfClip
from occlufix_vcam.stages.find import open_finder

SIZE: Final = (1280, 720)
MOST_FACES: Final = 4
#: Frames kept and shown back and forth, so that a face moves without jumps: 84 MiB at 1280x720.
PICTURES = 32
READ_TIMEOUT_S = 10.0
#: Outline of a medical mask in the face template, and its colour.
MASK_OUTLINE: Points = np.array(
    [[58, 140], [128, 122], [198, 140], [202, 180], [172, 228], [128, 242], [84, 228], [54, 180]], np.float32
)
MASK_COLOUR = (205, 180, 150)
PACKAGES = ("numpy", "opencv-python-headless", "openvino", "onnxruntime")

#: Width and height in pixels.
Size: TypeAlias = tuple[int, int]
#: (frames done, total)
BenchProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class BenchReport:
    """`stages` holds the pipeline's own spans; "networks" is the time of all engines in a frame, "rest" the remainder.

    `cpu_ms` is the processor time of a frame over all threads, `cpu_rest_ms` that of the rest: other load on the
    machine stretches the stages, but hardly these. `faces` and `restored` are means per frame; memory is resident, in
    MiB, and includes the prepared frames.
    """

    source: str
    size: tuple[int, int]
    frames: int
    faces: float
    restored: float
    stages: Mapping[str, StageFigures]
    cpu_ms: float
    cpu_rest_ms: float
    memory_mib: Sequence[float]
    pictures_mib: float
    engines: Mapping[str, EngineFacts]
    environment: Mapping[str, str]


class Bench:
    """One benchmark: `measure` as often as needed, then `report`. Used by one thread."""

    def __init__(self, settings: Settings, frames: int, size: Size = SIZE, faces: int = 1) -> None:
        """Loads the engines and prepares the frames; `frames` is the total number to be measured.

        A face is shown as often as `faces` says, side by side. Raises ConfigError if the source shows no face, and what
        sources and engines raise.
        """
        settings = settings.but(width=size[0], height=size[1], realtime=False, loop=True)
        self._size = size
        self._source = settings.source
        self._telemetry = Telemetry(window=frames)
        self._engines = _TimedEngines(settings)
        try:
            self._pictures = hidden_faces(settings, self._engines, size, faces)
            self._pipeline = build_pipeline(settings, self._telemetry, self._engines)
        except BaseException:
            self._engines.close()
            raise
        self._process = psutil.Process()
        self._shown = 0
        self._cpu_s = 0.0
        self._memory_mib: list[float] = []

    def warm_up(self, frames: int = 30) -> None:
        """Runs without measuring, and forgets all statistics so far."""
        for _ in range(frames):
            self._pipeline(self._next_frame())
        self._telemetry.reset()
        self._cpu_s = self._engines.spent_cpu_s = 0.0
        self._memory_mib = [self._resident_mib()]

    def measure(self, frames: int, progress: BenchProgress = lambda done, total: None) -> None:
        """Measures `frames` more; samples the memory ten times."""
        for done in range(1, frames + 1):
            frame = self._next_frame()
            self._engines.spent_s = 0.0
            cpu_s, began = time.process_time(), time.perf_counter()
            self._pipeline(frame)
            total_s = time.perf_counter() - began
            self._cpu_s += time.process_time() - cpu_s
            self._telemetry.record("networks", self._engines.spent_s)
            self._telemetry.record("rest", total_s - self._engines.spent_s)
            if done % max(frames // 10, 1) == 0:
                self._memory_mib.append(self._resident_mib())
                progress(done, frames)

    def report(self) -> BenchReport:
        """Statistics since the warm-up. Raises ConfigError if nothing was measured."""
        stages, counts = self._telemetry.percentiles(), self._telemetry.counts()
        if "total" not in stages:
            raise ConfigError("no frame was measured", "measure at least one frame")
        frames = stages["total"]["count"]
        return BenchReport(
            source=self._source,
            size=self._size,
            frames=frames,
            faces=counts["faces"] / frames,
            restored=counts["restored"] / frames,
            stages=stages,
            cpu_ms=self._cpu_s / frames * 1e3,
            cpu_rest_ms=(self._cpu_s - self._engines.spent_cpu_s) / frames * 1e3,
            memory_mib=tuple(round(mib, 1) for mib in self._memory_mib),
            pictures_mib=sum(picture.nbytes for picture in self._pictures) / 2**20,
            engines=self._engines.facts(),
            environment=environment(),
        )

    def close(self) -> None:
        self._pipeline.close()
        self._engines.close()

    def _next_frame(self) -> Frame:
        there_and_back = 2 * len(self._pictures) - 2 or 1
        place = self._shown % there_and_back
        picture = self._pictures[min(place, there_and_back - place)]
        self._shown += 1
        # A thirtieth apart, like a camera's: the finder's smoothing depends on time.
        return Frame(picture, self._shown, self._shown / 30)

    def _resident_mib(self) -> float:
        return float(self._process.memory_info().rss) / 2**20


def hidden_faces(settings: Settings, engines: EngineSet, size: Size, count: int) -> list[Image]:
    """First frames of the source that show a face, in this size, with a mask drawn over the largest face.

    That face is shown `count` times.

    Raises ConfigError if there is none.
    """
    pictures: list[Image] = []
    with closing(open_camera(settings)) as camera:
        # Not closed: the pipeline will run on its engines.
        find = open_finder(settings.finder, engines.load, settings.max_faces)
        for _ in range(2 * PICTURES):
            try:
                frame = camera.read(READ_TIMEOUT_S)
            except EndOfClip:
                break
            if frame is None:
                break
            picture = fit(frame.image, size)
            faces = find(Frame(picture, frame.index, frame.index / 30))
            if faces:
                draw_mask(picture, faces[0].landmarks)
                pictures.append(repeated(picture, faces[0].landmarks, count))
            if len(pictures) == PICTURES:
                break
    if not pictures:
        raise ConfigError(f"no face was found in the source {settings.source}", "choose another with --source")
    return pictures


def fit(image: Image, size: Size = SIZE) -> Image:
    """New image of this `size` with all of `image` in its middle."""
    height, width = image.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    inner = max(round(width * scale), 1), max(round(height * scale), 1)
    picture: Image = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    cv2.resize(image, inner, dst=picture[top : top + inner[1], left : left + inner[0]], interpolation=flags)
    return picture


def repeated(picture: Image, landmarks: Points, count: int) -> Image:
    """`picture` as a grid of the part around one face, `count` times: two in full size, up to four in half."""
    if count == 1:
        return picture
    height, width = picture.shape[:2]
    rows = -(-count // 2)
    half = width * rows // 4
    middle = int(np.clip(landmarks[:, 0].mean(), half, width - half))
    part = cv2.resize(picture[:, middle - half : middle + half], (width // 2, height // rows))
    grid = np.zeros_like(picture)
    for number in range(count):
        top, left = number // 2 * (height // rows), number % 2 * (width // 2)
        grid[top : top + part.shape[0], left : left + part.shape[1]] = part
    return grid


def draw_mask(picture: Image, landmarks: Points) -> None:
    """Draws a medical mask on the face with these landmarks, in place."""
    outline = transform_points(MASK_OUTLINE, similarity(TEMPLATE, landmarks))
    cv2.fillPoly(picture, [np.rint(outline).astype(np.int32)], MASK_COLOUR, cv2.LINE_AA)


def environment() -> dict[str, str]:
    """What the results depend on besides the program."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "processor": _processor(),
        "cores": str(usable),
        "load": load,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def as_text(report: BenchReport) -> str:
    """Report as text."""
    lines = [
        f"{report.source}, {report.size[0]}x{report.size[1]}, {report.frames} frames, "
        f"{report.faces:.2f} faces and {report.restored:.2f} restored a frame",
        f"{'stage':<12}{'p50':>9}{'p95':>9}{'p99':>9}  ms",
    ]
    for stage, figures in report.stages.items():
        lines.append(f"{stage:<12}{figures['p50_ms']:>9.2f}{figures['p95_ms']:>9.2f}{figures['p99_ms']:>9.2f}")
    first, last, most = report.memory_mib[0], report.memory_mib[-1], max(report.memory_mib)
    lines += [
        f"processor time a frame: {report.cpu_ms:.1f} ms, of which {report.cpu_rest_ms:.1f} beside the networks",
        f"resident memory: {first:.0f} MiB at the start, {last:.0f} at the end, {most:.0f} at most "
        f"({report.pictures_mib:.0f} of them for the frames)",
    ]
    for model, facts in report.engines.items():
        lines.append(f"{model}: {facts['backend']} on {facts['device']}, {facts['precision']}")
    lines.append(", ".join(f"{name} {value}" for name, value in report.environment.items()))
    return "\n".join(lines)


class _TimedEngines(EngineSet):
    """The product's engines; their runs add up in `spent_s` and, as processor time, in `spent_cpu_s`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.spent_s = 0.0
        self.spent_cpu_s = 0.0

    def load(self, model: str, input_shapes: Mapping[str, tuple[int, ...]] | None = None) -> InferenceEngine:
        return _TimedEngine(super().load(model, input_shapes or {}), self)


class _TimedEngine:
    """Engine whose runs are timed."""

    def __init__(self, engine: InferenceEngine, clock: _TimedEngines) -> None:
        self._engine = engine
        self._clock = clock
        self.backend = engine.backend
        self.device = engine.device
        self.precision = engine.precision
        self.inputs: Sequence[TensorSpec] = engine.inputs
        self.outputs: Sequence[TensorSpec] = engine.outputs
        self.passed_over: Sequence[SkippedBackend] = engine.passed_over

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        cpu_s, began = time.process_time(), time.perf_counter()
        results = self._engine.run(feeds)
        self._clock.spent_s += time.perf_counter() - began
        self._clock.spent_cpu_s += time.process_time() - cpu_s
        return results

    def close(self) -> None:
        self._engine.close()
