"""What the occluders promise: the mask says where the face is hidden, and the same seed draws the same picture."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.contract import TEMPLATE, Image
from train.data.face_set import DataError
from train.occlusion import compositing
from train.occlusion.occluders import OCCLUDERS, WORN, Occluders, random_names


@pytest.fixture(scope="module")
def occluders(small_data: Path) -> Occluders:
    return Occluders(small_data, "train")


def noise(size: int = 256) -> Image:
    """A picture that nothing drawn looks like."""
    return np.random.default_rng(3).integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", OCCLUDERS)
@pytest.mark.parametrize("size", [128, 256])
def test_the_mask_covers_what_changed(occluders: Occluders, name: str, size: int) -> None:
    image, landmarks = noise(size), TEMPLATE * (size / 256)
    for seed in range(12):
        shown, mask = occluders.occlude(image, landmarks, np.random.default_rng(seed), [name])
        assert shown.shape == image.shape and shown.dtype == np.uint8
        assert mask.shape == image.shape[:2] and set(np.unique(mask)) <= {0, 255}
        inside = cv2.erode(mask, np.ones((3, 3), np.uint8)) > 0
        changed = cv2.absdiff(shown, image).max(axis=2) > 8
        assert mask.any()
        assert not inside.any() or changed[inside].mean() > 0.85
        if name != "headset":  # its ear cups are the wearer's own
            outside = cv2.dilate(mask, np.ones((13, 13), np.uint8)) == 0  # a moving edge is wide
            assert (shown[outside] <= image[outside].astype(int) + 1).all(), "only a shadow may fall beside it"


@pytest.mark.parametrize("name", WORN)
def test_what_is_worn_is_marked_where_it_is_asked_for(occluders: Occluders, name: str) -> None:
    image = noise()
    for seed in range(6):
        shown, mask = occluders.occlude(image, TEMPLATE, np.random.default_rng(seed), [name], worn_hides=True)
        unmarked, nothing = occluders.occlude(image, TEMPLATE, np.random.default_rng(seed), [name])
        assert np.array_equal(shown, unmarked) and not nothing.any()
        assert mask.any()
        inside = cv2.erode(mask, np.ones((3, 3), np.uint8)) > 0
        outside = cv2.dilate(mask, np.ones((13, 13), np.uint8)) == 0
        changed = cv2.absdiff(shown, image).max(axis=2) > 8
        assert not inside.any() or changed[inside].mean() > 0.85
        # The thin end of a strand that moves is seen, but too faint to hide anything.
        assert (shown[outside] <= image[outside].astype(int) + 1).mean() > 0.995


def test_a_moving_thing_has_a_soft_edge_and_stays_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.full((256, 256, 3), 200, np.uint8)
    layer = compositing.Layer(np.zeros_like(image), cv2.rectangle(image[..., 0] * 0, (80, 90), (180, 190), 255, -1))
    ramps = {}
    for chance in (0.0, 1.0):
        monkeypatch.setattr(compositing, "_MOVES_CHANCE", chance)
        masks, found = np.zeros((40, 256, 256), np.uint8), []
        for seed in range(40):
            scene = compositing.FaceGeometry(256, TEMPLATE, image)
            shown = compositing.composite(image, layer, scene, np.random.default_rng(seed), masks[seed])
            found.append(((shown[140, :, 0] > 20) & (shown[140, :, 0] < 120)).sum())
            assert abs(int((masks[seed] > 0).sum()) - 101 * 101) < 101 * 12
        ramps[chance] = np.mean(found)
    assert ramps[1.0] > 1.5 * ramps[0.0]


def test_a_cut_out_is_made_as_soft_as_the_picture() -> None:
    soft, sharp = (cv2.GaussianBlur(noise(), (0, 0), sigma) for sigma in (8, 0.5))
    assert compositing.FaceGeometry(256, TEMPLATE, soft).softness > 0.8
    assert compositing.FaceGeometry(256, TEMPLATE, sharp).softness == 0


@pytest.mark.parametrize("name", WORN)
def test_what_is_worn_is_drawn_and_not_marked(occluders: Occluders, name: str) -> None:
    image = noise()
    shown, mask = occluders.occlude(image, TEMPLATE, np.random.default_rng(1), [name])
    assert not mask.any()
    assert (shown != image).any(axis=2).mean() > 0.01


def test_the_ear_cups_of_a_headset_are_not_marked_but_its_boom_is(occluders: Occluders) -> None:
    image, shares = noise(), []
    for seed in range(20):
        shown, mask = occluders.occlude(image, TEMPLATE, np.random.default_rng(seed), ["headset"])
        brighter = (shown > image.astype(int) + 20).any(axis=2)
        shares.append((brighter & (mask == 0)).mean())
        assert 0 < (mask > 0).mean() < 0.12
    assert max(shares) > 0.01


def test_the_same_seed_draws_the_same(occluders: Occluders) -> None:
    for seed in range(8):
        first, second = (occluders.occlude(noise(), TEMPLATE, np.random.default_rng(seed)) for _ in range(2))
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    other, _ = occluders.occlude(noise(), TEMPLATE, np.random.default_rng(99))
    assert not np.array_equal(other, first[0])


def test_the_picture_given_is_left_alone(occluders: Occluders) -> None:
    image = noise()
    kept = image.copy()
    occluders.occlude(image, TEMPLATE, np.random.default_rng(0), ["medical_mask", "hand"])
    assert np.array_equal(image, kept)


def test_a_medical_mask_covers_the_mouth_and_leaves_the_eyes(occluders: Occluders) -> None:
    mouth, eyes = 0, 0
    for seed in range(40):
        _, mask = occluders.occlude(noise(), TEMPLATE, np.random.default_rng(seed), ["medical_mask"])
        mouth += mask[195, 128] > 0
        eyes += (mask[105, 90] > 0) + (mask[105, 166] > 0)
    assert mouth >= 38
    assert eyes <= 4


def test_a_mask_follows_the_face(occluders: Occluders) -> None:
    small = (TEMPLATE * 0.5 + (100, 20)).astype(np.float32)
    _, mask = occluders.occlude(noise(), small, np.random.default_rng(0), ["medical_mask"])
    x, y, width, height = cv2.boundingRect(mask)
    assert 100 < x + width / 2 < 228 and 60 < y + height / 2 < 150
    assert width < 128


def test_every_kind_is_drawn_at_times() -> None:
    rng = np.random.default_rng(0)
    seen = {name for _ in range(600) for name in random_names(rng)}
    assert seen == {*OCCLUDERS, *WORN}


def test_missing_cutouts_are_named(small_data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="occluders"):
        Occluders(tmp_path, "train")
    shutil.copytree(small_data / "occluders", tmp_path / "occluders")
    shutil.rmtree(tmp_path / "occluders" / "train" / "hand")
    with pytest.raises(DataError, match="hands"):
        Occluders(tmp_path, "train")
