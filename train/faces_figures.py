"""How well the face finder finds: its two passes, as the product runs them, on photographs that it never saw.

A face counts as found where a find's box has an IoU of at least 0.4 with its label. Photographs are fitted into
1280x720, as a camera would show them; faces lower than 90 pixels there are not asked for.

The landmarks' labels are noisy (train/labels.py), so errors are given twice: from the labels, and from the mean of
several runs ("steady"), which is nearer to the truth; and YuNet's own errors on the same frames beside ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from engines.contract import Affine, Image, Points, transform_points
from engines.faces_maps import FacesReader, Find, Maps, overlap
from train.covers import EYE_REGION, LOWER_FACE, Cover, CutOuts
from train.labels import YuNet, match
from train.scenes import Scene, load_scenes

FRAME_SIZE = (720, 1280)
LEAST_HEIGHT_PX = 90
#: Of a clip's frames, which differ little from one to the next, one in so many is measured.
EVERY_FRAME = 8
#: Faces nearer to profile than this (eye distance over box width) have no eye distance to measure by.
LEAST_EYE_SHARE = 0.2

Finder = Callable[[Image], list[Find]]


@dataclass(frozen=True, eq=False)
class Asked:
    """A face to find: its box x0, y0, x1, y1, the label's landmarks and the mean of several detections."""

    box: Points
    landmarks: Points
    steady: Points


@dataclass
class Tally:
    """Faces asked for, faces found, and the landmark errors of the found ones in eye distances."""

    asked: int = 0
    found: int = 0
    errors: list[float] = field(default_factory=list)
    steady_errors: list[float] = field(default_factory=list)

    def add(self, find: Find | None, face: Asked | None) -> None:
        self.asked += 1
        self.found += find is not None
        if find is None or face is None:
            return
        eye_distance = float(np.hypot(*(face.landmarks[1] - face.landmarks[0])))
        if eye_distance >= LEAST_EYE_SHARE * (face.box[2] - face.box[0]):
            for errors, truth in ((self.errors, face.landmarks), (self.steady_errors, face.steady)):
                errors.append(float(np.hypot(*(find.landmarks - truth).T).mean()) / eye_distance)

    @property
    def recall(self) -> float:
        return self.found / max(self.asked, 1)

    def figures(self, name: str) -> dict[str, float]:
        """The recall and the errors."""
        figures = {f"{name}recall": self.recall, f"{name}faces": self.asked}
        if self.errors:
            figures[f"{name}landmark_error"] = float(np.mean(self.errors))
            figures[f"{name}landmark_error_steady"] = float(np.mean(self.steady_errors))
            figures[f"{name}landmark_error_steady_median"] = float(np.median(self.steady_errors))
        return figures


def measure(doors: nn.Module, data: Path, out: Path | None) -> dict[str, float]:
    """All figures of the finder, YuNet's beside them; pictures with what was found into `out`."""
    finders: dict[str, Finder] = {"": own_finder(doors), "yunet_": YuNet(data)}
    figures: dict[str, float] = {}
    for prefix, finder in finders.items():
        sheet: list[Image] = []
        figures |= {prefix + name: value for name, value in scene_figures(finder, data, sheet).items()}
        figures |= {prefix + name: value for name, value in clip_figures(finder, data, sheet).items()}
        if out is not None:
            write_sheet(sheet, out / f"{prefix or 'own_'}finds.png")
    return figures


def own_finder(doors: nn.Module) -> Finder:
    """The two passes with the network run by torch."""

    def run(pictures: Image) -> Maps:
        with torch.no_grad():
            heat, boxes, landmarks = doors(torch.from_numpy(pictures))
        return {"heat": heat.numpy(), "boxes": boxes.numpy(), "landmarks": landmarks.numpy()}

    reader = FacesReader(run, run)
    return lambda image: reader.find(image, limit=8)


