"""Covered faces for the face finder: what it is shown of photographs and portraits, and how it is measured on them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.contract import TEMPLATE, WIDE_OFFSET, WIDE_PX, Image
from engines.faces_maps import Detection, template_box
from tests.train.photographed import LANDMARKS, RED, THING, WHOLE, photographed
from train.evaluation.faces import covered_figures
from train.tasks import faces_data
from train.tasks.faces import targets
from train.tasks.faces_covered import SIDE_PX, CoveredFaces
from train.tasks.faces_data import TrainingPictures


def finder_off_by(x: float, y: float, sure: bool = True):
    """Finds the face of each drawn photograph with its landmarks off by so many pixels of the template."""

    def find(image: Image) -> list[Detection]:
        points = (np.array(LANDMARKS, np.float32) + [x, y]) * image.shape[0] / WIDE_PX
        return [Detection(0.9, template_box(points.astype(np.float32)), points.astype(np.float32), sure)]

    return find


def write_portrait(data: Path) -> None:
    (data / "wide").mkdir()
    cv2.imwrite(str(data / "wide" / "0.png"), photographed(1))
    facts = {"file": "0.png", "identity": None, "origin": "drawn", "landmarks": LANDMARKS, "valid_quad": WHOLE}
    (data / "wide" / "train.jsonl").write_text(json.dumps(facts))


def test_a_photograph_comes_at_half_its_size_with_its_landmarks(photographed_data: Path) -> None:
    covered, rng = CoveredFaces(photographed_data), np.random.default_rng(0)
    half = (TEMPLATE + WIDE_OFFSET + 0.5) / 2 - 0.5
    turns = set()
    for _ in range(12):
        field = covered.draw(rng, is_photograph=True)
        assert field is not None and field.image.shape == (SIDE_PX, SIDE_PX, 3)
        mirrored = half[[1, 0, 2, 4, 3]] * [-1, 1] + [SIDE_PX - 1, 0]
        is_mirrored = bool(np.allclose(field.landmarks, mirrored, atol=0.01))
        assert is_mirrored or np.allclose(field.landmarks, half, atol=0.01)
        x, y = (THING[0] + THING[2]) // 4, (THING[1] + THING[3]) // 4
        assert np.abs(field.image[y, SIDE_PX - 1 - x if is_mirrored else x].astype(int) - RED).max() < 10
        turns.add(is_mirrored)
    assert turns == {False, True}


def test_a_portrait_mostly_gets_something_before_it(photographed_data: Path) -> None:
    write_portrait(photographed_data)
    covered, bare = CoveredFaces(photographed_data), cv2.resize(photographed(1), (SIDE_PX, SIDE_PX))
    changed = []
    for seed in range(20):
        field = covered.draw(np.random.default_rng(seed), is_photograph=False)
        assert field is not None
        changed.append(min(np.abs(field.image.astype(int) - each).max() for each in (bare, bare[:, ::-1])) > 90)
    assert 10 <= sum(changed) < 20


def test_data_without_photographs_and_portraits_still_has_things_to_cover_with(small_data: Path) -> None:
    covered, rng = CoveredFaces(small_data), np.random.default_rng(0)
    assert covered.draw(rng, is_photograph=True) is None and covered.draw(rng, is_photograph=False) is None
    picture = np.full((192, 192, 3), 120, np.uint8)
    assert any((covered.cover(picture, TEMPLATE * 0.6, rng) != picture).any() for _ in range(4))


def test_beside_the_one_face_that_is_known_nothing_counts(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces_data, "VIEW_SHARES", (0, 0, 0, 0, 0.5, 0.5))
    pictures, rng = TrainingPictures(data, 192), np.random.default_rng(2)
    seen = 0
    for _ in range(16):
        image, labels = pictures.draw(rng)
        assert image.shape == (192, 192, 3) and len(labels.landmarks) == 1
        asked = targets(labels, 192)
        x, y = (labels.landmarks[0].mean(axis=0) // 8).astype(int)
        if 0 <= x < 24 and 0 <= y < 24:
            seen += 1
            assert asked["heat"].max() == 1 and asked["counts"][0, y, x] == 1 and asked["box_share"].sum() == 0
        box = labels.boxes[0].clip(0, 192)
        assert asked["counts"].sum() <= (box[2] - box[0] + 24) * (box[3] - box[1] + 24) / 64
    assert seen >= 12


def test_landmarks_of_covered_photographs_are_measured_in_template_pixels(photographed_data: Path) -> None:
    finders = {"near": finder_off_by(3, 4), "far": finder_off_by(0, 20, sure=False), "none": lambda image: []}
    found = covered_figures(finders, photographed_data, {name: [] for name in finders})
    for name in ("things", "masks_worn"):  # the second lies in a scene twice as large
        near, far, none = (found[finder] for finder in finders)
        assert near[f"{name}_faces"] == 1 and near[f"{name}_found"] == near[f"{name}_sure"] == 1
        assert near[f"{name}_px"] == pytest.approx(5, abs=0.01) and near[f"{name}_far"] == 0
        assert far[f"{name}_px_p90"] == pytest.approx(20, abs=0.01) and far[f"{name}_far"] == 1
        assert far[f"{name}_found"] == 1 and far[f"{name}_sure"] == 0
        assert none[f"{name}_found"] == 0
