"""Decodes the maps of the `faces` network into faces: the same arithmetic in training and product.

The network sees a frame in two passes: the whole frame, letterboxed to SEARCH_SIZE, to find where faces are, and each
face in close-up, turned upright, for exact landmarks. One map cell covers STRIDE x STRIDE input pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
#: Scale of the face template in a close-up: the eyes are about 35 pixels apart, a quarter of the image is margin.
CLOSE_UP_SCALE = 0.45
#: A close-up that enlarges more than this (eyes less than 2 pixels apart) shows nothing.
LEAST_SCALE = 0.05
#: Box of a face in the template, x0, y0, x1, y1, as face detectors usually draw it.
TEMPLATE_BOX = np.array([35.5, 7.5, 220.5, 248.5], dtype=np.float32)

_CLOSE_UP_TEMPLATE: Points = (TEMPLATE - CROP_PX / 2) * np.float32(CLOSE_UP_SCALE) + np.float32(CLOSE_UP_SIZE[0] / 2)
#: The search is generous: a candidate counts as a face only if the close-up confirms it. A face that is already
#: tracked may be less certain for a while.
SEARCH_THRESHOLD = 0.2
CLOSE_UP_THRESHOLD = 0.3
FACE_THRESHOLD = 0.48
#: Beside a tracked face, another one must be more certain: in a video, a doubtful spot gets many chances.
NEWCOMER_THRESHOLD = 0.6
#: A face lower than this in a search, a sixteenth of a wide frame, is smaller than any in training.
LEAST_HEIGHT_PX = 12.0
#: A face is sure from this certainty on, which three more close-ups give: larger, tilted and upside down. On the 446
#: photographs of `scenes` without a face it lets none of 13 false finds through, and 98 of 100 faces of at least 40 px
#: that are not turned far aside. In a video, a doubtful spot gets many chances, and so does a face; in a picture that
#: is turned, faces are rare.
SURE, SURE_IN_VIDEO, SURE_IF_TURNED = 0.49, 0.58, 0.65
_LARGER, _TILT_DEGREES = 1.25, 20.0
_LEAST_WEIGHT, _TURNED_WEIGHT = 0.3, 0.2
#: A face stands on its head if it scores this much better that way.
_BETTER_TURNED = 0.03
_OVERLAP = 0.4
#: A cell beside a peak contributes to box and landmarks if it has this share of the peak's heat.
_AGREES = 0.25
#: How far from the middle of a close-up, in its pixels, its own face may be; beyond that it is a neighbour.
_OFF_MIDDLE_PX = 36.0


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """Detected face: score 0..1, box x0, y0, x1, y1 (4), landmarks 5x2, in pixels.

    What is not `sure` to be a face may still become so in a later frame.
    """

    score: float
    box: Points
    landmarks: Points
    sure: bool = True

    def through(self, matrix: Affine) -> Detection:
        """The same face after a similarity; its box stays upright."""
        corners = self.box.reshape(2, 2)
        middle = transform_points(corners.mean(axis=0, keepdims=True), matrix)[0]
        half = (corners[1] - corners[0]) / 2 * np.hypot(matrix[0, 0], matrix[1, 0])
        box = np.concatenate([middle - half, middle + half]).astype(np.float32)
        return Detection(self.score, box, transform_points(self.landmarks, matrix))


class TwoPassDetector:
    """Runs the two passes over a frame. `run_search` and `run_close_up` take 1xHxWx3 of the sizes in the contract."""

    def __init__(self, run_search: Run, run_close_up: Run) -> None:
        self._run_search = run_search
        self._run_close_up = run_close_up
        self._search_input: Image = np.zeros((1, *SEARCH_SIZE, 3), np.uint8)
        self._close_up_input: Image = np.zeros((1, *CLOSE_UP_SIZE, 3), np.uint8)

    def search(self, image: Image, limit: int) -> list[Detection]:
        """Candidates for faces, best first, in `image` pixels, to be checked in close-up."""
        way_back = letterbox(image, self._search_input[0])
        finds = decode(self._run_search(self._search_input), SEARCH_THRESHOLD, limit)
        return [find.through(way_back) for find in finds if find.box[3] - find.box[1] >= LEAST_HEIGHT_PX]

    def look(self, image: Image, landmarks: Points) -> Detection | None:
        """Exact face at about these `landmarks`, in `image` pixels; None if there is none."""
        try:
            way_back = close_up(image, landmarks, self._close_up_input[0])
        except ValueError:
            return None
        finds = decode(self._run_close_up(self._close_up_input), CLOSE_UP_THRESHOLD, 3)
        middle = np.array(CLOSE_UP_SIZE[::-1], np.float32) / 2
        own = [find for find in finds if np.hypot(*(find.landmarks.mean(axis=0) - middle)) < _OFF_MIDDLE_PX]
        return own[0].through(way_back) if own else None

    def find(
        self, image: Image, limit: int, known: Sequence[Detection] = (), sure_from: float = SURE
    ) -> list[Detection]:
        """Faces of a frame besides those `known`, best first: one search, then some close-ups of each."""
        faces: list[Detection] = []
        least = (NEWCOMER_THRESHOLD if known else FACE_THRESHOLD) ** 2
        for candidate in self.search(image, limit + len(known)):
            if not _is_new(candidate, known):
                continue
            coarse = self.look(image, candidate.landmarks)
            face = self.look(image, coarse.landmarks) if coarse else None
            # A face is what both passes find: their false positives differ.
            if face and face.score * candidate.score >= least and _is_new(face, [*known, *faces]):
                face = self._upright(image, face)
                faces.append(replace(face, sure=self.is_sure(image, candidate, face, sure_from)))
        return faces

    def is_sure(self, image: Image, candidate: Detection, face: Detection, sure_from: float) -> bool:
        """Whether the `face` that close-ups show at a `candidate` of the search is one."""
        return self.certainty(image, candidate, face) >= sure_from

    def find_turned(self, image: Image, limit: int) -> list[Detection]:
        """Sure faces that lie on their side or stand on their head, best first."""
        finds: list[Detection] = []
        height, width = image.shape[:2]
        for turn, way_back in (
            (cv2.ROTATE_90_CLOCKWISE, [[0, 1, 0], [-1, 0, height - 1]]),
            (cv2.ROTATE_90_COUNTERCLOCKWISE, [[0, -1, width - 1], [1, 0, 0]]),
            (cv2.ROTATE_180, [[-1, 0, width - 1], [0, -1, height - 1]]),
        ):
            turned = self.find(np.asarray(cv2.rotate(image, turn), np.uint8), limit, sure_from=SURE_IF_TURNED)
            back = [face.through(np.array(way_back, np.float32)) for face in turned if face.sure]
            finds += [face for face in back if _is_new(face, finds)]
        return sorted(finds, key=lambda face: -face.score)[:limit]

    def _upright(self, image: Image, face: Detection) -> Detection:
        """`face`, or the one that stands on its head in its place: about its middle or, masked, about its eyes."""
        for centre in (face.landmarks.mean(axis=0), face.landmarks[:2].mean(axis=0)):
            other = self._look_moved(image, face, centre, degrees=180)
            if other is not None and other.score > face.score + _BETTER_TURNED:
                face = other
        return face

    def certainty(self, image: Image, candidate: Detection, face: Detection) -> float:
        """How sure this is a face: what only looks like one does so in few ways, and upside down as well."""
        middle = face.landmarks.mean(axis=0)
        others = (
            self._look_moved(image, face, middle, scale=_LARGER),
            self._look_moved(image, face, middle, degrees=_TILT_DEGREES),
        )
        on_head = self._look_moved(image, face, middle, degrees=180)
        scores = [face.score, *(other.score if other is not None else 0.0 for other in others)]
        certainty = candidate.score * float(np.mean(scores)) + _LEAST_WEIGHT * min(scores)
        return certainty - _TURNED_WEIGHT * (on_head.score if on_head is not None else 0.0)

    def _look_moved(
        self, image: Image, face: Detection, centre: Points, scale: float = 1.0, degrees: float = 0.0
    ) -> Detection | None:
        """The face as a close-up shows it that is larger, or turned by `degrees` anticlockwise, about `centre`."""
        turn = cv2.getRotationMatrix2D((0.0, 0.0), degrees, scale)[:, :2].astype(np.float32)
        return self.look(image, ((face.landmarks - centre) @ turn.T + centre).astype(np.float32))


def decode(maps: Maps, threshold: float, limit: int) -> list[Detection]:
    """Faces in the maps of one image, best first, at most `limit`.

    `heat` 1xHxWx1 is the probability that a face's middle is in the cell; `boxes` 1xHxWx4 and `landmarks` 1xHxWx10 are
    positions relative to the cell's middle, in input pixels. Each number is the mean over the cells around the face's
    peak, weighted by their heat.
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


