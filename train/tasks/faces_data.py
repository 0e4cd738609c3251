"""Pictures to train the face finder on: photographs in their natural width, with faces half hidden, and aligned faces.

A finder that only ever saw pasted crops learns their edges, one that only ever saw whole faces loses the covered
ones. So faces come in the photographs they were taken in; things are put before half of them and beside them; aligned
faces and photographs of faces behind real things are pasted into other photographs with feathered edges, as are
patches that are no face, so that a feathered edge tells nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from engines.contract import CROP_PX, TEMPLATE, WIDE_PX, Affine, Image, Points, similarity, transform_points
from engines.faces_maps import CLOSE_UP_SCALE, template_box
from train.data.face_set import DataError, FaceSet, mirror_landmarks
from train.data.labels import Labels, YuNet
from train.occlusion.scene_occluders import CutOuts, paste, placed
from train.tasks.faces_covered import SIDE_PX, CoveredFaces, HalfField

#: A face lower than this in a training picture is too small to count: no loss looks at its cells.
SMALLEST_PX = 14.0


@dataclass(eq=False)
class LabelledPhotograph:
    """One photograph; its pixels are read once and kept, also at half size: shrinking far at once would alias."""

    path: Path
    labels: Labels
    masked_boxes: Points  # kx4, which a person labelled "with_mask"
    half_masked_boxes: Points  # the same for "with_incorrect_mask"
    _levels: list[Image] = field(default_factory=list)

    def at(self, scale: float) -> tuple[Image, float]:
        """The photograph for a view at `scale`, and how much smaller than the original it is (1 or 0.5)."""
        if not self._levels:
            image = cv2.imread(str(self.path), cv2.IMREAD_COLOR)
            if image is None:
                raise DataError(f"{self.path} is no picture")
            half = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
            self._levels = [image, half]
        level = int(scale < 0.6)
        return self._levels[level], (1.0, 0.5)[level]

    @property
    def image(self) -> Image:
        return self.at(1.0)[0]


def load_scenes(data: Path, split: str) -> list[LabelledPhotograph]:
    """The photographs of one split, with and without faces. Raises DataError where there are none."""
    index = data / "scenes" / "index.jsonl"
    if not index.is_file():
        raise DataError(f"there is no {index}; give the data folder with --data")
    lines = map(json.loads, index.read_text(encoding="utf-8").splitlines())
    return [_scene(data / "scenes", line) for line in lines if line["file"].startswith(f"{split}/")]


def _scene(folder: Path, line: dict) -> LabelledPhotograph:
    sure = [face for face in line["faces"] if face["landmarks"] and not face.get("unsure")]
    unsure = [face for face in line["faces"] if not face["landmarks"] or face.get("unsure")]
    source = line.get("source_boxes") or []
    boxes = _corners([face["box"] for face in sure])
    # People's boxes that no detector's box covers hold a face that was missed: neither face nor background.
    missed = [box for box in _corners([other["box"] for other in source]) if not _covered(box, boxes)]
    ignored = [*_corners([face["box"] for face in unsure]), *missed]
    return LabelledPhotograph(
        path=folder / line["file"],
        labels=Labels(
            landmarks=np.array([face["landmarks"] for face in sure], np.float32).reshape(-1, 5, 2),
            boxes=boxes,
            drawn=np.ones(len(sure), bool),
            ignored=np.array(ignored, np.float32).reshape(-1, 4),
        ),
        masked_boxes=_corners([box["box"] for box in source if box["label"] == "with_mask"]),
        half_masked_boxes=_corners([box["box"] for box in source if box["label"] == "with_incorrect_mask"]),
    )


def _corners(boxes: Sequence[Sequence[float]]) -> Points:
    """x, y, width, height to x0, y0, x1, y1."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return np.hstack([array[:, :2], array[:, :2] + array[:, 2:]])


def _covered(box: Points, boxes: Points) -> bool:
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    return bool(np.any(np.all((middles > box[:2]) & (middles < box[2:]), axis=1)))


