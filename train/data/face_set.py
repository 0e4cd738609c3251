"""Faces to train on and to evaluate with, all in the template of engines/contract.py.

A set lies in a folder: `train/index.jsonl` with pictures in zip or tar shards, `eval/index.jsonl` with pictures in such
shards or beside it. What `python -m train data` prepared is read as a stream to train with (train/data/shards.py).
Each line gives `file`, `landmarks` (5x2), `identity` (or null), `origin` and `valid_quad`: the part of the crop that
was inside the photograph. What lies outside is smeared edge and must count in no loss and in no figure.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from engines.contract import CROP_PX, Image, Points
from train.data.dev_set import in_dev_set
from train.shared_memory import SharedRows

#: Mirroring swaps the eyes and the mouth corners: the first is always the one further left in the picture.
_MIRRORED = [1, 0, 2, 4, 3]
#: Share of each origin in what the restorer sees; the soft utk is sampled less than it is there.
ORIGIN_SHARES = {"scut": 0.30, "cfp": 0.30, "utk": 0.25}


class DataError(Exception):
    """A set of faces is missing or broken; the message says what to do."""


@dataclass(frozen=True)
class FaceRow:
    """One aligned picture: where it lies, its landmarks and what part of it is real."""

    file: str
    shard: str | None
    identity: str | None
    origin: str
    landmarks: Points
    valid_quad: Points
    #: Where the picture lies in a tar shard: its first byte and how many.
    span: tuple[int, int] | None = None
    #: How far the head is turned, in eye distances of the nose from the middle; right is positive.
    yaw: float = 0.0

    @property
    def dev(self) -> bool:
        """Whether the picture is kept for choices and never trained on."""
        return in_dev_set(self.origin, self.identity, self.file)

    @property
    def age(self) -> int | None:
        """Years, where the file name tells them: AGE_GENDER_... in utk."""
        years, underscore, _ = Path(self.file).name.partition("_")
        return int(years) if self.origin == "utk" and underscore and years.isdigit() else None


@dataclass(frozen=True)
class DrawnFace:
    """A face that was drawn at random: 256x256x3 uint8 BGR; and another picture of the same person, if there is one."""

    row: FaceRow
    image: Image
    sibling: Callable[[np.random.Generator], tuple[FaceRow, Image] | None]


class FaceSource(Protocol):
    """What training draws its faces from."""

    def draw(self, rng: np.random.Generator) -> DrawnFace: ...


class PictureSet:
    """Pictures of one split and what their index says. They are read when needed; a broken one raises DataError.

    The rows of the split `train` are without the people of train/data/dev_set.py, who are `dev`; `train+dev` has both.
    With `keep` a picture is decoded once, for all worker processes, and then kept: decoding costs as much as all the
    rest.
    """

    def __init__(self, folder: Path, index: Path, side_px: int, split: str, keep: bool = False) -> None:
        self._folder, self._side_px = folder, side_px
        if not index.is_file():
            raise DataError(f"no faces in {folder}: {index.name} is missing; give the data folder with --data")
        with index.open(encoding="utf-8") as lines:
            rows = [row_of(json.loads(line)) for line in lines]
        self.rows = [row for row in rows if split not in ("train", "dev") or row.dev == (split == "dev")]
        if not self.rows:
            raise DataError(f"{index} is empty" if not rows else f"{index} has no pictures of the split `{split}`")
        self._shards: dict[str, zipfile.ZipFile] = {}
        self._kept = SharedRows(len(self.rows), (side_px, side_px, 3)) if keep else None
        people: dict[str, list[int]] = defaultdict(list)
        for index_, row in enumerate(self.rows):
            if row.identity is not None:
                people[row.identity].append(index_)
        self.people = {name: members for name, members in people.items() if len(members) > 1}

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_shards": {}}  # a zip handle can't be shared between worker processes

    def image(self, index: int) -> Image:
        """The whole picture: side x side x 3 uint8 BGR."""
        return self._kept.get(index, partial(self._decoded, index)) if self._kept else self._decoded(index)

    def _decoded(self, index: int) -> Image:
        row = self.rows[index]
        encoded = np.frombuffer(self._encoded(row), np.uint8)
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if len(encoded) else None
        if image is None or image.shape != (self._side_px, self._side_px, 3):
            raise DataError(f"{row.file} is no {self._side_px}x{self._side_px} picture")
        return image

    def encoded(self, index: int) -> bytes:
        """The picture's file, as it lies there. Raises OSError, KeyError or BadZipFile where it does not."""
        return self._encoded(self.rows[index])

    def sibling(self, index: int, rng: np.random.Generator) -> int | None:
        """Another picture of the same person, or None where there is none."""
        identity = self.rows[index].identity
        others = [other for other in self.people.get(identity or "", []) if other != index]
        return int(rng.choice(others)) if others else None

    def _encoded(self, row: FaceRow) -> bytes:
        if row.shard is None:
            return (self._folder / row.file).read_bytes()
        if row.span is not None:
            with (self._folder / row.shard).open("rb") as shard:
                shard.seek(row.span[0])
                return shard.read(row.span[1])
        if row.shard not in self._shards:
            self._shards[row.shard] = zipfile.ZipFile(self._folder / row.shard)
        return self._shards[row.shard].read(row.file)


