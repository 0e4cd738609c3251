"""Uncovered faces in the wide field, to put things before: wide photographs, and aligned faces of the template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from engines.contract import CROP_PX, WIDE_OFFSET, WIDE_PX, Image
from train.data.face_set import DataError, FaceRow, valid_mask
from train.data.open_faces import open_faces
from train.data.photographs import Photograph, valid_area
from train.data.wide import CORNER, WideSet

#: How many portraits are wide photographs, where there are any.
WIDE_SHARE = 0.75
#: So many are drawn at most to find one that nothing hides.
_DRAWS = 8


class Portraits:
    """Random faces of the training that `is_bare` (of a wide picture) finds unhidden; it is called once for each."""

    def __init__(self, data: Path, is_bare: Callable[[Image], bool]) -> None:
        self._aligned = open_faces(data)
        self._wide = WideSet(data, "train", keep=True) if (data / "wide").is_dir() else None
        self._is_bare = is_bare
        self._known: dict[str, bool] = {}

    def draw(self, rng: np.random.Generator) -> Photograph:
        for _ in range(_DRAWS):
            row, portrait = self._draw(rng)
            if row.file not in self._known:
                self._known[row.file] = self._is_bare(portrait.image)
            if self._known[row.file]:
                return portrait
        raise DataError("something hides nearly all faces to train with, says the segmenter; give other data")

    def _draw(self, rng: np.random.Generator) -> tuple[FaceRow, Photograph]:
        if self._wide is not None and rng.random() < WIDE_SHARE:
            index = int(rng.integers(len(self._wide)))
            row, valid = self._wide.rows[index], valid_area(self._wide.rows[index].valid_quad)
            return row, Photograph(self._wide.wide(index), np.zeros_like(valid), valid, row.landmarks)
        drawn = self._aligned.draw(rng)
        return drawn.row, aligned_portrait(drawn.row, drawn.image)


def aligned_portrait(row: FaceRow, face: Image) -> Photograph:
    """A face of the template in the wide field; what surrounds it is its edge smeared outwards, and not valid."""
    valid = surrounded(valid_mask(row), cv2.BORDER_CONSTANT)
    return Photograph(surrounded(face), np.zeros_like(valid), valid, row.landmarks + CORNER)


def surrounded(face: Image, border: int = cv2.BORDER_REPLICATE) -> Image:
    """A picture of the template in the wide field, its edge smeared outwards or, by `border`, nothing around it."""
    left, top = WIDE_OFFSET
    rest = WIDE_PX - CROP_PX
    return np.asarray(cv2.copyMakeBorder(face, top, rest - top, left, rest - left, border), np.uint8)
