"""What the restorer is served: the thing and its rest in the picture, a mask that is nearly right, a clean truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from engines.contract import CROP_PX, HIDDEN, TEMPLATE, WIDE_PX, Image
from train.config import RECIPES
from train.data import product_mask
from train.data.dev_set import in_dev_set
from train.data.face_set import DataError
from train.data.mixed import Bare, WideFaces, open_mixed
from train.data.shipped_segmenter import ShippedSegmenter
from train.data.wide import CORNER
from train.occlusion import camera, served_views
from train.occlusion.compositing import FaceGeometry
from train.occlusion.hands import HOLDING_CHANCE
from train.occlusion.masks import hidden_share
from train.occlusion.occluders import OCCLUDERS
from train.occlusion.photo_cutouts import Cutouts
from train.occlusion.photographed_hands import PhotographedHands
from train.tasks.restore import RestoreTask


@pytest.fixture(scope="module")
def views(small_data: Path) -> served_views.ServedViews:
    return served_views.ServedViews(small_data)


@pytest.fixture
def still_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    for chance in ("SOFT_CHANCE", "NOISE_CHANCE", "JPEG_CHANCE"):
        monkeypatch.setattr(camera, chance, 0.0)


def face(seed: int = 3) -> Image:
    noise = np.random.default_rng(seed).integers(40, 220, (CROP_PX, CROP_PX, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


def drawn_views(views: served_views.ServedViews, count: int) -> list[served_views.ServedView]:
    return [views.draw(face(), TEMPLATE, np.random.default_rng(seed)) for seed in range(count)]


def disc(radius: int = 40) -> Image:
    return cv2.circle(np.zeros((CROP_PX, CROP_PX), np.uint8), (128, 150), radius, HIDDEN, -1)


def test_most_samples_show_the_thing_itself(views: served_views.ServedViews) -> None:
    shares = [not np.array_equal(view.shown, view.truth) for view in drawn_views(views, 120)]
    assert 0.55 < np.mean(shares) < 0.85


@pytest.mark.usefixtures("still_camera")
def test_the_truth_is_the_face_without_the_thing_and_the_rest_of_it_is_marked(views: served_views.ServedViews) -> None:
    rests = []
    for view in drawn_views(views, 40):
        assert np.array_equal(view.truth, face())
        known = view.clean > 0
        assert (cv2.absdiff(view.shown, view.truth)[known] <= served_views.VISIBLE_LEVELS).all()
        assert view.hole.any() and set(np.unique(view.hole)) <= {0, HIDDEN}
        rests.append((~known & (view.hole == 0)).sum())
    assert np.mean(np.array(rests) > 50) > 0.3, "a shadow, a rim or an arm is often left in the picture"


def test_one_camera_takes_both_pictures(views: served_views.ServedViews) -> None:
    noisy = 0
    for view in drawn_views(views, 60):
        noisy += np.abs(view.truth.astype(int) - face()).mean() > 1
        known = view.clean > 0
        assert (cv2.absdiff(view.shown, view.truth)[known] <= served_views.VISIBLE_LEVELS).all()
    assert noisy > 10


def test_a_mask_is_grown_by_up_to_eight_pixels() -> None:
    mask, growths = disc(), []
    away = cv2.distanceTransform(cv2.bitwise_not(mask), cv2.DIST_L2, 5)
    for seed in range(60):
        hole = served_views.unevenly_grown(mask, np.random.default_rng(seed))
        assert (hole[mask > 0] == HIDDEN).all()
        assert away[hole > 0].max() <= served_views.MOST_GROWTH_PX + 0.5
        growths.append(np.sqrt((hole > 0).sum() / np.pi) - 40)
    assert 4.5 < np.mean(growths) < 6.5 and np.std(growths) > 1


def test_a_mask_has_a_segmenters_mistakes() -> None:
    mask, missed, extra = disc(), [], []
    for seed in range(200):
        seen = served_views.mistaken(mask, np.random.default_rng(seed))
        missed.append(((seen == 0) & (mask > 0)).sum() / (mask > 0).sum())
        extra.append(((seen > 0) & (mask == 0)).sum() / (mask > 0).sum())
    assert max(missed) < 0.6 and max(extra) < 0.6
    assert 0.2 < np.mean(np.array(missed) > 0.03) < 0.5
    assert 0.1 < np.mean(np.array(extra) > 0.03) < 0.3


def test_thin_things_are_missed_at_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_views, "MISSED_THIN_CHANCE", 1.0)
    monkeypatch.setattr(served_views, "BITES_CHANCE", 0.0)
    monkeypatch.setattr(served_views, "EXTRA_CHANCE", 0.0)
    mask = cv2.line(disc(), (10, 10), (128, 150), HIDDEN, 3)
    seen = served_views.mistaken(mask, np.random.default_rng(0))
    assert not seen[:60, :60].any() and seen[150, 128]


def test_a_share_has_the_segmenters_own_answer(
    views: served_views.ServedViews, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Image] = []

    def mask(_: ShippedSegmenter, picture: Image) -> Image:
        asked.append(picture)
        return disc()

    monkeypatch.setattr(ShippedSegmenter, "mask", mask)
    holes = [view.hole for view in drawn_views(views, 100)]
    assert 5 <= len(asked) <= 30
    assert sum(np.array_equal(hole, product_mask.grown(disc())) for hole in holes) == len(asked)


def test_without_occluders_every_sample_is_a_hole_in_a_clean_face(tmp_path: Path) -> None:
    for view in drawn_views(served_views.ServedViews(tmp_path), 20):
        assert np.array_equal(view.shown, view.truth) and view.clean.all() and view.hole.any()


def test_a_share_leaves_little_of_a_clean_face(small_data: Path) -> None:
    drawn = drawn_views(served_views.ServedViews(small_data, much_hidden=0.5), 60)
    much = [view for view in drawn if hidden_share(view.hole) >= 0.6 and view.clean.all()]
    assert 18 <= len(much) <= 42
    assert all(np.array_equal(view.shown, view.truth) for view in much)


def test_the_same_generator_state_gives_the_same_sample(small_data: Path) -> None:
    task, again = (RestoreTask(RECIPES["restore", "debug"], small_data) for _ in range(2))
    for seed in range(12):
        one, two = task.sample(np.random.default_rng(seed)), again.sample(np.random.default_rng(seed))
        assert all(np.array_equal(one[name], two[name]) for name in one)


def test_what_is_left_of_the_thing_beside_its_hole_counts_in_no_loss(
    small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"perceptual": 0.0, "style": 0.0, "adv_patch": 0.0, "adv_global": 0.0}
    task = RestoreTask(RECIPES["restore", "debug"].but(weights=weights), small_data)
    side = RECIPES["restore", "debug"].size_px
    hole, clean = torch.zeros(2, 1, side, side), torch.ones(2, 1, side, side)
    hole[..., 20:50, 34:60], clean[..., 15:55, 30:62] = 1, 0
    rest = ((1 - hole) * (1 - clean)).expand(2, 3, side, side)
    pictures = torch.randint(60, 200, (3, 2, 3, side, side), generator=torch.Generator().manual_seed(2)).float()
    batch = dict(zip(("face", "truth", "reference"), pictures, strict=True)) | {
        "hole": hole,
        "clean": clean,
        "valid": torch.ones_like(hole),
        "reference_mask": torch.zeros_like(hole),
        "frontal": torch.ones(2),
    }
    made = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))

    def lost(shown: torch.Tensor, **changed: torch.Tensor) -> dict[str, float]:
        def generate(*_: Any) -> torch.Tensor:
            return shown.clone().requires_grad_()

        monkeypatch.setattr(task, "_generate", generate)
        return {name: float(value) for name, value in task.train_step(batch | changed, 0.5).items()}

    before = lost(made)
    assert {"l1", "tv", "histogram", "symmetry"} <= before.keys() and before["symmetry"] > 0
    assert lost(made + 0.3 * rest) == before  # what the network paints there
    assert lost(made, face=batch["face"] + 50 * rest) == before  # what it is shown there
    assert lost(made + 0.3 * clean)["l1"] > before["l1"]


@pytest.fixture(scope="module")
def company(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small data with wide pictures of 20 people, three of each, some of the dev set."""
    data = tmp_path_factory.mktemp("company")
    for name in ("train", "occluders"):
        (data / name).symlink_to(small_data / name)
    (data / "wide").mkdir()
    lines = []
    for number in range(60):
        cv2.imwrite(str(data / "wide" / f"{number}.png"), np.full((WIDE_PX, WIDE_PX, 3), number, np.uint8))
        row = {"file": f"{number}.png", "identity": f"p{number // 3:03d}", "origin": "celeba_wild"}
        row |= {"landmarks": (TEMPLATE + CORNER).tolist(), "valid_quad": [[0, 0], [416, 0], [416, 416], [0, 416]]}
        lines.append(json.dumps(row))
    (data / "wide" / "train.jsonl").write_text("\n".join(lines))
    return data