class FaceSet(PictureSet):
    """Aligned 256x256 faces of one split: a folder of its own, or `dev`, which is in the folder `train`."""

    def __init__(self, data: Path, split: str, keep: bool = False) -> None:
        folder = data / ("train" if split in ("dev", "train+dev") else split)
        super().__init__(folder, folder / "index.jsonl", CROP_PX, split, keep)
        self._cumulated: np.ndarray | None = None

    def origin_weights(self) -> np.ndarray:
        """Probability of each row such that origins have their ORIGIN_SHARES, the others what is left."""
        counts = Counter(row.origin for row in self.rows)
        shares = origin_shares(counts)
        weights = np.array([shares[row.origin] / counts[row.origin] for row in self.rows])
        return weights / weights.sum()

    def draw(self, rng: np.random.Generator) -> DrawnFace:
        """A random face, origins as `origin_weights` has them."""
        if self._cumulated is None:
            self._cumulated = np.cumsum(self.origin_weights())
        index = int(np.searchsorted(self._cumulated, rng.random() * self._cumulated[-1]))

        def another(rng: np.random.Generator) -> tuple[FaceRow, Image] | None:
            other = self.sibling(index, rng)
            return None if other is None else (self.rows[other], self.image(other))

        return DrawnFace(self.rows[index], self.image(index), another)


def origin_shares(counts: Mapping[str, int]) -> dict[str, float]:
    """How much of what is drawn each origin should be: ORIGIN_SHARES, and the others by their size what is left."""
    shares = {origin: ORIGIN_SHARES[origin] for origin in counts if origin in ORIGIN_SHARES}
    rest = sum(count for origin, count in counts.items() if origin not in shares)
    left = max(1.0 - sum(ORIGIN_SHARES.values()), 0.01)
    return shares | {origin: left * count / rest for origin, count in counts.items() if origin not in shares}


def row_of(line: Mapping[str, Any]) -> FaceRow:
    """A line of an index, or the facts of a shard's face."""
    return FaceRow(
        file=str(line["file"]),
        shard=str(line["shard"]) if line.get("shard") else None,
        identity=str(line["identity"]) if line.get("identity") else None,
        origin=str(line["origin"]),
        landmarks=np.array(line["landmarks"], np.float32),
        valid_quad=np.array(line["valid_quad"], np.float32),
        yaw=float(line.get("yaw", 0.0)),
        span=(int(line["offset"]), int(line["bytes"])) if "offset" in line else None,
    )


def valid_mask(row: FaceRow, margin_px: int = 2) -> Image:
    """256x256 uint8: 255 where the crop shows the photograph, 0 where it shows smeared edges."""
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    cv2.fillConvexPoly(mask, np.round(row.valid_quad).astype(np.int32), 255)
    if margin_px:
        size = 2 * margin_px + 1
        # Pixels beyond the crop are not known to be smeared: only a quad's edge inside the crop is cut back.
        mask = cv2.erode(mask, np.ones((size, size), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return mask


def typology_angle(image: Image, skin: Image) -> float:
    """Individual typology angle of the skin's median colour, degrees: above 41 light, below 10 dark; 90 without skin.

    `skin` is a mask like `image`. Source: A. Chardon et al., "Skin colour typology and suntanning pathways", 1991.
    """
    pixels = image[skin > 0][None]
    if not pixels.size:
        return 90.0
    colours = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_BGR2LAB)[0]
    lightness, _, yellow = np.median(colours, axis=0)
    return math.degrees(math.atan2(lightness - 50, max(yellow, 1e-3)))


def mirror_landmarks(landmarks: Points, side_px: int = CROP_PX) -> Points:
    """The five landmarks (...x5x2) of the mirrored picture, `side_px` wide."""
    points = landmarks[..., _MIRRORED, :].copy()
    points[..., 0] = side_px - 1 - points[..., 0]
    return points
