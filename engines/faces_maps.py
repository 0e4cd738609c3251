"""From the maps of the `faces` network to faces: the arithmetic that training measures and the product runs.

The network sees a frame twice: the whole of it, letterboxed into SEARCH_SIZE, to see where faces are, and each
face close up, turned upright, for exact landmarks. One map cell stands for STRIDE x STRIDE pixels of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import (
    CLOSE_UP_SIZE,
    CROP_PX,
    SEARCH_SIZE,
    TEMPLATE,
    Affine,
    Image,
    Points,
    similarity,
    transform_points,
)

Maps: TypeAlias = Mapping[str, NDArray[Any]]
Run: TypeAlias = Callable[[Image], Maps]

STRIDE = 8
#: The face template's scale in a close-up: the eyes are about 35 pixels apart, a quarter of the picture is margin.
CLOSE_UP_SCALE = 0.45
#: A close-up that enlarges more than this (eyes less than 2 pixels apart) shows nothing.
LEAST_SCALE = 0.05
#: A face's box in the template, x0, y0, x1, y1: what detectors of faces usually draw.
TEMPLATE_BOX = np.array([35.5, 7.5, 220.5, 248.5], dtype=np.float32)

_CLOSE_UP_TEMPLATE: Points = (TEMPLATE - CROP_PX / 2) * np.float32(CLOSE_UP_SCALE) + np.float32(CLOSE_UP_SIZE[0] / 2)
#: A search is generous: what it gives is a face only if the close-up says so too. A face that is followed already
#: may be less certain for a while.
SEARCH_THRESHOLD = 0.2
CLOSE_UP_THRESHOLD = 0.3
FACE_THRESHOLD = 0.48
#: Beside a face that is followed, another must be more certain: in a film a doubtful spot gets many chances.
NEWCOMER_THRESHOLD = 0.6
#: A face lower than this in a search, a sixteenth of a wide frame, is smaller than any that was trained on.
LEAST_HEIGHT_PX = 12.0
_OVERLAP = 0.4
#: A cell beside a peak knows the face's box and landmarks if it has this share of the peak's heat.
_AGREES = 0.25
#: How far from the middle of a close-up, in pixels of it, its own face may be: more is a neighbour.
_OFF_MIDDLE_PX = 36.0


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One face: score 0..1, box x0, y0, x1, y1 (4), landmarks 5x2, in pixels."""

    score: float
    box: Points
    landmarks: Points

    def through(self, matrix: Affine) -> Detection:
        """The same face after a similarity; its box stays upright."""
        corners = self.box.reshape(2, 2)
        middle = transform_points(corners.mean(axis=0, keepdims=True), matrix)[0]
        half = (corners[1] - corners[0]) / 2 * np.hypot(matrix[0, 0], matrix[1, 0])
        box = np.concatenate([middle - half, middle + half]).astype(np.float32)
        return Detection(self.score, box, transform_points(self.landmarks, matrix))


class TwoPassDetector:
    """The two passes over a frame. `run_search` and `run_close_up` take 1xHxWx3 of their contract's size."""

    def __init__(self, run_search: Run, run_close_up: Run) -> None:
        self._run_search = run_search
        self._run_close_up = run_close_up
        self._search_input: Image = np.zeros((1, *SEARCH_SIZE, 3), np.uint8)
        self._close_up_input: Image = np.zeros((1, *CLOSE_UP_SIZE, 3), np.uint8)

    def search(self, image: Image, limit: int) -> list[Detection]:
        """Where faces may be, best first, in `image` pixels: to be looked at close up."""
        way_back = letterbox(image, self._search_input[0])
        finds = decode(self._run_search(self._search_input), SEARCH_THRESHOLD, limit)
        return [find.through(way_back) for find in finds if find.box[3] - find.box[1] >= LEAST_HEIGHT_PX]

    def look(self, image: Image, landmarks: Points) -> Detection | None:
        """The face at about these `landmarks`, exactly, in `image` pixels; None where there is none."""
        try:
            way_back = close_up(image, landmarks, self._close_up_input[0])
        except ValueError:
            return None
        finds = decode(self._run_close_up(self._close_up_input), CLOSE_UP_THRESHOLD, 3)
        middle = np.array(CLOSE_UP_SIZE[::-1], np.float32) / 2
        own = [find for find in finds if np.hypot(*(find.landmarks.mean(axis=0) - middle)) < _OFF_MIDDLE_PX]
        return own[0].through(way_back) if own else None

    def find(self, image: Image, limit: int, known: Sequence[Detection] = ()) -> list[Detection]:
        """The faces of a frame beside those `known`, best first: search, then two looks at each."""
        faces: list[Detection] = []
        least = (NEWCOMER_THRESHOLD if known else FACE_THRESHOLD) ** 2
        for candidate in self.search(image, limit + len(known)):
            if not _is_new(candidate, known):
                continue
            coarse = self.look(image, candidate.landmarks)
            face = self.look(image, coarse.landmarks) if coarse else None
            # A face is what both passes find: their false positives differ.
            if face and face.score * candidate.score >= least and _is_new(face, [*known, *faces]):
                faces.append(face)
        return faces


