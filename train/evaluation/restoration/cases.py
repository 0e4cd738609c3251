"""Evaluation cases of restorers: faces with a hole whose content is known, the same ones at each call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from engines.contract import CROP_PX, EYE_DISTANCE_PX, Image, Points
from train.data.face_set import FaceRow, typology_angle, valid_mask
from train.evaluation import metrics
from train.occlusion import masks

EVAL_SEED = 11
#: Skin tones and above how many degrees of typology angle they begin, after A. Chardon et al., 1991 (whose six classes
#: are taken two by two). A photograph's light shifts it: groups compare, single faces don't.
TONES = {"light skin": 41.0, "medium skin": 10.0, "dark skin": -math.inf}
#: Kinds of photographs, and above how strong a grain of the face's skin they begin (uint8 steps): three in five of the
#: training faces have less, as they were enlarged or smoothed.
GRAINS = {"sharp photograph": 8.0, "soft photograph": -math.inf}
#: Ages where they are known, and above how many years they begin.
AGES = {"60 years and more": 59.5, "30 to 59 years": 29.5, "below 30 years": -math.inf}


class EvalFaces(Protocol):
    """Aligned faces to evaluate on: train.data.face_set.FaceSet, or the template's part of wide pictures."""

    rows: list[FaceRow]
    people: dict[str, list[int]]

    def image(self, index: int) -> Image: ...

    def sibling(self, index: int, rng: np.random.Generator) -> int | None: ...


Pick = Callable[[int, np.random.Generator], int | None]
"""From a face's index to that of another picture of the same person, or None."""

_OTHERS = (masks.cup, masks.features, masks.rectangles, masks.strokes, masks.half_face)


def others(landmarks: Points, rng: np.random.Generator) -> Image:
    """Any of the shapes that have no column of their own; the list never grows, so that old figures compare."""
    return _OTHERS[int(rng.integers(len(_OTHERS)))](landmarks, rng)


EVAL_SHAPES: dict[str, masks.MaskShape] = {
    "mask": masks.medical_mask,
    "hand": masks.hand,
    "rectangle": masks.rectangle,
    "other": others,
}


@dataclass(frozen=True, eq=False)
class EvalCase:
    """A face with a hole, where it is known what is behind it; a reference where the person has another picture."""

    face: Image
    hole: Image
    valid: Image
    landmarks: Points
    reference: Image | None = None
    reference_mask: Image | None = None
    years: int | None = None

    @property
    def region(self) -> Image:
        """The hole, as far as the photograph reaches."""
        return self.hole & self.valid

    @property
    def hollow(self) -> Image:
        """The face with nothing in its hole."""
        return np.where(self.hole[:, :, None] > 0, 0, self.face).astype(np.uint8)

    @property
    def skin(self) -> Image:
        """What of the hole shows skin, away from its rim."""
        return self.bare & cv2.erode(self.region, np.ones((5, 5), np.uint8))

    @property
    def tone(self) -> str:
        """The skin tone as the photograph shows it: one of TONES, by its individual typology angle."""
        return _class_of(typology_angle(self.face, self.bare & self.valid), TONES)

    @property
    def grain(self) -> str:
        """One of GRAINS, by the root mean square of the Laplacian of the photograph's skin."""
        return _class_of(math.sqrt(metrics.laplacian_energy(self.face, self.bare & self.valid)), GRAINS)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of faces that the case belongs to: skin tone, grain, and age where it is known."""
        age = () if self.years is None else (_class_of(self.years, AGES),)
        return (self.tone, self.grain, *age)

    @property
    def bare(self) -> Image:
        """Where the face shows skin: inside its oval, away from eyes, nostrils and mouth."""
        area = np.zeros((CROP_PX, CROP_PX), np.uint8)
        cv2.ellipse(area, (128, 138), (70, 92), 0, 0, 360, 255, -1)
        middle = self.landmarks[3:].mean(axis=0)
        spots = ((self.landmarks[0], 0.34), (self.landmarks[1], 0.34), (self.landmarks[2], 0.22))
        for at, radius in spots:
            cv2.circle(area, _pixel(at), round(radius * EYE_DISTANCE_PX), 0, -1)
        cv2.ellipse(
            area, _pixel(middle), (round(0.55 * EYE_DISTANCE_PX), round(0.26 * EYE_DISTANCE_PX)), 0, 0, 360, 0, -1
        )
        return area


def _class_of(value: float, classes: Mapping[str, float]) -> str:
    return next(name for name, least in classes.items() if value > least)


def eval_cases(
    faces: EvalFaces, shape: masks.MaskShape, limit: int | None = None, pick: Pick | None = None
) -> Iterator[EvalCase]:
    """Each face with a hole of a shape, the same ones each time; at most `limit`, spread over all of them.

    `pick` chooses the reference; any other picture of the same person if not given.
    """
    rng = np.random.default_rng(EVAL_SEED)
    chosen = spread(len(faces.rows), limit)
    for index, row in enumerate(faces.rows):
        hole, valid = shape(row.landmarks, rng), valid_mask(row)
        sibling = (pick or faces.sibling)(index, rng)
        if index not in chosen or not (hole & valid).any():
            continue
        known = (None, None) if sibling is None else (faces.image(sibling), valid_mask(faces.rows[sibling]))
        yield EvalCase(faces.image(index), hole, valid, row.landmarks, *known, row.age)


def spread(count: int, limit: int | None) -> set[int]:
    """At most `limit` of `count` indices, evenly."""
    if limit is None or limit >= count:
        return set(range(count))
    return {index * count // limit for index in range(limit)}


def _pixel(point: Points) -> tuple[int, int]:
    x, y = np.round(point).astype(int).tolist()
    return x, y
