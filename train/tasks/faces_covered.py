"""Faces behind real things for the face finder: photographs of covered faces, and portraits that get something before
them.

Both come in the wide field at half its size: a close-up shows a face at less than that, and shrinking far at once would
alias.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from engines.contract import WIDE_PX, Image, Points
from train.data.face_set import mirror_landmarks
from train.data.photographs import Photographs, valid_area
from train.data.wide import WideSet
from train.occlusion.occluders import Occluders, random_names
from train.occlusion.transplants import Transplants

SIDE_PX = WIDE_PX // 2
#: How often something covers a portrait, and how often that is a real thing out of a photograph.
_COVERED_CHANCE, _TRANSPLANT_CHANCE = 0.85, 0.55
#: How often a face stands at the picture's upper edge, and where that is: in eye-to-mouth distances below the eyes.
_CUT_CHANCE, _CUT_AT = 0.1, (-0.5, 0.3)


@dataclass(frozen=True, slots=True)
class HalfField:
    """The wide field at half its size: SIDE_PX x SIDE_PX, 255 where there was a photograph, and landmarks 5x2."""

    image: Image
    valid: Image
    landmarks: Points


class CoveredFaces:
    """Draws covered faces of the training, as far as the data folder has them."""

    def __init__(self, data: Path) -> None:
        self._photographs = Photographs(data, "train")
        self._transplants = Transplants(self._photographs)
        self._occluders = Occluders(data, "train")
        self._portraits = WideSet(data, "train", keep=True) if (data / "wide").is_dir() else None

    def draw(self, rng: np.random.Generator, is_photograph: bool) -> HalfField | None:
        """A photograph, or a portrait with something before it; mirrored every other time. None where there is none.

        Some are cut off at the forehead or just below the eyes, as at a picture's edge. Of the photographs, one in five
        shows a face beside a thing that does not cover it.
        """
        if is_photograph:
            drawn = self._photographs.draw(rng) if self._photographs else None
            field = _halved(drawn.image, drawn.valid, drawn.landmarks) if drawn is not None else None
        else:
            field = self._portrait(rng)
        if field is not None and rng.random() < _CUT_CHANCE:
            field = _cut_off(field, rng)
        return _mirrored(field) if field is not None and rng.random() < 0.5 else field

    def cover(self, image: Image, landmarks: Points, rng: np.random.Generator) -> Image:
        """The square `image` with something before the face that has these landmarks."""
        if self._photographs and rng.random() < _TRANSPLANT_CHANCE:
            return self._transplants(image, landmarks, rng)[0]
        return self._occluders.occlude(image, landmarks, rng, random_names(rng))[0]

    def _portrait(self, rng: np.random.Generator) -> HalfField | None:
        if self._portraits is None:
            return None
        index = int(rng.integers(len(self._portraits)))
        row = self._portraits.rows[index]
        field = _halved(self._portraits.wide(index), valid_area(row.valid_quad), row.landmarks)
        if rng.random() >= _COVERED_CHANCE:
            return field
        return HalfField(self.cover(field.image, field.landmarks, rng), field.valid, field.landmarks)


def _halved(image: Image, valid: Image, landmarks: Points) -> HalfField:
    planes = (np.asarray(cv2.resize(p, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)) for p in (image, valid))
    return HalfField(*planes, (landmarks + 0.5) / 2 - 0.5)  # middles of pixels, not corners, coincide


def _cut_off(field: HalfField, rng: np.random.Generator) -> HalfField:
    """The field of a face at the picture's upper edge: nothing above that, or its outermost line smeared."""
    eyes, mouth = field.landmarks[:2].mean(axis=0)[1], field.landmarks[3:].mean(axis=0)[1]
    line = max(int(eyes + rng.uniform(*_CUT_AT) * (mouth - eyes)), 0)
    image, valid = field.image.copy(), field.valid.copy()
    image[:line] = image[line] if rng.random() < 0.5 else 0
    valid[:line] = 0
    return HalfField(image, valid, field.landmarks)


def _mirrored(field: HalfField) -> HalfField:
    planes = (np.ascontiguousarray(plane[:, ::-1]) for plane in (field.image, field.valid))
    return HalfField(*planes, mirror_landmarks(field.landmarks, SIDE_PX))