def scene_figures(finder: Finder, data: Path, sheet: list[Image]) -> dict[str, float]:
    """Photographs with faces as they are, with each bare face covered, and without faces."""
    cut_outs, yunet = CutOuts(data, "eval"), YuNet(data)
    every, bare, worn, masked, lower, eyes = (Tally() for _ in range(6))
    false_finds = negatives = 0
    seconds: list[float] = []
    for number, scene in enumerate(load_scenes(data, "eval")):
        image, matrix = framed(scene.image)
        started = time.perf_counter()
        finds = finder(image)
        seconds.append(time.perf_counter() - started)
        if not len(scene.labels.boxes) and not len(scene.labels.ignored):
            negatives, false_finds = negatives + 1, false_finds + len(finds)
            sheet += [drawn(image, finds)] * bool(finds)
            continue
        sheet += [drawn(image, finds)] * (number % 4 == 0)
        for box in _tall(_moved(scene.masked_boxes, matrix)):
            masked.add(match(finds, box), None)
        masks = _moved(np.vstack([scene.masked_boxes, scene.half_masked_boxes]), matrix)
        for face in _asked_faces(scene, matrix, yunet):
            is_masked = any(overlap(mask, face.box) > 0.2 for mask in masks)
            for tally in (every, worn if is_masked else bare):
                tally.add(match(finds, face.box), face)
            for tally, covers in () if is_masked else ((lower, LOWER_FACE), (eyes, EYE_REGION)):
                hidden = _covered(image, face.landmarks, cut_outs, covers, number)
                hidden_finds = finder(hidden)
                tally.add(match(hidden_finds, face.box), face)
                sheet += [drawn(hidden, hidden_finds)] * (number % 4 == 0)
    return {
        **every.figures(""),
        "false_finds": false_finds,
        "negatives": negatives,
        "source_masked_recall": masked.recall,
        "source_masked_faces": masked.asked,
        **bare.figures("bare_"),
        **worn.figures("masked_"),
        **lower.figures("lower_covered_"),
        **eyes.figures("eyes_covered_"),
        "ms_per_picture": 1e3 * float(np.median(seconds)),
    }


def clip_figures(finder: Finder, data: Path, sheet: list[Image]) -> dict[str, float]:
    """The share of the clips' frames in which a face is found; each holds one."""
    frames = found = 0
    for path in sorted((data / "clips").glob("*.mp4")):
        for number, image in enumerate(_frames(path)):
            if number % EVERY_FRAME:
                continue
            finds = finder(image)
            frames, found = frames + 1, found + bool(finds)
            if number % (30 * EVERY_FRAME) == 0 or not finds:
                sheet.append(drawn(image, finds))
    return {"clip_recall": found / max(frames, 1), "clip_frames": frames}


def framed(image: Image) -> tuple[Image, Affine]:
    """`image` fitted into the middle of a 1280x720 frame, and the matrix that took it there."""
    height, width = image.shape[:2]
    scale = min(FRAME_SIZE[0] / height, FRAME_SIZE[1] / width)
    shift = (FRAME_SIZE[1] - width * scale) / 2, (FRAME_SIZE[0] - height * scale) / 2
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
    return cv2.warpAffine(image, matrix, FRAME_SIZE[::-1]), matrix


def drawn(image: Image, finds: Sequence[Find]) -> Image:
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


def _asked_faces(scene: Scene, matrix: Affine, yunet: YuNet) -> Iterator[Asked]:
    """The faces of a scene that a finder must find, in the frame's pixels."""
    tall = [index for index, box in enumerate(_moved(scene.labels.boxes, matrix)) if len(_tall(box[None]))]
    labels = scene.labels
    steady = yunet.steady(scene.image, labels) if tall else labels
    for index in tall:
        points, mean = (transform_points(group.landmarks[index], matrix) for group in (labels, steady))
        yield Asked(_moved(labels.boxes[index], matrix)[0], points, mean)


def _covered(image: Image, landmarks: Points, cut_outs: CutOuts, covers: Sequence[Cover], number: int) -> Image:
    hidden = image.copy()
    cut_outs.cover(hidden, landmarks, np.random.default_rng([11, number]), covers)
    return hidden


def _moved(boxes: Points, matrix: Affine) -> Points:
    return transform_points(boxes.reshape(-1, 2), matrix).reshape(-1, 4)


def _tall(boxes: Points) -> Points:
    return boxes[boxes[:, 3] - boxes[:, 1] >= LEAST_HEIGHT_PX]


def _frames(path: Path) -> Iterator[Image]:
    capture = cv2.VideoCapture(str(path))
    try:
        while True:
            good, image = capture.read()
            if not good:
                return
            yield image
    finally:
        capture.release()