def averaged(image: Image, size: tuple[int, int]) -> Image:
    """`image` averaged down to `size` (width, height): by halves first, at which OpenCV is several times faster."""
    width, height = size
    while (
        image.shape[1] >= 4 * width and image.shape[0] >= 4 * height and not any(side % 2 for side in image.shape[:2])
    ):
        half = image.shape[1] // 2, image.shape[0] // 2
        image = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def letterbox(image: Image, out: Image) -> Affine:
    """Draws all of `image` into the middle of `out` and returns the 2x3 inverse, `out` to `image` pixels."""
    height, width = image.shape[:2]
    scale = min(out.shape[0] / height, out.shape[1] / width)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (out.shape[1] - inner[0]) // 2, (out.shape[0] - inner[1]) // 2
    out[:top], out[top + inner[1] :] = 0, 0
    out[:, :left], out[:, left + inner[0] :] = 0, 0
    view = out[top : top + inner[1], left : left + inner[0]]
    view[...] = averaged(image, inner) if scale < 1 else cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
    x_scale, y_scale = width / inner[0], height / inner[1]
    # Pixel centres coincide, not corners.
    x_shift, y_shift = (0.5 - left) * x_scale - 0.5, (0.5 - top) * y_scale - 0.5
    return np.array([[x_scale, 0, x_shift], [0, y_scale, y_shift]], dtype=np.float32)


