"""Figures of face embeddings, on whole and partly hidden faces of held-out people, beside the teacher's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

from engines.contract import CROP_PX, Image
from train.data.face_set import FaceSet
from train.evaluation.report import EvalReport, column_report
from train.evaluation.runners import in_turn
from train.occlusion.masks import MaskShape, hand, medical_mask
from train.onnx_runner import Runner
from train.tasks.embed_data import held_out_people, third_party

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


def evaluate(
    runners: Mapping[str, Runner],
    data: Path,
    out: Path | None = None,
    limit: int | None = None,
    threads: int = 2,
    console: Console | None = None,
) -> EvalReport:
    """Equal error and share accepted at 0.1 % false accepts, and a threshold, beside the teacher.

    The threshold comes from people of the training split who were not trained on, each enrolled with half of his
    pictures; what it does to the people of the evaluation split, enrolled likewise, is measured. `limit` people each.
    """
    del out  # there is nothing to look at
    evaluated, trained = FaceSet(data, "eval"), FaceSet(data, "train+dev")
    known, held_out = sorted(evaluated.people)[:limit], sorted(held_out_people(trained))[:limit]
    embeds = {name: _embed(run) for name, run in runners.items()} | {"teacher": _third_party(data)}
    found: dict[str, dict[str, float]] = {}
    for name, embed in in_turn(embeds, threads, console):
        vectors, names = vectors_by_cover(embed, evaluated, known)
        chosen = enrolled(*vectors_by_cover(embed, trained, held_out))
        found[name] = table(vectors, names, chosen)
    return column_report("embed", found)


def _embed(run: Runner) -> Embed:
    return lambda face, mask: run({"face": face[None], "mask": mask[None, ..., None]})["embedding"][0]


def _third_party(data: Path) -> Embed:
    teach = third_party(data)

    def embed(face: Image, mask: Image) -> np.ndarray:
        emptied = face.copy()
        emptied[mask > 0] = 127
        return np.asarray(teach([emptied])[0])

    return embed


def table(vectors: Mapping[str, np.ndarray], names: np.ndarray, chosen: Mapping[str, Pairs]) -> dict[str, float]:
    """The figures of one network; `chosen` are the scores that the threshold comes from."""
    found = {}
    for name, pairs in pairs_by_cover(vectors, names).items():
        found[f"{name}_equal_error"] = pairs.equal_error()
        found[f"{name}_accepted"] = pairs.accepted_at(FALSE_ACCEPTS)
    found["threshold"] = max(float(np.quantile(p.other, 1 - STRANGERS_ACCEPTED)) for p in chosen.values())
    for name, pairs in enrolled(vectors, names).items():
        found[f"enrolled_{name}_accepted"] = float((pairs.same > found["threshold"]).mean())
        found[f"enrolled_{name}_strangers"] = float((pairs.other > found["threshold"]).mean())
    return found


def vectors_by_cover(embed: Embed, faces: FaceSet, people: list[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The vectors of all pictures of `people` with each of HIDDEN_BY, and whose they are."""
    indices = [index for name in people for index in faces.people[name]]
    vectors = {
        name: np.stack([embed(faces.image(index), cover(faces, index, shape)) for index in indices])
        for name, shape in HIDDEN_BY.items()
    }
    return vectors, np.array([faces.rows[index].identity for index in indices])


def pairs_by_cover(vectors: Mapping[str, np.ndarray], names: np.ndarray) -> dict[str, Pairs]:
    """Every picture, covered, against every other whole picture."""
    same, apart = names[:, None] == names[None], ~np.eye(len(names), dtype=bool)
    cosines = {name: covered @ vectors["whole"].T for name, covered in vectors.items()}
    return {name: Pairs(found[same & apart], found[~same]) for name, found in cosines.items()}


def enrolled(vectors: Mapping[str, np.ndarray], names: np.ndarray) -> dict[str, Pairs]:
    """Each person enrolled with the first half of his pictures; the others and all strangers, covered, against that.

    A score is the mean of the two best cosines, as in the product's stages/identify.py.
    """
    halves = {name: np.flatnonzero(names == name) for name in sorted(set(names))}
    found = {}
    for cover_name, covered in vectors.items():
        same, other = [], []
        for name, own in halves.items():
            kept = own[: len(own) // 2]
            score = np.sort(covered @ vectors["whole"][kept].T, axis=1)[:, -2:].mean(axis=1)
            same.append(score[own[len(own) // 2 :]])
            other.append(score[names != name])
        found[cover_name] = Pairs(np.concatenate(same), np.concatenate(other))
    return found


def cover(faces: FaceSet, index: int, shape: MaskShape | None) -> Image:
    """The mask of `shape` on a picture, the same at every call; a little grown, as the product's masks are."""
    if shape is None:
        return np.zeros((CROP_PX, CROP_PX), np.uint8)
    mask = shape(faces.rows[index].landmarks, np.random.default_rng([EVAL_SEED, index]))
    return np.asarray(cv2.dilate(mask, np.ones((9, 9), np.uint8)), np.uint8)
