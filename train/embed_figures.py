"""How well people are told apart, whole and with parts hidden: held-out people, and the teacher in the same table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from engines.contract import CROP_PX, Image
from train.data import FaceSet
from train.embed_data import held_out_people, third_party
from train.masks import MaskShape, hand, medical_mask

Embed = Callable[[Image, Image], np.ndarray]
"""A 256x256x3 BGR crop and its 256x256 mask (255 = hidden) to a unit vector."""

#: What hides the one face of a pair; the other is whole, as enrolled faces are.
HIDDEN_BY: dict[str, MaskShape | None] = {"whole": None, "mask": medical_mask, "hand": hand}
EVAL_SEED = 31
FALSE_ACCEPTS = 0.001
#: The threshold that is proposed lets this share of the strangers' pairs through, at most.
STRANGERS_ACCEPTED = 0.0001


@dataclass(frozen=True)
class Pairs:
    """Cosines of pairs of pictures: of one person, and of two."""

    same: np.ndarray
    other: np.ndarray

    def accepted_at(self, false_accepts: float) -> float:
        """Share of the same-person pairs above the threshold that so many others pass."""
        return float((self.same > np.quantile(self.other, 1 - false_accepts)).mean())

    def equal_error(self) -> float:
        """The error rate where as many of the same are refused as of the others accepted."""
        thresholds = np.quantile(self.other, np.linspace(0.5, 1, 2001))
        refused = np.searchsorted(np.sort(self.same), thresholds) / len(self.same)
        accepted = 1 - np.searchsorted(np.sort(self.other), thresholds, side="right") / len(self.other)
        nearest = int(np.abs(refused - accepted).argmin())
        return float((refused[nearest] + accepted[nearest]) / 2)


def figures(embed: Embed, data: Path, out: Path | None = None) -> dict[str, float]:
    """Equal error and share accepted at 0.1 % false accepts, ours and the teacher's, and a threshold.

    The threshold comes from people of the training split who were not trained on; what it does to the people of the
    evaluation split is measured.
    """
    del out  # there is nothing to look at
    evaluated = FaceSet(data, "eval")
    people = [index for indices in evaluated.people.values() for index in indices]
    judge = third_party(data)

    def judged(face: Image, mask: Image) -> np.ndarray:
        emptied = face.copy()
        emptied[mask > 0] = 127
        return judge([emptied])[0]

    ours = pairs_by_cover(embed, evaluated, people)
    found = {**_table(ours, ""), **_table(pairs_by_cover(judged, evaluated, people), "teacher_")}
    trained = FaceSet(data, "train")
    chosen = [index for name in sorted(held_out_people(trained)) for index in trained.people[name]]
    calibration = pairs_by_cover(embed, trained, chosen)
    found["threshold"] = max(float(np.quantile(p.other, 1 - STRANGERS_ACCEPTED)) for p in calibration.values())
    for name, pairs in ours.items():
        found[f"{name}_accepted_at_threshold"] = float((pairs.same > found["threshold"]).mean())
        found[f"{name}_strangers_at_threshold"] = float((pairs.other > found["threshold"]).mean())
    return found


def pairs_by_cover(embed: Embed, faces: FaceSet, indices: list[int]) -> dict[str, Pairs]:
    """Every picture with each of HIDDEN_BY, against every other whole picture."""
    names = np.array([faces.rows[index].identity for index in indices])
    same = names[:, None] == names[None]
    apart = ~np.eye(len(indices), dtype=bool)
    vectors = {}
    for name, shape in HIDDEN_BY.items():
        vectors[name] = np.stack([embed(faces.image(index), cover(faces, index, shape)) for index in indices])
    cosines = {name: vectors[name] @ vectors["whole"].T for name in HIDDEN_BY}
    return {name: Pairs(found[same & apart], found[~same]) for name, found in cosines.items()}


def cover(faces: FaceSet, index: int, shape: MaskShape | None) -> Image:
    """The mask of `shape` on a picture, the same at every call; a little grown, as the product's masks are."""
    if shape is None:
        return np.zeros((CROP_PX, CROP_PX), np.uint8)
    mask = shape(faces.rows[index].landmarks, np.random.default_rng([EVAL_SEED, index]))
    return np.asarray(cv2.dilate(mask, np.ones((9, 9), np.uint8)), np.uint8)


def _table(by_cover: Mapping[str, Pairs], prefix: str) -> dict[str, float]:
    found = {}
    for name, pairs in by_cover.items():
        found[f"{prefix}{name}_equal_error"] = pairs.equal_error()
        found[f"{prefix}{name}_accepted"] = pairs.accepted_at(FALSE_ACCEPTS)
    return found
