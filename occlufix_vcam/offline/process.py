"""`process IN OUT`: the live pipeline on a picture, a video or a folder of pictures.

Only stages are swapped (a given mask, a template crop, a reference photograph); what restores is what runs live.
Outputs appear whole or not at all. What no restored part covers keeps its value: a picture without a hidden face is
written with the pixels that it had, alpha and 16 bits included; restored pixels have 8 bits of depth.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np

from engines.contract import CROP_PX, HIDDEN, TEMPLATE, Image, Points
from occlufix_vcam.assembly import build_pipeline
from occlufix_vcam.core.errors import CameraNotFound, ConfigError, DeviceError, SinkUnavailable
from occlufix_vcam.core.frame import FaceTrack, Frame
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.status import EngineFacts
from occlufix_vcam.core.telemetry import Telemetry
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.pipeline import FrameSummary, Pipeline
from occlufix_vcam.sinks.opening import open_sink
from occlufix_vcam.sinks.pictures import encode, put_into, write_file
from occlufix_vcam.sinks.recorder import FILM_SUFFIXES
from occlufix_vcam.sources import CameraSource, EndOfClip
from occlufix_vcam.sources.opening import open_source
from occlufix_vcam.sources.pictures import PICTURE_SUFFIXES, load_picture, picture_files, read_pixels, to_bgr
from occlufix_vcam.stages.find import FaceFinder, open_finder
from occlufix_vcam.stages.hidden import GivenMask, HiddenSegmenter
from occlufix_vcam.stages.memory import FixedReference

#: (done, of how many; None where nobody knows)
ProcessProgress = Callable[[int, int | None], None]

READ_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class StageOverrides:
    """What takes the place of the usual stages, and how the result is laid out."""

    mask: Path | None = None
    reference: Path | None = None
    aligned: bool = False
    side_by_side: bool = False


@dataclass(slots=True)
class FileReport:
    """One input: `faces` and `coverage` are the most of any frame, `restored` counts faces over all frames."""

    file: str
    out: str | None = None
    frames: int = 0
    faces: int = 0
    restored: int = 0
    coverage: float = 0.0
    ms: float = 0.0  # of the pipeline, mean over the frames
    error: str | None = None

    def add(self, summary: FrameSummary, seconds: float) -> None:
        self.ms += (seconds * 1e3 - self.ms) / (self.frames + 1)
        self.frames += 1
        self.faces = max(self.faces, summary.faces)
        self.restored += summary.restored
        self.coverage = max(self.coverage, summary.coverage)


@dataclass(frozen=True, slots=True)
class ProcessReport:
    files: Sequence[FileReport]
    engine: Mapping[str, EngineFacts] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        write_file(path, json.dumps(asdict(self), indent=2).encode())


class TemplateFinder:
    """Says that the frame is a face in the template already: `--aligned`."""

    def __call__(self, frame: Frame) -> Sequence[FaceTrack]:
        height, width = frame.image.shape[:2]
        if (width, height) != (CROP_PX, CROP_PX):
            raise ConfigError(
                f"--aligned takes pictures of {CROP_PX}x{CROP_PX} pixels, this one has {width}x{height}",
                "leave --aligned away: then the faces are looked for",
            )
        return (FaceTrack(track_id=0, landmarks=TEMPLATE, confidence=1.0),)

    def reset(self) -> None:
        """Remembers nothing."""


def process(
    source: Path, target: Path, swaps: StageOverrides, settings: Settings, progress: ProcessProgress
) -> ProcessReport:
    """Restores `source` into `target`, both a file or both a folder. Raises OccluFixError, EngineError.

    A picture of a folder that can't be read is left out, with the reason in its report.
    """
    if not source.exists():
        raise CameraNotFound(f"there is no {source}", "check the path")
    if target.is_dir() and not source.is_dir():
        target = target / source.name
    if source.resolve() == target.resolve():
        raise ConfigError("IN and OUT are the same", "give OUT another name: the input is never overwritten")
    with closing(EngineSet(settings)) as engines:
        work = _Work(swaps, settings, engines)
        if source.is_dir():
            files = _process_folder(work, source, target, progress)
        else:
            is_picture = source.suffix.lower() in PICTURE_SUFFIXES
            files = [work.picture(source, target) if is_picture else work.video(source, target, progress)]
            progress(1, 1)
        return ProcessReport(files, engines.facts())


def _process_folder(work: _Work, source: Path, target: Path, progress: ProcessProgress) -> list[FileReport]:
    files = picture_files(source)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkUnavailable(f"the folder {target} can't be made: {error.strerror}", "choose another") from error
    reports = []
    for done, file in enumerate(files, start=1):
        try:
            reports.append(work.picture(file, target / file.name))
        except (DeviceError, ConfigError) as error:
            if isinstance(error, SinkUnavailable):
                raise
            reports.append(FileReport(file.name, error=error.message))
        progress(done, len(files))
    return reports


class _Work:
    """One run of `process`: engines, finder and reference are shared; nothing else passes from input to input."""

    def __init__(self, swaps: StageOverrides, settings: Settings, engines: EngineSet) -> None:
        self._swaps, self._settings, self._engines = swaps, settings, engines
        self._finder: FaceFinder = (
            TemplateFinder() if swaps.aligned else open_finder(settings.finder, engines.load, settings.max_faces)
        )
        self._reference = self._load_reference(swaps.reference) if swaps.reference else None

    def picture(self, source: Path, target: Path) -> FileReport:
        if target.suffix.lower() not in PICTURE_SUFFIXES:
            raise ConfigError(f"{target} is no name of a picture", "end OUT in .png, .jpg, .webp, .tif or .bmp")
        report = FileReport(source.name, str(target))
        pixels = read_pixels(source)
        # What is transparent keeps its colours, which is why alpha is cut off and not blended in.
        image = to_bgr(pixels[:, :, :3] if pixels.ndim == 3 else pixels)
        mask = self._given_mask(source, image)
        with closing(self._pipeline(mask)) as pipeline:
            restored = self._run(pipeline, Frame(image, 0, time.monotonic()), mask, report)
        same_kind = source.suffix.lower() == target.suffix.lower()
        if restored is image and same_kind and not self._swaps.side_by_side:
            write_file(target, source.read_bytes())
            return report
        result = put_into(pixels, image, restored)
        if self._swaps.side_by_side:
            result = np.hstack([pixels, result])
        write_file(target, encode(result, target.suffix))
        return report

    def video(self, source: Path, target: Path, progress: ProcessProgress) -> FileReport:
        if target.suffix.lower() not in FILM_SUFFIXES:
            raise ConfigError(f"{target} is no name of a video", "end OUT in .mp4, or in .mkv to lose nothing")
        # The recorder keeps what it has when it is closed; half a video must not take the place of a whole one.
        unfinished = target.with_name(f".{target.stem}.unfinished{target.suffix}")
        try:
            report = self._film(source, unfinished, progress)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
        report.out = str(target)
        return report

    def _film(self, source: Path, target: Path, progress: ProcessProgress) -> FileReport:
        report = FileReport(source.name)
        with ExitStack() as stack:
            clip = stack.enter_context(closing(open_source(str(source), loop=False, realtime=False)))
            width, height = clip.size
            size = (2 * width if self._swaps.side_by_side else width, height)
            film = stack.enter_context(closing(open_sink("recorder", size=size, rate=clip.rate, path=target)))
            frame = _next_frame(clip)
            mask = self._given_mask(source, frame.image) if frame else None
            pipeline = stack.enter_context(closing(self._pipeline(mask)))
            while frame is not None:
                image = self._run(pipeline, frame, mask, report)
                if self._swaps.side_by_side:
                    image = np.hstack([frame.image, image])
                film.send(Frame(image, frame.index, frame.captured_at))
                progress(report.frames, None)
                frame = _next_frame(clip)
        return report

    def _run(self, pipeline: Pipeline, frame: Frame, mask: Image | None, report: FileReport) -> Image:
        """The restored picture; `frame.image` itself where nothing was restored."""
        began = time.perf_counter()
        finished, summary = pipeline(frame)
        restored = finished.image
        report.add(summary, time.perf_counter() - began)
        if mask is None or restored is frame.image:
            return restored
        # On its way through the crop a mask's edge moves by a fraction of a pixel; a given one is to be kept to.
        return np.where(mask[..., None] == HIDDEN, restored, frame.image)

    def _pipeline(self, mask: Image | None) -> Pipeline:
        """A pipeline without memory of other inputs; engines that are made already are used again."""
        self._finder.reset()
        # Who gives a mask wants what is under it, however much that is.
        settings = self._settings if mask is None else self._settings.but(when_unsure="restore")
        return build_pipeline(
            settings,
            Telemetry(),
            self._engines,
            find=self._finder,
            see_hidden=None if mask is None else GivenMask(mask),
            remember=self._reference,
        )

    def _given_mask(self, source: Path, image: Image) -> Image | None:
        """The mask for `source`, whose (first) picture is `image`: height x width uint8, HIDDEN or 0."""
        path = self._swaps.mask
        if path is None:
            return None
        if path.is_dir():
            path = _same_stem(path, source)
        mask = cv2.cvtColor(load_picture(path), cv2.COLOR_BGR2GRAY)
        if mask.shape != image.shape[:2]:
            raise ConfigError(
                f"the mask {path.name} is {_form(mask.shape)}, the picture {source.name} is {_form(image.shape)}",
                "a mask has the size of its picture: white where it is hidden, black elsewhere",
            )
        return np.where(mask > HIDDEN // 2, np.uint8(HIDDEN), np.uint8(0))

    def _load_reference(self, path: Path) -> FixedReference:
        picture = load_picture(path)
        segmenter = HiddenSegmenter(self._engines.load("hidden"), min_coverage=self._settings.min_coverage)
        return FixedReference(picture, self._reference_landmarks(path, picture), segmenter)

    def _reference_landmarks(self, path: Path, picture: Image) -> Points:
        if self._swaps.aligned and picture.shape[:2] == (CROP_PX, CROP_PX):
            return TEMPLATE
        finder = open_finder(self._settings.finder, self._engines.load) if self._swaps.aligned else self._finder
        faces = finder(Frame(picture, 0, 0.0))
        if not faces:
            raise ConfigError(f"no face is found in {path}", "choose a picture with one clear, frontal face")
        return max(faces, key=lambda face: float(np.ptp(face.landmarks, axis=0).max())).landmarks


def _next_frame(clip: CameraSource) -> Frame | None:
    """None at the end. Its time is the clip's own, which the tracking goes by, however long restoring takes."""
    try:
        frame = clip.read(READ_TIMEOUT_S)
    except EndOfClip:
        return None
    if frame is None:
        raise DeviceError(f"{clip.description} gives no more pictures", "check that it plays elsewhere")
    return Frame(frame.image, frame.index, frame.index / clip.rate)


def _same_stem(folder: Path, source: Path) -> Path:
    for file in picture_files(folder):
        if file.stem == source.stem:
            return file
    raise ConfigError(f"{folder} holds no mask for {source.name}", "a mask has the name of its picture")


def _form(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