#: How often a training picture is a search view, a close view, a pasted face, a view without faces, a photograph of a
#: really covered face, a portrait that something is put before.
VIEW_SHARES = (0.24, 0.20, 0.12, 0.14, 0.18, 0.12)
#: Faces of this scale of the template and larger may get a thing in its own light and shadow before them.
FINE_FROM = 0.2
#: How often they do; all others that are covered get a flat cut-out.
FINE_SHARE = 0.6


class TrainingPictures:
    """Makes training pictures of `side` pixels: `draw` gives a picture and the labels of what it shows."""

    def __init__(self, data: Path, side: int) -> None:
        self.side = side
        self._data = data
        self._steadied: dict[Path, Labels] = {}

    @cached_property
    def _faces(self) -> list[tuple[LabelledPhotograph, int]]:
        """Every face that is sure: its scene and its number there."""
        return [(scene, index) for scene in self._scenes for index in range(len(scene.labels.boxes))]

    @cached_property
    def _large_faces(self) -> list[tuple[LabelledPhotograph, int]]:
        return [(s, i) for s, i in self._faces if s.labels.boxes[i, 3] - s.labels.boxes[i, 1] >= 48]

    @cached_property
    def _scenes(self) -> list[LabelledPhotograph]:
        return load_scenes(self._data, "train")

    @cached_property
    def _empty_scenes(self) -> list[LabelledPhotograph]:
        return [scene for scene in self._scenes if not len(scene.labels.boxes) and not len(scene.labels.ignored)]

    @cached_property
    def _aligned(self) -> FaceSet:
        return FaceSet(self._data, "train")

    @cached_property
    def _cut_outs(self) -> CutOuts:
        return CutOuts(self._data, "train")

    @cached_property
    def _covered(self) -> CoveredFaces:
        return CoveredFaces(self._data)

    @cached_property
    def _yunet(self) -> YuNet:
        return YuNet(self._data)

    def _labels(self, scene: LabelledPhotograph) -> Labels:
        """The scene's labels, made steady when they are first needed."""
        if scene.path not in self._steadied:
            self._steadied[scene.path] = self._yunet.steady(scene.image, scene.labels)
        return self._steadied[scene.path]

    def draw(self, rng: np.random.Generator) -> tuple[Image, Labels]:
        """One picture of side x side x 3 and its labels."""
        bare = (self._search_view, self._close_view, self._pasted_view, self._empty_view)
        views = (*bare, self._photograph_view, self._portrait_view)
        view = views[int(rng.choice(len(views), p=VIEW_SHARES))]
        image, labels = view(rng)
        if view in bare:
            for landmarks in labels.landmarks:
                if rng.random() < 0.5:
                    image = self._hidden(image, landmarks, rng)
        if rng.random() < (0.2 if len(labels.landmarks) else 0.5):
            self._scatter(image, labels, rng)
        return degrade(image, rng), labels

    def _hidden(self, image: Image, landmarks: Points, rng: np.random.Generator) -> Image:
        """The picture with something before one face."""
        to_image = similarity(TEMPLATE, landmarks)
        if np.hypot(to_image[0, 0], to_image[1, 0]) >= FINE_FROM and rng.random() < FINE_SHARE:
            return self._covered.cover(image, landmarks, rng)
        self._cut_outs.cover(image, landmarks, rng)
        return image

    def _search_view(self, rng: np.random.Generator) -> tuple[Image, Labels]:
        """A part of a photograph with at least one face, 16 to 150 pixels high, anywhere in the picture."""
        scene, index = self._faces[int(rng.integers(len(self._faces)))]
        box = scene.labels.boxes[index]
        height = np.exp(rng.uniform(np.log(16), np.log(0.78 * self.side)))
        least = 0.9 * self.side / max(scene.image.shape[:2])  # smaller, the picture would be mostly border
        scale = min(max(float(height / (box[3] - box[1])), least), 2.5)
        half = (box[2:] - box[:2]) * scale / 2
        room = np.maximum(self.side / 2 - half, 4)
        target = self.side / 2 + rng.uniform(-room, room)
        return self._view(scene, (box[:2] + box[2:]) / 2, target, scale, rng.normal(0, 10), rng)

    def _close_view(self, rng: np.random.Generator) -> tuple[Image, Labels]:
        """A face as the second pass sees it: upright, in the middle, but for what the first pass got wrong."""
        scene, index = self._large_faces[int(rng.integers(len(self._large_faces)))]
        landmarks = self._labels(scene).landmarks[index]
        upright = similarity(landmarks, TEMPLATE)
        turn = float(np.degrees(np.arctan2(upright[1, 0], upright[0, 0])))
        scale = float(np.hypot(upright[0, 0], upright[1, 0])) * CLOSE_UP_SCALE * np.exp(rng.normal(0, 0.16))
        centre = transform_points(np.full((1, 2), CROP_PX / 2, np.float32), similarity(TEMPLATE, landmarks))[0]
        target = self.side / 2 + rng.normal(0, 9, 2)
        return self._view(scene, centre, target, scale, turn + rng.normal(0, 9), rng)

    def _empty_view(self, rng: np.random.Generator) -> tuple[Image, Labels]:
        """A part of a photograph without any face."""
        scene = self._empty_scenes[int(rng.integers(len(self._empty_scenes)))]
        image = scene.image
        scale = self.side / max(image.shape[:2]) * np.exp(rng.uniform(-0.1, np.log(5)))
        middle = rng.uniform(0.1, 0.9, 2) * image.shape[1::-1]
        return self._view(scene, middle, np.full(2, self.side / 2), min(scale, 2.0), rng.normal(0, 10), rng)

    def _pasted_view(self, rng: np.random.Generator) -> tuple[Image, Labels]:
        """An aligned face with feathered edges in a photograph without faces."""
        image, empty = self._empty_view(rng)
        row_index = int(rng.integers(len(self._aligned)))
        row = self._aligned.rows[row_index]
        crop = np.dstack([self._aligned.image(row_index), _feather(row.valid_quad, rng)])
        landmarks = row.landmarks
        if rng.random() < 0.5:
            crop = np.ascontiguousarray(crop[:, ::-1])
            landmarks = mirror_landmarks(landmarks)
        if rng.random() < 0.65:
            scale, turn, shift = CLOSE_UP_SCALE * np.exp(rng.normal(0.05, 0.2)), rng.normal(0, 9), rng.normal(0, 9, 2)
        else:
            scale = np.exp(rng.uniform(np.log(0.08), np.log(0.55)))
            turn, room = rng.normal(0, 12), max(self.side / 2 - 110 * scale, 2)
            shift = rng.uniform(-room, room, 2)
        matrix = cv2.getRotationMatrix2D((CROP_PX / 2, CROP_PX / 2), turn, scale).astype(np.float32)
        matrix[:, 2] += self.side / 2 + shift - CROP_PX / 2
        paste(image, crop, matrix)
        points = transform_points(landmarks, matrix)
        return image, Labels(points[None], template_box(points)[None], np.zeros(1, bool), empty.ignored)

    def _photograph_view(self, rng: np.random.Generator) -> tuple[Image, Labels]:
        """A photograph of a really covered face; a close view where the data folder has none."""
        field = self._covered.draw(rng, is_photograph=True)
        return self._close_view(rng) if field is None else self._field_view(field, rng)

    def _portrait_view(self, rng: np.random.Generator) -> tuple[Image, Labels]:
        """A portrait with something before it; a pasted face where the data folder has none."""
        field = self._covered.draw(rng, is_photograph=False)
        return self._pasted_view(rng) if field is None else self._field_view(field, rng)

    def _field_view(self, field: HalfField, rng: np.random.Generator) -> tuple[Image, Labels]:
        """A wide field as the second pass sees it, as a picture of its own, or in a photograph without faces."""
        kind, wrong = rng.random(), 2.2 if rng.random() < 0.25 else 1.0  # sometimes the first pass is far off
        turn = rng.normal(0, 10 * wrong)
        if kind < 0.65:
            scale, shift = CLOSE_UP_SCALE * np.exp(rng.normal(0, 0.16 * wrong)), rng.normal(0, 9 * wrong, 2)
        else:
            scale = np.exp(rng.uniform(*np.log((0.22, 0.46) if kind < 0.8 else (0.08, 0.4))))
            room = max(self.side / 2 - 0.4 * WIDE_PX * scale, 4)
            shift = rng.uniform(-room, room, 2)
        centre = field.landmarks.mean(axis=0) if kind < 0.65 else np.full(2, SIDE_PX / 2)
        matrix = cv2.getRotationMatrix2D(centre.tolist(), turn, 2 * scale).astype(np.float32)
        matrix[:, 2] += self.side / 2 + shift - centre
        if kind < 0.8:
            border = cv2.BORDER_CONSTANT if rng.random() < 0.7 else cv2.BORDER_REPLICATE
            image = cv2.warpAffine(field.image, matrix, (self.side, self.side), borderMode=border)
        else:
            image, _ = self._empty_view(rng)
            edge = cv2.copyMakeBorder(field.valid[8:-8, 8:-8], 8, 8, 8, 8, cv2.BORDER_CONSTANT)
            paste(image, np.dstack([field.image, cv2.GaussianBlur(edge, (0, 0), rng.uniform(1.0, 3.0))]), matrix)
        return image, _alone(transform_points(field.landmarks, matrix), self.side)

    def _scatter(self, image: Image, labels: Labels, rng: np.random.Generator) -> None:
        """Things that are no face, away from the faces: what hides one, or a feathered patch of another photograph."""
        before, kind = image.copy(), rng.random()
        if kind < 0.35:
            self._cut_outs.scatter(image, rng)
        elif kind < 0.6:
            where = (TEMPLATE - CROP_PX / 2) * np.float32(np.exp(rng.uniform(*np.log((0.2, 0.8)))))
            image[:] = self._covered.cover(image, where + rng.uniform(0.2, 0.8, 2) * self.side, rng)
        else:
            other, _ = self._empty_view(rng)
            whole = np.array([[0, 0], [CROP_PX, 0], [CROP_PX, CROP_PX], [0, CROP_PX]], np.float32)
            patch = np.dstack([cv2.resize(other, (CROP_PX, CROP_PX)), _feather(whole, rng)])
            size = np.exp(rng.uniform(np.log(20), np.log(self.side)))
            paste(image, patch, placed(patch, *rng.uniform(0, self.side, 2), size, rng.normal(0, 15)))
        for x0, y0, x1, y1 in np.vstack([labels.boxes, labels.ignored]):
            x0, y0 = max(int(x0), 0), max(int(y0), 0)
            x1, y1 = max(int(x1) + 1, 0), max(int(y1) + 1, 0)
            image[y0:y1, x0:x1] = before[y0:y1, x0:x1]

    def _view(
        self,
        scene: LabelledPhotograph,
        middle: np.ndarray,
        target: np.ndarray,
        scale: float,
        turn: float,
        rng: np.random.Generator,
    ) -> tuple[Image, Labels]:
        """`scene` with its point `middle` at `target`, scaled, turned, mirrored every other time."""
        source, level = scene.at(scale)
        matrix = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), turn, scale).astype(np.float32)
        matrix[:, 2] += target - middle
        to_view = matrix.copy()
        to_view[:, 2] += to_view[:, :2].sum(axis=1) * (1 / level - 1) / 2  # middles of pixels, not corners, coincide
        to_view[:, :2] /= level
        border = (0, 0, 0) if rng.random() < 0.7 else tuple(int(v) for v in rng.integers(0, 256, 3))
        image = cv2.warpAffine(source, to_view, (self.side, self.side), borderValue=border)
        labels = _moved(self._labels(scene), matrix, self.side)
        if rng.random() < 0.5:
            image = np.ascontiguousarray(image[:, ::-1])
            labels = mirrored(labels, self.side)
        return image, labels


