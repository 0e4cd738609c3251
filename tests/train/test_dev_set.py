"""The dev set: 150 people whom nothing is trained on, the same ones on every machine."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE, WIDE_PX
from train.data.dev_set import in_dev_set
from train.data.face_set import DataError, FaceSet
from train.data.open_faces import open_faces
from train.data.wide import CORNER, WideSet

PEOPLE = [f"cfp{number:03d}" for number in range(40)]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of each of 40 people, as aligned faces and as wide pictures."""
    data = tmp_path_factory.mktemp("people")
    for folder, index, side, corner in (("train", "index", CROP_PX, 0), ("wide", "train", WIDE_PX, CORNER)):
        (data / folder).mkdir()
        lines = []
        for number, name in enumerate(PEOPLE * 2):
            grey = np.full((side, side, 3), number, np.uint8)
            grey[: side // 4] = 255
            cv2.imwrite(str(data / folder / f"{number}.png"), grey)
            row = {"file": f"{number}.png", "identity": name, "origin": "cfp", "yaw": 0.1}
            row |= {"landmarks": (TEMPLATE + corner).tolist(), "valid_quad": [[0, 0], [416, 0], [416, 416], [0, 416]]}
            lines.append(json.dumps(row))
        (data / folder / f"{index}.jsonl").write_text("\n".join(lines))
    return data


@pytest.mark.parametrize("pictures", [FaceSet, WideSet])
def test_training_and_dev_share_nobody_and_leave_out_nobody(people: Path, pictures: type) -> None:
    trained, dev, both = (
        {row.identity for row in pictures(people, split).rows} for split in ("train", "dev", "train+dev")
    )
    assert dev and trained and not dev & trained
    assert dev | trained == both == set(PEOPLE)


def test_training_never_draws_a_dev_person(people: Path) -> None:
    faces, rng = open_faces(people), np.random.default_rng(0)
    for _ in range(300):
        drawn = faces.draw(rng)
        another = drawn.sibling(rng)
        assert another is not None and another[0].identity == drawn.row.identity
        assert not drawn.row.dev


def test_a_split_without_pictures_says_so(small_data: Path) -> None:
    with pytest.raises(DataError, match="no pictures of the split `dev`"):
        FaceSet(small_data, "dev")


def test_150_people_are_kept_and_enough_are_left(data: Path) -> None:
    faces, wide = ([c(data, split) for split in ("dev", "train")] for c in (FaceSet, WideSet))
    kept, left = ({row.identity for one in pair for row in one.rows} - {None} for pair in zip(faces, wide, strict=True))
    assert len(kept) == 150 and len(left) == 547
    assert len(faces[1]) > 13_900 and len(wide[1]) > 2_000


def test_who_is_kept_depends_on_the_name_alone() -> None:
    assert in_dev_set("cfp", "cfp111", "any.png") and in_dev_set("cfp", "cfp111", "other.png")
    assert not in_dev_set("celeba_wild", "p086", "any.png")
    assert not in_dev_set("somebody's pictures", "cfp111", "any.png"), "other data has its own held-out people"


def test_the_template_is_a_part_of_a_wide_picture(people: Path) -> None:
    wide = WideSet(people, "train")
    assert wide.wide(0).shape == (WIDE_PX, WIDE_PX, 3) and wide.face(0).shape == (CROP_PX, CROP_PX, 3)
    assert np.array_equal(wide.face(0)[:, 0], wide.wide(0)[56:312, 80])
    assert np.allclose(wide.row(0).landmarks, TEMPLATE, atol=1e-4)
    assert wide.row(0).valid_quad[0].tolist() == [-80, -56] and wide.row(0).yaw == 0.1


def test_ages_are_told_by_the_names_of_utk_alone(data: Path) -> None:
    ages = {row.origin: row.age for row in FaceSet(data, "dev").rows}
    assert ages["utk"] is not None and ages["cfp"] is None
