"""Figures of face finders: the two passes, as the product runs them, on photographs that were not trained on.

A face counts as found where a find's box has an IoU of at least 0.4 with its label. Photographs are fitted into
1280x720, as a camera would show them; faces lower than 90 pixels there do not count.

The landmarks' labels are noisy (train/data/labels.py), so errors are given twice: from the labels, and from the mean of
several runs ("steady"), which is nearer to the truth; and YuNet's own errors on the same frames beside ours.

Faces that something really hides are measured on dev photographs, in pixels of the face template: what the product
restores lies so far off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from engines.contract import Affine, Image, Points, transform_points
from engines.faces_maps import Detection, Maps, TwoPassDetector, overlap
from train.data.labels import YuNet, match
from train.data.photographs import Photographs
from train.data.wide import WideSet
from train.evaluation.report import EvalReport, column_report
from train.occlusion.scene_occluders import EYE_REGION, LOWER_FACE, Cover, CutOuts
from train.occlusion.transplants import Transplants
from train.onnx_runner import Runner
from train.tasks.faces_data import LabelledPhotograph, load_scenes

FRAME_SIZE = (720, 1280)
LEAST_HEIGHT_PX = 90
#: Of a clip's frames, which differ little from one to the next, one in so many is measured.
EVERY_FRAME = 8
#: Faces nearer to profile than this (eye distance over box width) have no eye distance to measure by.
LEAST_EYE_SHARE = 0.2
#: A find is a photograph's face where its landmarks are off by less than this, in template pixels.
SAME_FACE_PX = 100.0
#: Landmarks that are off by more show: the restored mouth is not where the face's is.
FAR_PX = 15.0
#: Portraits of the dev set that get something before them, of all that there are.
PORTRAITS = 150

_SAME: Affine = np.eye(2, 3, dtype=np.float32)

FindFaces = Callable[[Image], list[Detection]]


@dataclass(frozen=True, eq=False)
class ExpectedFace:
    """A face to find: its box x0, y0, x1, y1, the label's landmarks and the mean of several detections."""

    box: Points
    landmarks: Points
    steady: Points


@dataclass
class RecallTally:
    """Faces expected, faces found, and the landmark errors of the found ones in eye distances."""

    expected: int = 0
    found: int = 0
    errors: list[float] = field(default_factory=list)
    steady_errors: list[float] = field(default_factory=list)

    def add(self, find: Detection | None, face: ExpectedFace | None) -> None:
        self.expected += 1
        self.found += find is not None
        if find is None or face is None:
            return
        eye_distance = float(np.hypot(*(face.landmarks[1] - face.landmarks[0])))
        if eye_distance >= LEAST_EYE_SHARE * (face.box[2] - face.box[0]):
            for errors, truth in ((self.errors, face.landmarks), (self.steady_errors, face.steady)):
                errors.append(float(np.hypot(*(find.landmarks - truth).T).mean()) / eye_distance)

    @property
    def recall(self) -> float:
        return self.found / max(self.expected, 1)

    def figures(self, name: str) -> dict[str, float]:
        """The recall and the errors."""
        figures = {f"{name}recall": self.recall, f"{name}faces": self.expected}
        if self.errors:
            figures[f"{name}landmark_error"] = float(np.mean(self.errors))
            figures[f"{name}landmark_error_steady"] = float(np.mean(self.steady_errors))
            figures[f"{name}landmark_error_steady_median"] = float(np.median(self.steady_errors))
        return figures


def evaluate(
    runners: Mapping[str, Runner],
    data: Path,
    out: Path | None = None,
    limit: int | None = None,
    threads: int = 2,
    console: Console | None = None,
) -> EvalReport:
    """All figures of each finder in `runners`, and YuNet's beside them; pictures with what was found into `out`."""
    torch.set_num_threads(threads)
    finders: dict[str, FindFaces] = {name: own_finder(run) for name, run in runners.items()} | {"yunet": YuNet(data)}
    sheets: dict[str, list[Image]] = {name: [] for name in finders}
    scenes = scene_figures(finders, data, sheets, limit, console)
    covered = covered_figures(finders, data, sheets, limit, console)
    clips = clip_figures(finders, data, sheets, limit, console)
    found = {name: scenes[name] | covered[name] | clips[name] for name in finders}
    if out is not None:
        for name, sheet in sheets.items():
            write_sheet(sheet, out / f"{name.replace('/', '_')}_finds.png")
    return column_report("faces", found, {f"yunet_{name}": value for name, value in found["yunet"].items()})