def _alone(landmarks: Points, side: int) -> Labels:
    """The one face that is known of a picture; there may be others beside it, so what is not its box counts not."""
    x0, y0, x1, y1 = box = template_box(landmarks)
    beside = [(0, 0, side, y0), (0, y1, side, side), (0, y0, x0, y1), (x1, y0, side, y1)]
    return Labels(landmarks[None], box[None], np.zeros(1, bool), np.array(beside, np.float32))


def _moved(labels: Labels, matrix: Affine, side: int) -> Labels:
    """Labels through a similarity; faces that became too small or left the picture become regions to ignore."""
    landmarks = transform_points(labels.landmarks.reshape(-1, 2), matrix).reshape(-1, 5, 2)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    boxes, ignored = (_moved_boxes(group, matrix, scale) for group in (labels.boxes, labels.ignored))
    inside = np.clip(boxes, 0, side)
    area = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1e-3)
    seen = np.prod(inside[:, 2:] - inside[:, :2], axis=1) / area
    good = (seen >= 0.6) & (boxes[:, 3] - boxes[:, 1] >= SMALLEST_PX)
    return Labels(landmarks[good], boxes[good], labels.drawn[good], np.vstack([ignored, boxes[~good]]))


def _moved_boxes(boxes: Points, matrix: Affine, scale: float) -> Points:
    """Boxes around the moved middles; turned a little, a face's box keeps its size."""
    middles = transform_points((boxes[:, :2] + boxes[:, 2:]) / 2, matrix)
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * scale
    return np.hstack([middles - half, middles + half]).astype(np.float32).reshape(-1, 4)


