"""Finds the faces of a single picture, for which there is time: small ones too, and more than in a call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from engines.contract import SEARCH_SIZE, Image
from engines.faces_maps import Detection, TwoPassDetector
from occlufix_vcam.core.frame import FaceTrack, Frame
from occlufix_vcam.stages.find import FaceFinder, LoadEngine, OwnFinder
from occlufix_vcam.stages.track import is_new_face

#: Tiles get smaller by halves down to this width; smaller faces have too few pixels to be restored.
LEAST_TILE_PX = 1200
#: A face that only a tile shows must be this certain: a picture has many tiles.
TILE_THRESHOLD = 0.6
MOST_FACES = 64


class TiledDetector(TwoPassDetector):
    """Searches a large picture as a whole and in overlapping tiles."""

    def search(self, image: Image, limit: int) -> list[Detection]:
        finds = super().search(image, limit)
        for x, y, tile in _tiles(image):
            shift = np.array([[1, 0, x], [0, 1, y]], np.float32)
            inside = [find.through(shift) for find in super().search(tile, limit)]
            finds += [find for find in inside if find.score >= TILE_THRESHOLD]
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
    return OwnFinder(load_engine, MOST_FACES, detector=TiledDetector)


def _tiles(image: Image) -> Iterator[tuple[int, int, Image]]:
    """Left, top and pixels of tiles that overlap by half, of half the width, a quarter and so on."""
    height, width = image.shape[:2]
    tile = max(width, height * SEARCH_SIZE[1] // SEARCH_SIZE[0]) // 2
    while tile >= LEAST_TILE_PX:
        high = tile * SEARCH_SIZE[0] // SEARCH_SIZE[1]
        for y in _starts(height, high):
            for x in _starts(width, tile):
                yield x, y, image[y : y + high, x : x + tile]
        tile //= 2


def _starts(length: int, tile: int) -> list[int]:
    """Where tiles begin that cover `length`, half a tile apart or less."""
    if length <= tile:
        return [0]
    count = -(-(length - tile) // (tile // 2)) + 1
    return [round(start) for start in np.linspace(0, length - tile, count)]
