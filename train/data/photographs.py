"""Photographs of people whose faces really are hidden, with masks drawn by eye, in a field wider than the template.

Two sets, each in a folder of its own with an index: `things` (hands, cups, phones, microphones, food before a face, and
hard negatives: the same things beside one) and `masks_worn` (people who wear face masks; the pictures are cut out of
larger scenes). A mask worn at the chin is marked like one that covers the mouth: all of it, or it would be torn in two.

The wide field has the template's scale with more around it: hair, neck, shoulders, and the arm of a hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from engines.contract import HIDDEN, WIDE_PX, Affine, Image, Points
from train.data.face_set import DataError

#: How much of what is drawn each set is.
SET_SHARES = {"things": 0.65, "masks_worn": 0.35}
#: How often a photograph is drawn, by the skin's tone: there are few of dark skin.
TONE_WEIGHTS = {"light": 1.0, "brown": 1.6, "dark": 2.4}
#: The same of photographs in which nothing hides the face, though a hand or a thing is near.
NEGATIVE_WEIGHT = 1.5
#: So far from the edge of what was photographed a pixel counts.
_MARGIN_PX = 2

Split = Literal["train", "dev"]


@dataclass(frozen=True, slots=True)
class Photograph:
    """A picture of the wide field, the mask of what hides the face, 255 where there was a photograph, landmarks."""

    image: Image
    mask: Image
    valid: Image
    landmarks: Points


@dataclass(frozen=True, slots=True)
class PhotographRow:
    """Where a photograph lies; `matrix` takes its picture to the wide field, None where it is there already.

    A hard negative is not `is_covered`: its mask is empty. `is_at_chin`: a mask that leaves mouth and nose free.
    """

    name: str
    picture: Path
    mask: Path
    matrix: Affine | None
    landmarks: Points
    valid_quad: Points
    tone: str
    is_covered: bool
    is_at_chin: bool


class PhotographSet:
    """One set of one split. A picture is read when it is first needed, then kept (0.9 MB each).

    Raises DataError for what is missing or broken.
    """

    def __init__(self, data: Path, name: str, split: Split) -> None:
        folder = data / name
        with (folder / f"{name}.jsonl").open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        self.rows = [_row_of(row, folder) for row in rows if row["split"] == split]
        if not self.rows:
            raise DataError(f"{folder} has no photographs of `{split}`")
        weights = np.array([_weight(row) for row in self.rows])
        self._chances = np.cumsum(weights / weights.sum())
        self._kept: dict[int, Photograph] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Photograph:
        if index not in self._kept:
            self._kept[index] = _read(self.rows[index])
        return self._kept[index]

    def draw(self, rng: np.random.Generator) -> Photograph:
        """A random photograph, tones as TONE_WEIGHTS has them."""
        return self[min(int(np.searchsorted(self._chances, rng.random())), len(self) - 1)]


class Photographs:
    """All sets of a split that the data folder has; it may have none."""

    def __init__(self, data: Path, split: Split) -> None:
        present = [name for name in SET_SHARES if (data / name / f"{name}.jsonl").is_file()]
        self.sets = {name: PhotographSet(data, name, split) for name in present}

    def __bool__(self) -> bool:
        return bool(self.sets)

    def draw(self, rng: np.random.Generator) -> Photograph:
        """A random photograph, sets as SET_SHARES has them."""
        shares = np.array([SET_SHARES[name] for name in self.sets])
        return self.sets[str(rng.choice(list(self.sets), p=shares / shares.sum()))].draw(rng)


def _weight(row: PhotographRow) -> float:
    return TONE_WEIGHTS.get(row.tone, 1.0) * (1.0 if row.is_covered else NEGATIVE_WEIGHT)


def _row_of(line: Mapping[str, Any], folder: Path) -> PhotographRow:
    picture = str(line["scene"] if "scene" in line else line["file"])
    return PhotographRow(
        name=Path(picture).stem,
        picture=folder / picture,
        mask=folder / line["mask"],
        matrix=np.array(line["matrix"], np.float32) if "matrix" in line else None,
        landmarks=np.array(line["landmarks"], np.float32),
        valid_quad=np.array(line["valid_quad"], np.float32),
        tone=str(line.get("tone", "")),
        is_covered=line.get("thing") != "none",
        is_at_chin=line.get("worn") == "chin",
    )


def _read(row: PhotographRow) -> Photograph:
    image, mask = _decoded(row.picture, cv2.IMREAD_COLOR), _decoded(row.mask, cv2.IMREAD_GRAYSCALE)
    wide = (WIDE_PX, WIDE_PX)
    if row.matrix is not None:
        image = cv2.warpAffine(image, row.matrix, wide, borderMode=cv2.BORDER_REPLICATE)
    for path, picture in ((row.picture, image), (row.mask, mask)):
        if picture.shape[:2] != wide:
            raise DataError(f"{path} is no {WIDE_PX}x{WIDE_PX} picture")
    return Photograph(image, cv2.compare(mask, 127, cv2.CMP_GT), valid_area(row.valid_quad), row.landmarks)


def valid_area(quad: Points) -> Image:
    """255 in the wide field where a photograph with that quad was, without its outermost pixels."""
    valid = np.zeros((WIDE_PX, WIDE_PX), np.uint8)
    cv2.fillConvexPoly(valid, np.round(quad).astype(np.int32), HIDDEN)
    side = 2 * _MARGIN_PX + 1
    return np.asarray(cv2.erode(valid, np.ones((side, side), np.uint8), borderType=cv2.BORDER_REPLICATE), np.uint8)


def _decoded(path: Path, flags: int) -> Image:
    try:
        picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), flags)
    except (OSError, cv2.error):  # an empty file is an error, a broken one gives None
        picture = None
    if picture is None:
        raise DataError(f"{path} is no picture that can be read")
    return picture