def is_odd(image: Image) -> bool:
    return bool(image[0, 0, 0] % 2)


def test_wide_faces_of_training_people_that_nothing_hides_are_drawn_too(company: Path) -> None:
    faces, rng = Bare(WideFaces(company), is_odd), np.random.default_rng(0)
    assert any(in_dev_set("celeba_wild", f"p{number // 3:03d}", "") for number in range(60))
    seen = [faces.draw(rng) for _ in range(150)]
    assert not any(one.row.dev for one in seen) and len({one.row.identity for one in seen}) > 10
    assert all(one.image.shape == (CROP_PX, CROP_PX, 3) and is_odd(one.image) for one in seen)
    siblings = [(one, sibling) for one in seen if (sibling := one.sibling(rng)) is not None]
    assert all(row.identity == one.row.identity and is_odd(image) for one, (row, image) in siblings)
    assert 10 < len(siblings) < 150


def test_a_set_that_something_hides_is_refused(company: Path) -> None:
    with pytest.raises(DataError, match="something hides nearly all faces"):
        Bare(WideFaces(company), lambda image: False).draw(np.random.default_rng(0))


def test_both_sets_are_mixed_where_there_are_two(company: Path, small_data: Path) -> None:
    mixed, rng = open_mixed(company, lambda image: True), np.random.default_rng(1)
    drawn = [mixed.draw(rng).row for _ in range(200)]
    assert not any(row.dev for row in drawn)
    assert 0.1 < np.mean([row.origin == "celeba_wild" for row in drawn]) < 0.4
    alone = open_mixed(small_data, lambda image: False)
    assert {alone.draw(rng).row.origin for _ in range(20)} == {"drawn"}


