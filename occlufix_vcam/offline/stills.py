"""Finds the faces of a single picture, for which there is time: small ones too, and more than in a call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import cv2
import numpy as np

from engines.base import InferenceEngine
from engines.contract import SEARCH_SIZE, TEMPLATE_PART, WIDE_PX, Affine, Image
from engines.faces_maps import SURE as SURE_FACE
from engines.faces_maps import Detection, Run, TwoPassDetector
from occlufix_vcam.core.frame import FaceTrack, Frame
from occlufix_vcam.stages.align import align
from occlufix_vcam.stages.find import FaceFinder, LoadEngine, OwnFinder
from occlufix_vcam.stages.geometry import face_share
from occlufix_vcam.stages.hidden import SURE, ask
from occlufix_vcam.stages.track import is_new_face

#: Tiles get smaller by halves down to this width; smaller faces have too few pixels to be restored.
LEAST_TILE_PX = 1200
#: A face that only a tile shows must be this certain: a picture has many tiles.
TILE_THRESHOLD = 0.6
MOST_FACES = 64
#: A face that is doubted has at least this certainty and height, and something covers it of which, in the face's area,
#: this share is sure; of all that the network marks from HALF on, plainly or mirrored, it marks this share both ways.
#: 3 of 374 photographs of covered faces have such a find, 2 of 20 of the dev set, all of them right, and none of 446
#: pictures without a face (the nearest: 93 px, 0.79).
DOUBTED, DOUBTED_PX, SURELY_COVERED, HALF, AGREES = 0.38, 100, 0.035, 128, 0.85
#: Height and width of a reduced tile: twice what the network sees, so that the last reduction is an exact mean.
_REDUCED = 2 * SEARCH_SIZE[0], 2 * SEARCH_SIZE[1]


class TiledDetector(TwoPassDetector):
    """Searches a large picture as a whole and in overlapping tiles.

    A face that is doubted is one if something surely `covers` it: with the eyes hidden, or outside the picture, none
    looks like one.
    """

    def __init__(self, run_search: Run, run_close_up: Run, covers: Callable[[Image, Detection], bool]) -> None:
        super().__init__(run_search, run_close_up)
        self._covers = covers

    def is_sure(self, image: Image, candidate: Detection, face: Detection, sure_from: float) -> bool:
        certainty = self.certainty(image, candidate, face)
        is_doubted = sure_from == SURE_FACE and certainty >= DOUBTED and face.box[3] - face.box[1] >= DOUBTED_PX
        return certainty >= sure_from or (is_doubted and self._covers(image, face))

    def search(self, image: Image, limit: int) -> list[Detection]:
        finds = super().search(image, limit)
        for tile, to_image in _tiles(image):
            inside = super().search(tile, limit)
            finds += [find.through(to_image) for find in inside if find.score >= TILE_THRESHOLD]
        best: list[Detection] = []
        for find in sorted(finds, key=lambda find: find.score, reverse=True):
            if is_new_face(find, best):
                best.append(find)
        return best[:limit]


class StillFinder:
    """Faces of one picture, largest first, at most `max_faces`; `left` counts those beyond."""

    def __init__(self, finder: FaceFinder, max_faces: int) -> None:
        self._finder, self._max_faces = finder, max_faces
        self.left = 0

    def __call__(self, frame: Frame) -> Sequence[FaceTrack]:
        faces = self._finder(frame)
        self.left = max(0, len(faces) - self._max_faces)
        return faces[: self._max_faces]

    def reset(self) -> None:
        self._finder.reset()
        self.left = 0


def open_tiled_finder(load_engine: LoadEngine) -> FaceFinder:
    covers = partial(is_surely_covered, load_engine("hidden", {}))
    return OwnFinder(load_engine, MOST_FACES, detector=partial(TiledDetector, covers=covers))


def is_surely_covered(hidden: InferenceEngine, image: Image, face: Detection) -> bool:
    """Whether the `hidden` network sees something before a face, is sure of it, and sees the same if mirrored."""
    crop = align(Frame(image, 0, 0.0), FaceTrack(0, face.landmarks, face.score))
    if crop is None:
        return False
    seen, mirrored = ask(hidden, crop), ask(hidden, crop, mirrored=True)
    least, most = (np.count_nonzero(each(seen, mirrored) >= HALF) for each in (np.minimum, np.maximum))
    part = TEMPLATE_PART if seen.shape[0] == WIDE_PX else np.s_[:]
    sure = np.greater_equal(cv2.addWeighted(seen, 0.5, mirrored, 0.5, 0)[part], SURE).view(np.uint8)
    return bool(least >= AGREES * most and face_share(sure) >= SURELY_COVERED)


def _tiles(image: Image) -> Iterator[tuple[Image, Affine]]:
    """Reduced tiles that overlap by half, of half the image's width, a quarter and so on, and their way to its pixels.

    The image is reduced as a whole, once for each size of tiles.
    """
    height, width = image.shape[:2]
    widest = max(width, height * SEARCH_SIZE[1] // SEARCH_SIZE[0])
    for halvings in range(int(math.log2(max(1.0, widest / LEAST_TILE_PX))), 0, -1):
        scale = widest / 2**halvings / _REDUCED[1]
        size = max(1, round(width / scale)), max(1, round(height / scale))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        for y in _starts(size[1], _REDUCED[0]):
            for x in _starts(size[0], _REDUCED[1]):
                # Pixel centres coincide, not corners.
                shift = scale * (x + 0.5) - 0.5, scale * (y + 0.5) - 0.5
                to_image = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
                yield image[y : y + _REDUCED[0], x : x + _REDUCED[1]], to_image


def _starts(length: int, tile: int) -> list[int]:
    """Where tiles begin that cover `length`, half a tile apart or less."""
    if length <= tile:
        return [0]
    count = -(-(length - tile) // (tile // 2)) + 1
    return [round(start) for start in np.linspace(0, length - tile, count)]
