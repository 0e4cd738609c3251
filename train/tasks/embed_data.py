"""What `embed` learns from: faces with parts hidden, and the vectors that the teacher gave the whole faces."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from engines.contract import CROP_PX, TEMPLATE, Image
from train.data.face_set import FaceSet
from train.data.wide import TemplateFaces, WideSet
from train.networks.backbones import Embedding
from train.occlusion.camera import misalignment, relight, webcam
from train.occlusion.masks import random_mask

#: The teacher's vectors of all photographs: worked out once, minutes of work.
CACHE = Path("runs") / "embed-teacher.npz"
#: Every so manieth person with several pictures is left for choosing the threshold.
HELD_OUT_EVERY = 10
HIDDEN_SHARE = 0.55
#: How often a face is of wide pictures: eleven of each person, in all kinds of light and of poses.
WIDE_SHARE = 0.3
#: Pictures are kept at this side: more than the network looks at, and a quarter of the memory.
KEPT_PX = 160
#: How much of a person's mean there is in the vector that his picture is to get.
MEAN_SHARE = 0.5

Teacher = Callable[[Iterable[Image]], np.ndarray]
"""256x256x3 BGR crops to nx128 unit vectors."""
_BATCH = 16


@dataclass(frozen=True, slots=True)
class EmbedSample:
    """A face of `size`, 255 where it is hidden, the vector it is to get, and whose it is: a row of `people`."""

    face: Image
    mask: Image
    vector: np.ndarray
    person: int


class _Faces:
    """Aligned faces and, where there are any, the face's part of wide pictures; chances as they are to be drawn."""

    def __init__(self, data: Path) -> None:
        self._aligned = FaceSet(data, "train+dev")  # of all, so that the same people are held out as ever
        self._wide = TemplateFaces(WideSet(data, "train")) if (data / "wide").is_dir() else None
        self.rows = [*self._aligned.rows, *(self._wide.rows if self._wide else [])]
        self.held_out = held_out_people(self._aligned)
        self.chances = self._aligned.origin_weights()
        if self._wide:
            wide = np.full(len(self._wide.rows), WIDE_SHARE / len(self._wide.rows))
            self.chances = np.concatenate([(1 - WIDE_SHARE) * self.chances, wide])

    def image(self, index: int) -> Image:
        """256x256x3 uint8 BGR."""
        beyond = index - len(self._aligned)
        return self._wide.image(beyond) if self._wide and beyond >= 0 else self._aligned.image(index)


class EmbedSamples:
    """Photographs of the training split, but for held-out people and those of the dev set."""

    def __init__(self, data: Path, teacher: Teacher | None = None, cache: Path = CACHE) -> None:
        self._faces = _Faces(data)
        rows, held_out = self._faces.rows, self._faces.held_out
        self._indices = [index for index, row in enumerate(rows) if not (row.dev or row.identity in held_out)]
        self._cumulated = np.cumsum(self._faces.chances[self._indices])
        self._kept: dict[int, Image] = {}
        taught = self._taught(teacher or third_party(data), cache)
        self._person, self.people = _people([rows[index].identity for index in self._indices], taught)
        self._targets = unit((1 - MEAN_SHARE) * taught + MEAN_SHARE * self.people[self._person])

    def random(self, rng: np.random.Generator, size: int) -> EmbedSample:
        """Badly aligned, in any light, from any camera, often with a part hidden."""
        place = int(np.searchsorted(self._cumulated, rng.random() * self._cumulated[-1]))
        index = self._indices[place]
        mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
        if rng.random() < HIDDEN_SHARE:
            mask = random_mask(self._faces.rows[index].landmarks, rng)
        face, seen_mask = _as_seen(self._image(index), mask, rng, size)
        return EmbedSample(face, seen_mask, self._targets[place], int(self._person[place]))

    def _taught(self, teacher: Teacher, cache: Path) -> np.ndarray:
        """The teacher's vectors of all photographs, from `cache` where it holds just these."""
        key = hashlib.sha256("\n".join(self._faces.rows[index].file for index in self._indices).encode()).hexdigest()
        if cache.is_file():
            with np.load(cache) as content:
                if str(content["key"]) == key:
                    return np.asarray(content["vectors"])
        vectors = teacher(self._faces.image(index) for index in self._indices)
        cache.parent.mkdir(parents=True, exist_ok=True)
        part = cache.with_suffix(".part.npz")
        np.savez(part, key=key, vectors=vectors)
        part.replace(cache)
        return vectors

    def _image(self, index: int) -> Image:
        if index not in self._kept:
            side = (KEPT_PX, KEPT_PX)
            self._kept[index] = cv2.resize(self._faces.image(index), side, interpolation=cv2.INTER_AREA)
        return self._kept[index]


def third_party(data: Path) -> Teacher:
    """MobileFaceNet, trained elsewhere: it teaches and measures, and is not shipped."""
    network = Embedding(data / "weights", threads=1)

    def teach(crops: Iterable[Image]) -> np.ndarray:
        left, vectors = iter(crops), []
        while batch := list(itertools.islice(left, _BATCH)):
            vectors.append(network(np.stack(batch), [TEMPLATE] * len(batch)))
        return np.concatenate(vectors).astype(np.float32)

    return teach


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)).astype(np.float32)


def held_out_people(faces: FaceSet) -> frozenset[str]:
    """People of the training split that are not trained on: the threshold is chosen with them."""
    return frozenset(sorted(faces.people)[::HELD_OUT_EVERY])


def _people(names: Sequence[str | None], vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each picture its person, and for each person the mean vector; a picture without a name is a person."""
    known = {name: number for number, name in enumerate(dict.fromkeys(name for name in names if name))}
    person = np.empty(len(names), np.int64)
    count = len(known)
    for index, name in enumerate(names):
        if name:
            person[index] = known[name]
        else:
            person[index], count = count, count + 1
    sums = np.zeros((count, vectors.shape[1]), np.float32)
    np.add.at(sums, person, vectors)
    return person, unit(sums)


def _as_seen(image: Image, mask: Image, rng: np.random.Generator, size: int) -> tuple[Image, Image]:
    """A face of any side and its 256x256 mask, as a live crop of `size` may have them."""
    if rng.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    matrix = misalignment(rng, size)
    whole = cv2.warpAffine(mask, matrix, (size, size), flags=cv2.INTER_NEAREST)
    matrix = matrix.copy()
    matrix[:, :2] *= CROP_PX / image.shape[0]  # the picture is kept smaller than the crop
    image = cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
    if whole.any() and rng.random() < 0.5:  # what hides the face is rarely marked to the last pixel
        colour = rng.integers(0, 256, 3).tolist()
        reach = int(rng.integers(1, 3))
        image = image.copy()
        image[cv2.dilate(whole, _square(reach)) > 0] = colour
    return webcam(relight(image, rng), rng), whole


@lru_cache(maxsize=4)
def _square(reach: int) -> Image:
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
