"""Wide pictures: the face template with hair, neck, shoulders and background around it, at the same scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from engines.contract import TEMPLATE_PART, WIDE_OFFSET, WIDE_PX, Image, Points
from train.data.face_set import FaceRow, PictureSet

#: Where the template's corner lies in a wide picture: x, y.
CORNER: Points = np.array(WIDE_OFFSET, np.float32)


class WideSet(PictureSet):
    """Wide 416x416 pictures of the split `train`, `dev` or `eval`; several of each person.

    `rows` are in wide pixels, `row(index)` in those of the template; there the quad often reaches far beyond the crop.
    """

    def __init__(self, data: Path, split: str, keep: bool = False) -> None:
        folder = data / "wide"
        index = folder / ("eval.jsonl" if split == "eval" else "train.jsonl")
        super().__init__(folder, index, WIDE_PX, split, keep)

    def wide(self, index: int) -> Image:
        """416x416x3 uint8 BGR."""
        return self.image(index)

    def face(self, index: int) -> Image:
        """The template's part: 256x256x3 uint8 BGR."""
        return template_part(self.image(index))

    def row(self, index: int) -> FaceRow:
        """The row with landmarks and quad in pixels of the template."""
        row = self.rows[index]
        return replace(row, landmarks=row.landmarks - CORNER, valid_quad=row.valid_quad - CORNER)


class TemplateFaces:
    """Wide pictures as the evaluation takes its faces: pictures and rows of the template."""

    def __init__(self, wide: WideSet) -> None:
        self.rows = [wide.row(index) for index in range(len(wide))]
        self.people = wide.people
        self.image = wide.face
        self.sibling = wide.sibling


def template_part(wide: Image) -> Image:
    """The 256x256 template of a wide picture or mask, as an array of its own."""
    return np.ascontiguousarray(wide[TEMPLATE_PART])
