"""What the segmenter is shown: faces with occluders in front, as badly aligned and lit as a live crop may be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from engines.contract import CROP_PX, HIDDEN, Image, Points, transform_points
from train.data.face_set import FaceRow, FaceSet, FaceSource, mirror_landmarks, valid_mask
from train.data.open_faces import open_faces
from train.occlusion.camera import misalignment, relight, webcam
from train.occlusion.occluders import WORN, Occluders, random_names

CLEAN_SHARE = 0.4
EVAL_SEED = 23
#: Photographs of the evaluation set in which a hand, a phone or a cloth hides the face already (all were looked at):
#: what is composited there is not all that hides it, so they can't tell how well that is seen.
COVERED = frozenset(
    {
        "cfp/cfp462_03.webp",
        "cfp/cfp478_08.webp",
        "cfp/cfp480_01.webp",
        "cfp/cfp495_05.webp",
        "ciplab_real/real_00017.webp",
        "ciplab_real/real_00037.webp",
        "ciplab_real/real_00047.webp",
        "ciplab_real/real_00118.webp",
        "ciplab_real/real_00671.webp",
        "ciplab_real/real_00677.webp",
        "ciplab_real/real_00732.webp",
        "ciplab_real/real_00762.webp",
        "ciplab_real/real_00802.webp",
        "ciplab_real/real_01011.webp",
        "ref_identity/dmd00075_8.webp",
        "ref_identity/dmd00086_4.webp",
    }
)


Hide = Callable[[Image, Points, np.random.Generator], tuple[Image, Image]]
"""A picture with its landmarks to the same with something before the face, and the mask of what that hides."""


@dataclass(frozen=True, slots=True)
class SegmentationSample:
    """A crop, the mask of what hides the face in it, and 255 where both mean something."""

    face: Image
    mask: Image
    valid: Image


class CompositeSamples:
    """Faces of a split with its occluders in front."""

    def __init__(self, data: Path, split: Literal["train", "eval"]) -> None:
        self._data, self._split = data, split
        self._faces: FaceSource | None = None
        self._occluders = Occluders(data, split)

    def random(self, rng: np.random.Generator, size: int, hide: Hide | None = None) -> SegmentationSample:
        """As the live crop may look: badly aligned, in any light, from any camera.

        Hidden by `hide`, without it by random occluders or, two in five, by nothing.
        """
        if self._faces is None:
            self._faces = open_faces(self._data) if self._split == "train" else FaceSet(self._data, self._split)
        drawn = self._faces.draw(rng)
        return self._make(drawn.row, drawn.image, rng, size, hide or self._hide_by(_random_names(rng)))

    def fixed(self, names: list[str], count: int) -> Iterator[SegmentationSample]:
        """The same composites at every call, at 256 px, on faces that nothing else hides."""
        faces = FaceSet(self._data, self._split)
        for number in range(count):
            rng = np.random.default_rng([EVAL_SEED, number])
            index = int(rng.integers(len(faces)))
            while faces.rows[index].file in COVERED:
                index = int(rng.integers(len(faces)))
            yield self._make(faces.rows[index], faces.image(index), rng, CROP_PX, self._hide_by(names))

    def clean(self) -> Iterator[SegmentationSample]:
        """The photographs as they are, of faces that nothing hides."""
        faces = FaceSet(self._data, self._split)
        for index, row in enumerate(faces.rows):
            if row.file in COVERED:
                continue
            yield SegmentationSample(faces.image(index), np.zeros((CROP_PX, CROP_PX), np.uint8), valid_mask(row))

    def _hide_by(self, names: list[str]) -> Hide:
        return lambda image, landmarks, rng: self._occluders.occlude(image, landmarks, rng, names)

    def _make(self, row: FaceRow, image: Image, rng: np.random.Generator, size: int, hide: Hide) -> SegmentationSample:
        valid, landmarks = valid_mask(row), row.landmarks
        if rng.random() < 0.5:
            image, valid = image[:, ::-1], valid[:, ::-1]
            landmarks = mirror_landmarks(landmarks)
        matrix = misalignment(rng, size)
        image = cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
        valid = cv2.warpAffine(valid, matrix, (size, size), flags=cv2.INTER_NEAREST)
        image, mask = hide(image, transform_points(landmarks, matrix), rng)
        return SegmentationSample(webcam(relight(image, rng), rng), mask, valid)


def _random_names(rng: np.random.Generator) -> list[str]:
    """Names of occluders; two times in five none, or something that is worn."""
    if rng.random() >= CLEAN_SHARE:
        return random_names(rng)
    return [str(rng.choice(list(WORN)))] if rng.random() < 0.5 else []


def real_masks(data: Path) -> Iterator[tuple[SegmentationSample, bool]]:
    """Photographs of people in masks, and whether there is a rough mask to compare with."""
    folder = data / "occluded_real"
    with (folder / "index.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for row in sorted(rows, key=lambda row: str(row["file"])):
        image = cv2.imread(str(folder / row["file"]))
        silver = folder / "silver_masks" / (Path(row["file"]).stem + ".png")
        known = silver.is_file()
        mask = cv2.imread(str(silver), cv2.IMREAD_GRAYSCALE) if known else np.zeros((CROP_PX, CROP_PX), np.uint8)
        valid = np.zeros((CROP_PX, CROP_PX), np.uint8)
        cv2.fillConvexPoly(valid, np.round(row["valid_quad"]).astype(np.int32), HIDDEN)
        yield SegmentationSample(image, cv2.compare(mask, 127, cv2.CMP_GT), valid), known