def own_finder(run: Runner) -> FindFaces:
    """The two passes, with `run` as the network."""

    def look(pictures: Image) -> Maps:
        return run({"frame": pictures})

    reader = TwoPassDetector(look, look)
    return lambda image: reader.find(image, limit=8)


@dataclass
class _SceneTallies:
    """What one finder found in the photographs."""

    every: RecallTally = field(default_factory=RecallTally)
    bare: RecallTally = field(default_factory=RecallTally)
    worn: RecallTally = field(default_factory=RecallTally)
    masked: RecallTally = field(default_factory=RecallTally)
    lower: RecallTally = field(default_factory=RecallTally)
    eyes: RecallTally = field(default_factory=RecallTally)
    false_finds: int = 0
    negatives: int = 0
    seconds: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        return {
            **self.every.figures(""),
            "false_finds": self.false_finds,
            "negatives": self.negatives,
            "source_masked_recall": self.masked.recall,
            "source_masked_faces": self.masked.expected,
            **self.bare.figures("bare_"),
            **self.worn.figures("masked_"),
            **self.lower.figures("lower_covered_"),
            **self.eyes.figures("eyes_covered_"),
            "ms_per_picture": 1e3 * float(np.median(self.seconds)),
        }


def scene_figures(
    finders: Mapping[str, FindFaces],
    data: Path,
    sheets: Mapping[str, list[Image]],
    limit: int | None = None,
    console: Console | None = None,
) -> dict[str, dict[str, float]]:
    """Photographs with faces as they are, with each bare face covered, and without faces, for each finder.

    A photograph is read, framed, labelled and covered once, and then shown to all finders: that costs as much as
    looking does.
    """
    cut_outs, yunet = CutOuts(data, "eval"), YuNet(data)
    tallies = {name: _SceneTallies() for name in finders}
    scenes = load_scenes(data, "eval")
    step = 1 if limit is None else max(1, len(scenes) // limit)
    for number, scene in enumerate(track(scenes, "scenes", console=console, disable=console is None)):
        if number % step:
            continue
        image, matrix = framed(scene.image)
        view = _View(image, matrix, scene, yunet, cut_outs, number)
        for name, finder in finders.items():
            _look_at(view, finder, tallies[name], sheets[name])
    return {name: tally.figures() for name, tally in tallies.items()}


class _View:
    """A photograph as a frame, and what is to be found in it; worked out once for all finders."""

    def __init__(
        self, image: Image, matrix: Affine, scene: LabelledPhotograph, yunet: YuNet, cut_outs: CutOuts, number: int
    ) -> None:
        self.image, self.number = image, number
        self.is_empty = not len(scene.labels.boxes) and not len(scene.labels.ignored)
        self.masked_boxes: Sequence[Points] = () if self.is_empty else _tall(_moved(scene.masked_boxes, matrix))
        masks = _moved(np.vstack([scene.masked_boxes, scene.half_masked_boxes]), matrix)
        #: Each face, whether it wears a mask, and else the frame with its lower part or its eyes covered.
        self.faces: list[tuple[ExpectedFace, bool, tuple[Image, ...]]] = []
        for face in () if self.is_empty else _asked_faces(scene, matrix, yunet):
            is_masked = any(overlap(mask, face.box) > 0.2 for mask in masks)
            hidden = () if is_masked else (LOWER_FACE, EYE_REGION)
            pictures = tuple(_covered(image, face.landmarks, cut_outs, covers, number) for covers in hidden)
            self.faces.append((face, is_masked, pictures))


def _look_at(view: _View, finder: FindFaces, tallies: _SceneTallies, sheet: list[Image]) -> None:
    started = time.perf_counter()
    finds = finder(view.image)
    tallies.seconds.append(time.perf_counter() - started)
    if view.is_empty:
        tallies.negatives, tallies.false_finds = tallies.negatives + 1, tallies.false_finds + len(finds)
        sheet += [drawn(view.image, finds)] * bool(finds)
        return
    is_shown = view.number % 4 == 0
    sheet += [drawn(view.image, finds)] * is_shown
    for box in view.masked_boxes:
        tallies.masked.add(match(finds, box), None)
    for face, is_masked, pictures in view.faces:
        for tally in (tallies.every, tallies.worn if is_masked else tallies.bare):
            tally.add(match(finds, face.box), face)
        for tally, hidden in zip((tallies.lower, tallies.eyes), pictures, strict=False):
            hidden_finds = finder(hidden)
            tally.add(match(hidden_finds, face.box), face)
            sheet += [drawn(hidden, hidden_finds)] * is_shown


@dataclass
class _CoveredTally:
    """Covered faces, which of them are found, how many for sure, and how far their landmarks are off."""

    expected: int = 0
    sure: int = 0
    errors_px: list[float] = field(default_factory=list)

    def add(self, finds: Sequence[Detection], landmarks: Points, to_template: Affine) -> None:
        """The one of `finds` that is nearest to the true `landmarks`, both brought to the template's scale."""
        errors = [float(np.hypot(*(transform_points(f.landmarks, to_template) - landmarks).T).mean()) for f in finds]
        self.expected += 1
        nearest = int(np.argmin(errors)) if errors else -1
        if errors and errors[nearest] < SAME_FACE_PX:
            self.sure += finds[nearest].sure
            self.errors_px.append(errors[nearest])

    def figures(self, name: str) -> dict[str, float]:
        """Shares of all faces that are found, and found for sure; errors of those that are found."""
        expected, errors = max(self.expected, 1), np.array(self.errors_px or [np.nan])
        return {
            f"{name}_faces": self.expected,
            f"{name}_found": len(self.errors_px) / expected,
            f"{name}_sure": self.sure / expected,
            f"{name}_px": float(errors.mean()),
            f"{name}_px_p90": float(np.percentile(errors, 90)),
            f"{name}_far": float((errors > FAR_PX).mean()),
        }


def covered_figures(
    finders: Mapping[str, FindFaces],
    data: Path,
    sheets: Mapping[str, list[Image]],
    limit: int | None = None,
    console: Console | None = None,
) -> dict[str, dict[str, float]]:
    """Of the dev set, the covered photographs that are there, and portraits with a thing of one of those before them.

    The photographs' labels are approximate, as nobody sees what is hidden; the portraits' were read before they were
    covered. `NAME_far` is the share of found faces whose landmarks are off by more than FAR_PX.
    """
    found: dict[str, dict[str, float]] = {name: {} for name in finders}
    for kind, cases in _covered_cases(data):
        tallies = {name: _CoveredTally() for name in finders}
        for image, landmarks, matrix in track(islice(cases, limit), kind, console=console, disable=console is None):
            for name, finder in finders.items():
                finds = finder(image)
                tallies[name].add(finds, landmarks, matrix)
                sheets[name].append(drawn(image, finds))
        for name, tally in tallies.items():
            found[name] |= tally.figures(kind)
    return found


def _covered_cases(data: Path) -> Iterator[tuple[str, Iterator[tuple[Image, Points, Affine]]]]:
    """For each kind its pictures, each with its face's landmarks in the wide field and the matrix that leads there."""
    photographs = Photographs(data, "dev")
    for name in photographs.sets:
        yield name, _covered_photographs(photographs, name)
    if photographs and (data / "wide").is_dir():
        yield "covered_portraits", _covered_portraits(WideSet(data, "dev"), Transplants(photographs))


def _covered_photographs(photographs: Photographs, name: str) -> Iterator[tuple[Image, Points, Affine]]:
    for row in photographs.sets[name].rows:
        if row.is_covered and not row.is_at_chin:
            image = np.asarray(cv2.imread(str(row.picture)), np.uint8)
            yield image, row.landmarks, _SAME if row.matrix is None else row.matrix


def _covered_portraits(portraits: WideSet, transplants: Transplants) -> Iterator[tuple[Image, Points, Affine]]:
    for index in range(0, len(portraits), max(1, len(portraits) // PORTRAITS)):
        landmarks = portraits.rows[index].landmarks
        image, _ = transplants(portraits.wide(index), landmarks, np.random.default_rng([13, index]))
        yield image, landmarks, _SAME


def clip_figures(
    finders: Mapping[str, FindFaces],
    data: Path,
    sheets: Mapping[str, list[Image]],
    limit: int | None = None,
    console: Console | None = None,
) -> dict[str, dict[str, float]]:
    """The share of the clips' frames in which a face is found; each holds one. At most `limit` frames of each clip."""
    frames, found = 0, dict.fromkeys(finders, 0)
    clips = sorted((data / "clips").glob("*.mp4"))
    for path in track(clips, "clips", console=console, disable=console is None):
        for number, image in islice(_frames(path, EVERY_FRAME), limit):
            frames += 1
            for name, finder in finders.items():
                finds = finder(image)
                found[name] += bool(finds)
                if number % (30 * EVERY_FRAME) == 0 or not finds:
                    sheets[name].append(drawn(image, finds))
    return {name: {"clip_recall": count / max(frames, 1), "clip_frames": frames} for name, count in found.items()}


def framed(image: Image) -> tuple[Image, Affine]:
    """`image` fitted into the middle of a 1280x720 frame, and the matrix that took it there."""
    height, width = image.shape[:2]
    scale = min(FRAME_SIZE[0] / height, FRAME_SIZE[1] / width)
    shift = (FRAME_SIZE[1] - width * scale) / 2, (FRAME_SIZE[0] - height * scale) / 2
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
    return cv2.warpAffine(image, matrix, FRAME_SIZE[::-1]), matrix


def drawn(image: Image, finds: Sequence[Detection]) -> Image:
    """A small copy of `image` with boxes, landmarks and scores."""
    image = image.copy()
    for find in finds:
        x0, y0, x1, y1 = (int(value) for value in find.box)
        thick = max(1, image.shape[0] // 240)
        cv2.rectangle(image, (x0, y0), (x1, y1), (0, 255, 0), thick)
        cv2.putText(image, f"{find.score:.2f}", (x0, y0 - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4 * thick, (0, 255, 0), thick)
        for x, y in find.landmarks:
            cv2.circle(image, (round(float(x)), round(float(y))), thick + 1, (0, 0, 255), -1)
    scale = 240 / max(image.shape[0], image.shape[1] * 9 / 16)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:240, :426]
    return cv2.copyMakeBorder(small, 0, 240 - small.shape[0], 0, 426 - small.shape[1], cv2.BORDER_CONSTANT)


def write_sheet(pictures: Sequence[Image], path: Path) -> None:
    """One contact sheet, six pictures a row."""
    columns = 6
    blank = np.zeros((240, 426, 3), np.uint8)
    padded = [*pictures, *[blank] * (-len(pictures) % columns)]
    rows = [np.hstack(padded[start : start + columns]) for start in range(0, len(padded), columns)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack(rows))


def _asked_faces(scene: LabelledPhotograph, matrix: Affine, yunet: YuNet) -> Iterator[ExpectedFace]:
    """The faces of a scene that a finder must find, in the frame's pixels."""
    tall = [index for index, box in enumerate(_moved(scene.labels.boxes, matrix)) if len(_tall(box[None]))]
    labels = scene.labels
    steady = yunet.steady(scene.image, labels) if tall else labels
    for index in tall:
        points, mean = (transform_points(group.landmarks[index], matrix) for group in (labels, steady))
        yield ExpectedFace(_moved(labels.boxes[index], matrix)[0], points, mean)


def _covered(image: Image, landmarks: Points, cut_outs: CutOuts, covers: Sequence[Cover], number: int) -> Image:
    hidden = image.copy()
    cut_outs.cover(hidden, landmarks, np.random.default_rng([11, number]), covers)
    return hidden


def _moved(boxes: Points, matrix: Affine) -> Points:
    return transform_points(boxes.reshape(-1, 2), matrix).reshape(-1, 4)


def _tall(boxes: Points) -> Points:
    return boxes[boxes[:, 3] - boxes[:, 1] >= LEAST_HEIGHT_PX]


def _frames(path: Path, every: int) -> Iterator[tuple[int, Image]]:
    """One frame in `every`, with its number; the others are not even turned into pictures."""
    capture = cv2.VideoCapture(str(path))
    try:
        for number in count():
            if not capture.grab():
                return
            if number % every == 0:
                good, image = capture.retrieve()
                if not good:
                    return
                yield number, image
    finally:
        capture.release()