def mirrored(labels: Labels, side: int) -> Labels:
    """The labels of the picture seen in a mirror."""
    boxes, ignored = (
        np.stack([side - 1 - b[:, 2], b[:, 1], side - 1 - b[:, 0], b[:, 3]], axis=1)
        for b in (labels.boxes, labels.ignored)
    )
    return Labels(mirror_landmarks(labels.landmarks, side), boxes, labels.drawn, ignored)


def _feather(valid_quad: Points, rng: np.random.Generator) -> Image:
    """A soft rounded mask inside what the photograph really showed of a crop."""
    mask = np.zeros((CROP_PX // 4, CROP_PX // 4), np.uint8)
    cv2.fillConvexPoly(mask, np.round(valid_quad / 4).astype(np.int32), 255)
    round_ = np.zeros_like(mask)
    axes = (int(rng.uniform(24, 34)), int(rng.uniform(29, 38)))
    cv2.ellipse(round_, (32, 32), axes, rng.uniform(-10, 10), 0, 360, 255, -1)
    mask = cv2.copyMakeBorder(cv2.min(mask, round_)[2:-2, 2:-2], 2, 2, 2, 2, cv2.BORDER_CONSTANT)
    soft = cv2.erode(mask, np.ones((3, 3), np.uint8))
    soft = cv2.GaussianBlur(soft, (0, 0), rng.uniform(1.0, 3.0))
    return cv2.resize(cv2.min(soft, mask), (CROP_PX, CROP_PX), interpolation=cv2.INTER_LINEAR)


def degrade(image: Image, rng: np.random.Generator) -> Image:
    """What cameras do to a picture: light, colour, blur, noise and compression, each some of the time."""
    ramp = np.arange(256, dtype=np.float32) / 255
    gain, offset, gamma = np.exp(rng.normal(0, 0.25)), rng.normal(0, 0.08), np.exp(rng.normal(0, 0.25))
    tints = np.exp(rng.normal(0, 0.08, 3))
    table = np.stack([((ramp**gamma - 0.5) * gain + 0.5 + offset) * tint for tint in tints], axis=-1)
    image = cv2.LUT(image, (np.clip(table, 0, 1) * 255).astype(np.uint8)[None])
    if rng.random() < 0.12:
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        share = rng.uniform(0.4, 1.0)
        image = cv2.addWeighted(image, 1 - share, cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), share, 0)
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < 0.25:
        noise = rng.integers(-128, 128, image.shape, dtype=np.int8)
        image = cv2.add(image, noise * rng.uniform(0.02, 0.12), dtype=cv2.CV_8U)
    if rng.random() < 0.3:
        quality = int(rng.integers(25, 90))
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return image
