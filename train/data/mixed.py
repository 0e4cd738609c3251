"""The restorer's faces: the aligned set, and the face's part of wide pictures of many people."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from engines.contract import CROP_PX, Image
from train.data.face_set import DataError, DrawnFace, FaceRow, FaceSource
from train.data.open_faces import open_faces
from train.data.wide import WideSet
from train.shared_memory import SharedAnswers, SharedRows

#: How many faces are of wide pictures, where there are any: with about eleven of each person, they are also where
#: another photograph for the reference comes from.
WIDE_SHARE = 0.25
#: So many are drawn at most to find one that nothing hides.
_DRAWS = 8


def open_mixed(data: Path, is_bare: Callable[[Image], bool]) -> FaceSource:
    """The faces to train with; where there are wide pictures, both, without what something hides. Raises DataError.

    A prepared stream alone is taken as it is: asking about each of its pictures would cost more than they do.
    """
    faces = open_faces(data)
    return Bare(Mixed(faces, WideFaces(data)), is_bare) if (data / "wide").is_dir() else faces


class Mixed:
    """Faces of two sets."""

    def __init__(self, faces: FaceSource, wide: FaceSource) -> None:
        self._faces, self._wide = faces, wide

    def draw(self, rng: np.random.Generator) -> DrawnFace:
        return (self._wide if rng.random() < WIDE_SHARE else self._faces).draw(rng)


class WideFaces:
    """The template's part of the wide pictures of the training, each decoded once for all worker processes."""

    def __init__(self, data: Path) -> None:
        self._set = WideSet(data, "train")
        self._kept = SharedRows(len(self._set), (CROP_PX, CROP_PX, 3))

    def draw(self, rng: np.random.Generator) -> DrawnFace:
        index = int(rng.integers(len(self._set)))
        return DrawnFace(self._set.row(index), self._face(index), partial(self._another, index))

    def _another(self, index: int, rng: np.random.Generator) -> tuple[FaceRow, Image] | None:
        other = self._set.sibling(index, rng)
        return None if other is None else (self._set.row(other), self._face(other))

    def _face(self, index: int) -> Image:
        return self._kept.get(index, partial(self._set.face, index))


class Bare:
    """Faces of a set that `is_bare` finds unhidden; it is called once for each.

    In 2 or 3 % of the photographs a hand or a microphone is before the face, which would teach to paint such things.
    """

    def __init__(self, faces: FaceSource, is_bare: Callable[[Image], bool]) -> None:
        self._faces, self._is_bare = faces, is_bare
        self._known = SharedAnswers()

    def draw(self, rng: np.random.Generator) -> DrawnFace:
        for _ in range(_DRAWS):
            drawn = self._faces.draw(rng)
            if self._shows(drawn.row, drawn.image):
                return DrawnFace(drawn.row, drawn.image, partial(self._another, drawn))
        raise DataError("something hides nearly all faces to train with, says the segmenter; give other data")

    def _another(self, drawn: DrawnFace, rng: np.random.Generator) -> tuple[FaceRow, Image] | None:
        other = drawn.sibling(rng)
        return other if other is not None and self._shows(*other) else None

    def _shows(self, row: FaceRow, image: Image) -> bool:
        return self._known.get(row.file, partial(self._is_bare, image))