@pytest.fixture(scope="module")
def hands(tmp_path_factory: pytest.TempPathFactory) -> PhotographedHands:
    """Hands of the training whose arm leaves at each edge, two that hold something, one of the evaluation."""
    folder = tmp_path_factory.mktemp("hands")
    lines = []
    for edge, kind, split in (
        *((edge, "fist", "train") for edge in ("right", "left", "top", "bottom")),
        ("left", "holding:phone", "train"),
        ("bottom", "holding:mug", "train"),
        ("bottom", "palm", "eval"),
    ):
        picture = np.zeros((120, 120, 4), np.uint8)
        picture[..., :3] = (90, 120, 180)
        alpha = cv2.circle(np.zeros((120, 120), np.uint8), (60, 60), 40, 255, -1)
        ends = {"right": (119, 60), "left": (0, 60), "top": (60, 0), "bottom": (60, 119)}
        picture[..., 3] = cv2.line(alpha, (60, 60), ends[edge], 255, 30)
        name = f"{edge}_{kind.replace(':', '_')}_{split}.png"
        if split == "train":  # one that is read all the same fails
            cv2.imwrite(str(folder / name), picture)
        lines.append(json.dumps({"file": name, "kind": kind, "leaves": edge, "split": split}))
    (folder / "more.jsonl").write_text("\n".join(lines))
    return PhotographedHands(folder)


@pytest.mark.parametrize("kind", ["hand", "holding"])
def test_every_hand_goes_on_into_an_arm_that_leaves_the_picture(hands: PhotographedHands, kind: str) -> None:
    scene = FaceGeometry(CROP_PX, TEMPLATE, face())
    for seed in range(60):
        alpha = np.max([layer.alpha for layer in getattr(hands, kind)(scene, np.random.default_rng(seed))], axis=0)
        edges = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        assert (edges > 200).sum() > 8
        parts, _ = cv2.connectedComponents((alpha > 127).astype(np.uint8))
        assert parts == 2, "hand and arm are one"
        assert 0.02 < (alpha > 127).mean() < 0.75


def test_without_a_folder_of_hands_there_are_none(tmp_path: Path, hands: PhotographedHands) -> None:
    assert hands and not PhotographedHands(tmp_path)


def test_the_hands_to_evaluate_with_have_no_photographs_of_the_training(small_data: Path) -> None:
    assert Cutouts(small_data, "eval").photographed is None
    assert not Cutouts(small_data, "train").photographed


def test_the_segmenter_is_shown_photographed_hands_too(hands: PhotographedHands, small_data: Path) -> None:
    cutouts = Cutouts(small_data, "train")
    cutouts.photographed = hands
    shown = []
    for seed in range(60):
        layers = OCCLUDERS["hand"][0](cutouts, FaceGeometry(CROP_PX, TEMPLATE, face()), np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        rng.random()
        draw = hands.holding if rng.random() < HOLDING_CHANCE else hands.hand
        same = draw(FaceGeometry(CROP_PX, TEMPLATE, face()), rng)
        shown.append(all(np.array_equal(a.alpha, b.alpha) for a, b in zip(layers, same, strict=False)))
    assert 0.3 < np.mean(shown) < 0.7
