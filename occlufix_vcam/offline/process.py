"""`process IN OUT`: the live pipeline on an image, a video or a folder of images.

Only stages are replaced (by a given mask, a template crop, a reference photograph); the same code restores as in a
call. Outputs appear completely or not at all. Pixels that no restored part covers keep their values: an image without a
hidden face keeps all of its pixels, alpha and 16 bits included; restored pixels have 8 bits of depth.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
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
from occlufix_vcam.media.film_formats import Quality
from occlufix_vcam.offline.films import FilmOptions, Restore, restore_film
from occlufix_vcam.pipeline import FrameSummary, Pipeline
from occlufix_vcam.sinks.pictures import encode, put_into, write_file
from occlufix_vcam.sources.pictures import PICTURE_SUFFIXES, load_picture, picture_files, read_pixels, to_bgr
from occlufix_vcam.stages.find import FaceFinder, open_finder
from occlufix_vcam.stages.hidden import GivenMask, HiddenSegmenter
from occlufix_vcam.stages.memory import FixedReference

#: (done, total; None if unknown)
ProcessProgress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class StageOverrides:
    """Stages that replace the usual ones, and the layout of the result."""

    mask: Path | None = None
    reference: Path | None = None
    aligned: bool = False
    side_by_side: bool = False
    quality: Quality = Quality.HIGH


@dataclass(slots=True)
class FileReport:
    """Report on one input: `faces` and `coverage` are maxima per frame, `restored` counts faces over all frames."""

    file: str
    out: str | None = None
    frames: int = 0
    faces: int = 0
    restored: int = 0
    coverage: float = 0.0
    ms: float = 0.0  # mean over the frames, pipeline only
    error: str | None = None  # what is missing, also where `out` was written
    notes: list[str] = field(default_factory=list)

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
    """Treats the frame as a face that is already in the template: `--aligned`."""

    def __call__(self, frame: Frame) -> Sequence[FaceTrack]:
        height, width = frame.image.shape[:2]
        if (width, height) != (CROP_PX, CROP_PX):
            raise ConfigError(
                f"--aligned takes images of {CROP_PX}x{CROP_PX} pixels, this one has {width}x{height}",
                "omit --aligned to detect the faces",
            )
        return (FaceTrack(track_id=0, landmarks=TEMPLATE, confidence=1.0),)

    def reset(self) -> None:
        """Nothing to forget."""


def process(
    source: Path, target: Path, swaps: StageOverrides, settings: Settings, progress: ProcessProgress
) -> ProcessReport:
    """Restores `source` into `target`, both files or both folders. Raises OccluFixError, EngineError.

    An unreadable image in a folder is skipped, with the reason in its report.
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
        raise SinkUnavailable(f"the folder {target} cannot be created: {error.strerror}", "choose another") from error
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
    """One run of `process`. Engines, finder and reference are shared; nothing else passes from input to input."""

    def __init__(self, swaps: StageOverrides, settings: Settings, engines: EngineSet) -> None:
        self._swaps, self._settings, self._engines = swaps, settings, engines
        self._finder: FaceFinder = (
            TemplateFinder() if swaps.aligned else open_finder(settings.finder, engines.load, settings.max_faces)
        )
        self._reference = self._load_reference(swaps.reference) if swaps.reference else None

    def picture(self, source: Path, target: Path) -> FileReport:
        if target.suffix.lower() not in PICTURE_SUFFIXES:
            raise ConfigError(
                f"{target} is not an image file name", "use a name that ends in .png, .jpg, .webp, .tif or .bmp"
            )
        report = FileReport(source.name, str(target))
        pixels = read_pixels(source)
        # Transparent pixels keep their colours, so alpha is cut off and not blended in.
        image = to_bgr(pixels[:, :, :3] if pixels.ndim == 3 else pixels)
        with self._restorer(source, image, report) as restore:
            restored = restore(Frame(image, 0, time.monotonic()))
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
        report = FileReport(source.name)
        options = FilmOptions(self._swaps.quality, self._swaps.side_by_side)
        result = restore_film(source, target, lambda image: self._restorer(source, image, report), options, progress)
        report.out, report.error = str(result.path), result.damage
        report.notes += [f"{what} left out: {target.suffix} cannot hold it" for what in result.left_out]
        return report

    @contextmanager
    def _restorer(self, source: Path, image: Image, report: FileReport) -> Iterator[Restore]:
        """What restores the frames of one input, whose first one shows `image`."""
        mask = self._given_mask(source, image)
        with closing(self._pipeline(mask)) as pipeline:
            yield lambda frame: self._run(pipeline, frame, mask, report)

    def _run(self, pipeline: Pipeline, frame: Frame, mask: Image | None, report: FileReport) -> Image:
        """Restored image; `frame.image` itself if nothing was restored."""
        began = time.perf_counter()
        finished, summary = pipeline(frame)
        restored = finished.image
        report.add(summary, time.perf_counter() - began)
        if mask is None or restored is frame.image:
            return restored
        # Warping to the crop and back moves a mask's edge by a fraction of a pixel; a given mask is followed exactly.
        return np.where(mask[..., None] == HIDDEN, restored, frame.image)

    def _pipeline(self, mask: Image | None) -> Pipeline:
        """Pipeline without memory of other inputs; engines that are already loaded are reused."""
        self._finder.reset()
        # A user's mask is restored however much it hides.
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
        """Mask for `source`, whose (first) frame is `image`: height x width uint8, HIDDEN or 0."""
        path = self._swaps.mask
        if path is None:
            return None
        if path.is_dir():
            path = _same_stem(path, source)
        mask = cv2.cvtColor(load_picture(path), cv2.COLOR_BGR2GRAY)
        if mask.shape != image.shape[:2]:
            raise ConfigError(
                f"the mask {path.name} is {_form(mask.shape)}, the image {source.name} is {_form(image.shape)}",
                "use a mask of the same size, white where hidden and black elsewhere",
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
            raise ConfigError(f"no face found in {path}", "choose an image with one clear, frontal face")
        return max(faces, key=lambda face: float(np.ptp(face.landmarks, axis=0).max())).landmarks


def _same_stem(folder: Path, source: Path) -> Path:
    for file in picture_files(folder):
        if file.stem == source.stem:
            return file
    raise ConfigError(f"{folder} contains no mask for {source.name}", "give each mask the name of its image")


def _form(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
