"""`process IN OUT`: the live pipeline on an image, a film or a folder of both.

Only stages are replaced (by a given mask, a template crop, a reference photograph); the same code restores as in a
call. Outputs appear completely or not at all. Pixels that no restored part covers keep their values: an image without a
hidden face keeps all of its pixels, alpha and 16 bits included; restored pixels have 8 bits of depth.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.contract import CROP_PX, HIDDEN, TEMPLATE, Image, Points
from occlufix_vcam.assembly import build_pipeline
from occlufix_vcam.core.errors import ConfigError, DeviceError, SinkUnavailable
from occlufix_vcam.core.frame import FaceTrack, Frame
from occlufix_vcam.core.media.animations import check_animation_name, encode_animation, is_animation, read_animation
from occlufix_vcam.core.media.film_formats import Quality
from occlufix_vcam.core.media.picture_writer import KINDS, encode, put_into, write_file
from occlufix_vcam.core.media.pictures import load_picture, read_picture, to_bgr
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.status import EngineFacts
from occlufix_vcam.core.telemetry import Telemetry
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.offline.inputs import Job, Plan, check_report, plan
from occlufix_vcam.offline.masks import read_mask
from occlufix_vcam.offline.stills import MOST_FACES, StillFinder, open_tiled_finder
from occlufix_vcam.offline.whose import ComparedReference, People, compared
from occlufix_vcam.pipeline import FrameSummary, Pipeline
from occlufix_vcam.stages.find import FaceFinder, open_finder
from occlufix_vcam.stages.hidden import GivenMask, HiddenSegmenter
from occlufix_vcam.stages.memory import FixedReference

if TYPE_CHECKING:
    from occlufix_vcam.offline.films import Restore

#: (done, total), in frames
ProcessProgress = Callable[[int, int], None]

MOST_FACES_OF_A_FILM = 16


@dataclass(frozen=True, slots=True)
class StageOverrides:
    """Stages that replace the usual ones, and the layout of the result."""

    mask: Path | None = None
    reference: Path | None = None
    aligned: bool = False
    side_by_side: bool = False
    quality: Quality = Quality.AUTO
    #: Enrolled person whom every face shows; "none": nobody is recognised.
    person: str | None = None


@dataclass(slots=True)
class FileReport:
    """Report on one input: `faces` and `coverage` are maxima per frame, `restored` counts faces over all frames.

    `left` counts, over all frames, hidden faces that were left alone, by reason as FrameSummary has them. `recognised`
    are the enrolled people, by name.
    """

    file: str
    out: str | None = None
    frames: int = 0
    faces: int = 0
    restored: int = 0
    coverage: float = 0.0
    ms: float = 0.0  # mean over the frames, pipeline only
    error: str | None = None  # what is missing, also where `out` was written
    notes: list[str] = field(default_factory=list)
    recognised: list[str] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)

    def add(self, summary: FrameSummary, seconds: float) -> None:
        self.ms += (seconds * 1e3 - self.ms) / (self.frames + 1)
        self.frames += 1
        self.faces = max(self.faces, summary.faces)
        self.restored += summary.restored
        self.coverage = max(self.coverage, summary.coverage)
        self.recognised = sorted({*self.recognised, *summary.people})
        self.left = dict(Counter(self.left) + Counter(summary.left))


@dataclass(frozen=True, slots=True)
class ProcessReport:
    files: Sequence[FileReport]
    engine: Mapping[str, EngineFacts] = field(default_factory=dict)
    skipped: int = 0  # files of a folder that are neither images nor films

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
    source: Path,
    target: Path,
    overrides: StageOverrides,
    settings: Settings,
    progress: ProcessProgress,
    report: Path | None = None,
) -> ProcessReport:
    """Restores `source` into `target`, both files or both folders. Raises OccluFixError, EngineError.

    A file in a folder that cannot be restored is skipped, with the reason in its report. `report` is where the caller
    saves the report: it is refused before any work.
    """
    todo = plan(source, target)
    if report is not None:
        check_report(report, todo, (overrides.mask, overrides.reference))
    with closing(EngineSet(settings)) as engines:
        work = _Work(overrides, settings, engines)
        if source.is_dir():
            files = _process_folder(work, todo, target, progress)
        else:
            files = [work.do(todo.jobs[0], lambda done: progress(done, todo.steps))]
        return ProcessReport(files, engines.facts(), todo.skipped)


def _process_folder(work: _Work, todo: Plan, target: Path, progress: ProcessProgress) -> list[FileReport]:
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkUnavailable(f"the folder {target} cannot be created: {error.strerror}", "choose another") from error
    reports, before = [], 0
    for job in todo.jobs:
        try:
            reports.append(work.do(job, lambda done, before=before: progress(before + done, todo.steps)))  # type: ignore[misc]
        except (DeviceError, ConfigError) as error:
            if isinstance(error, SinkUnavailable):
                raise
            reports.append(FileReport(job.source.name, error="; ".join(filter(None, (error.message, error.hint)))))
        before += job.steps
        progress(before, todo.steps)
    return reports


class _Work:
    """One run of `process`. Engines, finders and reference are shared; nothing else passes from input to input."""

    def __init__(self, overrides: StageOverrides, settings: Settings, engines: EngineSet) -> None:
        self._overrides, self._settings, self._engines = overrides, settings, engines
        #: As many faces as the user wants; else all.
        self._max_faces = settings.max_faces if "max_faces" in settings.model_fields_set else None
        self._reference = self._load_reference(overrides.reference) if overrides.reference else None
        self._people = People(overrides.person, settings, engines)

    def do(self, job: Job, progress: Callable[[int], None]) -> FileReport:
        if job.is_film:
            return self.video(job.source, job.target, lambda done, of: progress(min(done, job.steps)))
        if is_animation(job.source):
            return self.animation(job.source, job.target, lambda done: progress(min(done, job.steps)))
        report = self.picture(job.source, job.target)
        progress(1)
        return report

    @cached_property
    def _still_finder(self) -> StillFinder:
        load, wanted = self._engines.load, self._max_faces or MOST_FACES
        if self._overrides.aligned:
            return StillFinder(TemplateFinder(), wanted)
        is_own = self._settings.finder == "own"
        finder = open_tiled_finder(load) if is_own else open_finder(self._settings.finder, load, MOST_FACES)
        return StillFinder(finder, wanted)

    @cached_property
    def _film_finder(self) -> FaceFinder:
        if self._overrides.aligned:
            return TemplateFinder()
        return open_finder(self._settings.finder, self._engines.load, self._max_faces or MOST_FACES_OF_A_FILM)

    def picture(self, source: Path, target: Path) -> FileReport:
        if target.suffix.lower() not in KINDS:
            raise ConfigError(
                f"{target} is not an image file name", "use a name that ends in .png, .jpg, .webp, .tif or .bmp"
            )
        report = FileReport(source.name, str(target))
        pixels, facts = read_picture(source)
        # Transparent pixels keep their colours, so alpha is cut off and not blended in.
        image = to_bgr(pixels[:, :, :3] if pixels.ndim == 3 else pixels)
        with self._restorer(source, image, report, self._still_finder) as restore:
            restored = restore(Frame(image, 0, time.monotonic()))
        if self._still_finder.left:
            report.notes.append(
                f"{self._still_finder.left} more faces were left as they are: max_faces is {self._max_faces}"
            )
        if restored is image and facts.kind == KINDS[target.suffix.lower()] and not self._overrides.side_by_side:
            write_file(target, source.read_bytes())
            return report
        result = put_into(pixels, image, restored)
        if self._overrides.side_by_side:
            result = np.hstack([pixels, result])
        write_file(target, encode(result, target.suffix, facts))
        return report

    def animation(self, source: Path, target: Path, progress: Callable[[int], None]) -> FileReport:
        check_animation_name(target)
        report = FileReport(source.name, str(target))
        animation = read_animation(source)
        images, shown_at = [], 0.0
        before = [to_bgr(pixels[:, :, :3]) for pixels in animation.images]
        with self._restorer(source, before[0], report, self._film_finder) as restore:
            for index, (pixels, image) in enumerate(zip(animation.images, before, strict=True)):
                result = put_into(pixels, image, restore(Frame(image, index, shown_at)))
                images.append(np.hstack([pixels, result]) if self._overrides.side_by_side else result)
                shown_at += animation.times[index] / 1000
                progress(index + 1)
        same_kind = animation.facts.kind == KINDS[target.suffix.lower()]
        if not report.restored and same_kind and not self._overrides.side_by_side:
            write_file(target, source.read_bytes())
        else:
            write_file(target, encode_animation(replace(animation, images=images), target.suffix))
        return report

    def video(self, source: Path, target: Path, progress: Callable[[int, int], None]) -> FileReport:
        from occlufix_vcam.offline.films import FilmOptions, restore_film

        report = FileReport(source.name)
        options = FilmOptions(self._overrides.quality, self._overrides.side_by_side)

        def restorer(image: Image) -> AbstractContextManager[Restore]:
            return self._restorer(source, image, report, self._film_finder)

        result = restore_film(source, target, restorer, options, progress)
        report.out, report.error = str(result.path), result.damage
        report.notes += [f"{what} left out: {target.suffix} cannot hold it" for what in result.left_out]
        return report

    @contextmanager
    def _restorer(self, source: Path, image: Image, report: FileReport, finder: FaceFinder) -> Iterator[Restore]:
        """What restores the frames of one input, whose first one shows `image`."""
        given = self._overrides.mask
        mask = None if given is None else read_mask(given, source, (image.shape[1], image.shape[0]))
        with closing(self._pipeline(mask, finder)) as pipeline:
            yield lambda frame: self._run(pipeline, frame, mask, report)
        if isinstance(self._reference, ComparedReference) and (doubt := self._reference.note()):
            report.notes.append(doubt)

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

    def _pipeline(self, mask: Image | None, finder: FaceFinder) -> Pipeline:
        """Pipeline without memory of other inputs; engines that are already loaded are reused."""
        finder.reset()
        # A user's mask is restored however much it hides.
        settings = self._settings if mask is None else self._settings.but(when_unsure="restore")
        still = isinstance(finder, StillFinder)
        return build_pipeline(
            settings,
            Telemetry(),
            self._engines,
            find=finder,
            see_hidden=None if mask is None else GivenMask(mask),
            remember=self._reference or self._people.memory(still=still),
            still=still,
        )

    def _load_reference(self, path: Path) -> ComparedReference | FixedReference:
        picture = load_picture(path)
        segmenter = HiddenSegmenter(self._engines.load("hidden"), min_coverage=self._settings.min_coverage)
        return compared(FixedReference(picture, self._reference_landmarks(path, picture), segmenter), self._engines)

    def _reference_landmarks(self, path: Path, picture: Image) -> Points:
        if self._overrides.aligned and picture.shape[:2] == (CROP_PX, CROP_PX):
            return TEMPLATE
        faces = open_finder(self._settings.finder, self._engines.load)(Frame(picture, 0, 0.0))
        if not faces:
            raise ConfigError(f"no face found in {path}", "choose an image with one clear, frontal face")
        return max(faces, key=lambda face: float(np.ptp(face.landmarks, axis=0).max())).landmarks
