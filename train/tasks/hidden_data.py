"""What the segmenter is shown, and measured on: faces in the wide field, badly aligned and lit as a live one may be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from engines.contract import CROP_PX, HIDDEN, WIDE_PX, Image, Points, transform_points
from train.data.face_set import FaceSet, mirror_landmarks
from train.data.photographs import Photograph
from train.data.portraits import aligned_portrait, surrounded
from train.occlusion.camera import relight, webcam, wide_misalignment
from train.occlusion.occluders import Occluders

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
    """A face in the wide field, the mask of what hides it, and 255 where both mean something."""

    face: Image
    mask: Image
    valid: Image


def composite_view(portrait: Photograph, rng: np.random.Generator, size: int, hide: Hide) -> SegmentationSample:
    """A portrait as a wide field of `size` pixels may show it: misaligned, in any light, hidden by `hide`."""
    matrix = wide_misalignment(rng, size)
    landmarks = transform_points(portrait.landmarks, matrix)
    image = cv2.warpAffine(portrait.image, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
    valid = cv2.warpAffine(portrait.valid, matrix, (size, size), flags=cv2.INTER_NEAREST)
    if rng.random() < 0.5:
        image, valid = (np.ascontiguousarray(plane[:, ::-1]) for plane in (image, valid))
        landmarks = mirror_landmarks(landmarks, size)
    image, mask = hide(image, landmarks, rng)
    return SegmentationSample(webcam(relight(image, rng), rng), mask, valid)


class EvalComposites:
    """Aligned faces of the evaluation that nothing else hides, in the wide field; only their template is valid."""

    def __init__(self, data: Path) -> None:
        self._faces = FaceSet(data, "eval")
        self._occluders = Occluders(data, "eval")

    def fixed(self, names: list[str], count: int) -> Iterator[SegmentationSample]:
        """The same composites at every call."""
        for number in range(count):
            rng = np.random.default_rng([EVAL_SEED, number])
            index = int(rng.integers(len(self._faces)))
            while self._faces.rows[index].file in COVERED:
                index = int(rng.integers(len(self._faces)))
            portrait = aligned_portrait(self._faces.rows[index], self._faces.image(index))
            yield composite_view(portrait, rng, WIDE_PX, self._hide_by(names))

    def clean(self) -> Iterator[SegmentationSample]:
        """The photographs as they are."""
        for index, row in enumerate(self._faces.rows):
            if row.file not in COVERED:
                portrait = aligned_portrait(row, self._faces.image(index))
                yield SegmentationSample(portrait.image, portrait.mask, portrait.valid)

    def _hide_by(self, names: list[str]) -> Hide:
        return lambda image, landmarks, rng: self._occluders.occlude(image, landmarks, rng, names)


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
        planes = (surrounded(each, cv2.BORDER_CONSTANT) for each in (cv2.compare(mask, 127, cv2.CMP_GT), valid))
        yield SegmentationSample(surrounded(image), *planes), known