def close_up(image: Image, landmarks: Points, out: Image) -> Affine:
    """Draws the face with these `landmarks` upright into `out` and returns the 2x3 inverse to `image` pixels.

    A face much larger than the close-up is first reduced by area, so that fine texture does not alias. Raises
    ValueError if the landmarks do not form a face.
    """
    way_back = similarity(_CLOSE_UP_TEMPLATE, landmarks)
    scale = float(np.hypot(way_back[0, 0], way_back[1, 0]))
    if not LEAST_SCALE < scale < np.inf:
        raise ValueError("landmarks coincide or are not finite")
    source, shift, step = image, np.zeros(2, np.float32), int(scale)
    if step >= 2:
        source, shift = _shrunk_around(image, way_back, step)
    to_source = way_back.copy()
    to_source[:, 2] -= shift
    if step >= 2:
        to_source /= step
        to_source[:, 2] += 0.5 / step - 0.5  # pixel centres coincide, not corners
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cv2.warpAffine(source, to_source, (out.shape[1], out.shape[0]), dst=out, flags=flags)
    return way_back


def template_box(landmarks: Points) -> Points:
    """Box x0, y0, x1, y1 of the face template at these landmarks, upright or turned."""
    to_image = similarity(TEMPLATE, landmarks)
    x0, y0, x1, y1 = TEMPLATE_BOX
    middle = to_image[:, :2] @ np.array([(x0 + x1) / 2, (y0 + y1) / 2], np.float32) + to_image[:, 2]
    half = np.array([x1 - x0, y1 - y0], np.float32) / 2 * np.hypot(to_image[0, 0], to_image[1, 0])
    return np.concatenate([middle - half, middle + half]).astype(np.float32)


def _read_peak(maps: Maps, heat: NDArray[np.float32], row: int, column: int) -> Detection:
    """Mean over those of the 3x3 cells around a peak that see the face too."""
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
    """The part of `image` that a close-up shows, reduced to 1/`step`, and the position of its corner."""
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
