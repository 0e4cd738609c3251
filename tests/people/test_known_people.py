"""The whole of recognising, with the network that ships and real faces: pairs of people enroll and take turns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from engines.contract import CROP_PX, Image
from occlufix_vcam.assembly import open_embedder
from occlufix_vcam.core.frame import Crop, FaceTrack
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.people.person import EnrolledView, Person
from occlufix_vcam.stages.identify import Embedder, FaceIdentifier, vectors
from train.data.face_set import FaceSet, valid_mask
from train.occlusion.masks import medical_mask

SWAPS, FRAMES = 20, 6  # of each pair of people, and frames of each
WHOLE = np.zeros((CROP_PX, CROP_PX), np.uint8)


@pytest.fixture(scope="module")
def embed() -> Embedder:
    return open_embedder(EngineSet(Settings()))


@pytest.fixture(scope="module")
def faces(data: Path) -> FaceSet:
    return FaceSet(data, "eval", keep=True)


def enrolled(name: str, pictures: Sequence[int], faces: FaceSet, embed: Embedder) -> Person:
    views = [EnrolledView(faces.image(i), valid_mask(faces.rows[i]), faces.rows[i].landmarks) for i in pictures]
    return Person(name, vectors(views, embed), views, embed.model)


def crop(faces: FaceSet, index: int, rng: np.random.Generator) -> Crop:
    """The picture with a camera's noise, in other light from frame to frame."""
    noisy = faces.image(index) * rng.uniform(0.97, 1.03) + rng.normal(0, 3, (CROP_PX, CROP_PX, 3))
    face = FaceTrack(1, faces.rows[index].landmarks, 1.0)
    return Crop.of_template(face, noisy.clip(0, 255).astype(np.uint8), np.eye(2, 3, dtype=np.float32))


def take_turns(
    pair: tuple[str, str], faces: FaceSet, embed: Embedder, rng: np.random.Generator, masked: float
) -> tuple[int, int, int]:
    """Turns at which the other one was named (in any frame), at which nobody was in the end, and how many there were.

    Both appear in one track, one right after the other: the hardest case. Half of the pictures are enrolled.
    """
    pictures = {name: rng.permutation(faces.people[name]) for name in pair}
    people = [enrolled(name, pictures[name][: len(pictures[name]) // 2], faces, embed) for name in pair]
    known = FaceIdentifier(lambda: people, embed)
    mixed = missed = 0
    for _ in range(SWAPS):
        name = pair[int(rng.integers(2))]
        index = int(rng.choice(pictures[name][len(pictures[name]) // 2 :]))
        mask: Image = medical_mask(faces.rows[index].landmarks, rng) if rng.random() < masked else WHOLE
        said = [known.identify(1, crop(faces, index, rng), mask) for _ in range(FRAMES)]
        mixed += any(person is not None and person.name != name for person in said)
        missed += said[-1] is None
    return mixed, missed, SWAPS


def test_two_people_take_turns_over_200_times_without_one_mix(faces: FaceSet, embed: Embedder) -> None:
    """Eleven pairs of people on photographs of different years; half of the turns behind a mask."""
    rng = np.random.default_rng(0)
    names = sorted(name for name, indices in faces.people.items() if len(indices) >= 6)
    pairs = zip(names[::2], names[1::2], strict=False)
    rounds = [take_turns(pair, faces, embed, rng, masked=0.5) for pair in pairs]
    mixed, missed, turns = (sum(each) for each in zip(*rounds, strict=True))
    assert turns >= 200
    assert mixed == 0
    assert missed < 0.75 * turns


def test_a_stranger_is_nobody_with_and_without_a_mask(faces: FaceSet, embed: Embedder) -> None:
    rng = np.random.default_rng(1)
    names = sorted(name for name, indices in faces.people.items() if len(indices) >= 6)
    people = [enrolled(name, faces.people[name], faces, embed) for name in names[:2]]
    known = FaceIdentifier(lambda: people, embed)
    for name in names[2:]:
        for index in faces.people[name][:3]:
            for mask in (WHOLE, medical_mask(faces.rows[index].landmarks, rng)):
                assert all(known.identify(1, crop(faces, index, rng), mask) is None for _ in range(4))