def decode(maps: Maps, threshold: float, limit: int) -> list[Detection]:
    """The faces in one picture's maps, best first, at most `limit`.

    `heat` 1xHxWx1 is the probability that a face's middle is in the cell; `boxes` 1xHxWx4 and `landmarks`
    1xHxWx10 are positions relative to the cell's middle, in input pixels. A face's numbers are the mean of what
    the cells around its peak say, weighted by their heat.
    """
    heat = np.asarray(maps["heat"], dtype=np.float32)[0, :, :, 0]
    peaks = (heat == cv2.dilate(heat, np.ones((3, 3), np.uint8))) & (heat >= threshold)
    rows, columns = np.nonzero(peaks)
    best_first = np.argsort(-heat[rows, columns])[: 4 * limit]
    finds: list[Detection] = []
    for row, column in zip(rows[best_first], columns[best_first], strict=True):
        find = _read_peak(maps, heat, int(row), int(column))
        if _is_new(find, finds):
            finds.append(find)
    return finds[:limit]


def _is_new(find: Detection, others: Sequence[Detection]) -> bool:
    return all(overlap(find.box, other.box) < _OVERLAP for other in others)


def overlap(a: Points, b: Points) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = float(width * height)
    return shared / float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def letterbox(image: Image, out: Image) -> Affine:
    """Draws the whole of `image` into the middle of `out` and returns the 2x3 way back, `out` to `image` pixels."""
    height, width = image.shape[:2]
    scale = min(out.shape[0] / height, out.shape[1] / width)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (out.shape[1] - inner[0]) // 2, (out.shape[0] - inner[1]) // 2
    out[:top], out[top + inner[1] :] = 0, 0
    out[:, :left], out[:, left + inner[0] :] = 0, 0
    view = out[top : top + inner[1], left : left + inner[0]]
    cv2.resize(image, inner, dst=view, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    x_scale, y_scale = width / inner[0], height / inner[1]
    # Middles of pixels coincide, not their corners.
    x_shift, y_shift = (0.5 - left) * x_scale - 0.5, (0.5 - top) * y_scale - 0.5
    return np.array([[x_scale, 0, x_shift], [0, y_scale, y_shift]], dtype=np.float32)


def close_up(image: Image, landmarks: Points, out: Image) -> Affine:
    """Draws the face with these `landmarks` upright into `out` and returns the 2x3 way back to `image` pixels.

    A face much larger than the close-up is shrunk by areas first, so that fine texture does not alias.
    Raises ValueError where the landmarks are no face.
    """
    way_back = similarity(_CLOSE_UP_TEMPLATE, landmarks)
    scale = float(np.hypot(way_back[0, 0], way_back[1, 0]))
    if not LEAST_SCALE < scale < np.inf:
        raise ValueError("landmarks coincide or are not finite: they are no face")
    source, shift, step = image, np.zeros(2, np.float32), int(scale)
    if step >= 2:
        source, shift = _shrunk_around(image, way_back, step)
    to_source = way_back.copy()
    to_source[:, 2] -= shift
    if step >= 2:
        to_source /= step
        to_source[:, 2] += 0.5 / step - 0.5  # middles of pixels, not their corners, coincide
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cv2.warpAffine(source, to_source, (out.shape[1], out.shape[0]), dst=out, flags=flags)
    return way_back


def template_box(landmarks: Points) -> Points:
    """The box x0, y0, x1, y1 that the face template has at these landmarks, upright or turned."""
    to_image = similarity(TEMPLATE, landmarks)
    x0, y0, x1, y1 = TEMPLATE_BOX
    middle = to_image[:, :2] @ np.array([(x0 + x1) / 2, (y0 + y1) / 2], np.float32) + to_image[:, 2]
    half = np.array([x1 - x0, y1 - y0], np.float32) / 2 * np.hypot(to_image[0, 0], to_image[1, 0])
    return np.concatenate([middle - half, middle + half]).astype(np.float32)


def _read_peak(maps: Maps, heat: NDArray[np.float32], row: int, column: int) -> Detection:
    """The mean over those of the 3x3 cells around a peak that see the face too."""
    rows = slice(max(row - 1, 0), row + 2)
    columns = slice(max(column - 1, 0), column + 2)
    near = heat[rows, columns]
    weights = np.where(near >= _AGREES * heat[row, column], near**2, 0.0)
    weights /= weights.sum()
    ys, xs = np.mgrid[rows.start : rows.start + weights.shape[0], columns.start : columns.start + weights.shape[1]]
    middles = (np.stack([xs, ys], axis=-1).astype(np.float32) + 0.5) * STRIDE - 0.5
    middle = (middles * weights[..., None]).sum(axis=(0, 1))
    box = (maps["boxes"][0, rows, columns] * weights[..., None]).sum(axis=(0, 1)) + np.tile(middle, 2)
    landmarks = (maps["landmarks"][0, rows, columns] * weights[..., None]).sum(axis=(0, 1)).reshape(5, 2) + middle
    return Detection(float(heat[row, column]), box.astype(np.float32), landmarks.astype(np.float32))


def _shrunk_around(image: Image, way_back: Affine, step: int) -> tuple[Image, Points]:
    """The part of `image` that a close-up shows, 1/`step` as large, and where its corner was."""
    size = np.array(CLOSE_UP_SIZE[::-1], np.float32)
    corners = np.array([[0, 0], [size[0], 0], [0, size[1]], size], np.float32) @ way_back[:, :2].T + way_back[:, 2]
    limit = np.array(image.shape[1::-1])
    low = np.clip(np.floor(corners.min(axis=0)).astype(int) - step, 0, limit - step)
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + step, low + step, limit)
    count = (high - low) // step
    high = low + count * step
    part = image[low[1] : high[1], low[0] : high[0]]
    shrunk = cv2.resize(part, (int(count[0]), int(count[1])), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, dtype=np.uint8), low.astype(np.float32)
