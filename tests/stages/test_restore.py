"""The restorer feeds the contract's inputs, shows memory where it fits, holds still, and knows when to leave it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE
from occlufix_vcam.core.frame import Crop, FaceTrack, HiddenCrop, Patch
from occlufix_vcam.stages.motion import IDENTITY
from occlufix_vcam.stages.reference import NO_REFERENCE, Reference
from occlufix_vcam.stages.restore import NEWEST, Restorer, TemporalSmoother


class Negative:
    """Gives the face's negative in one array that every run overwrites, and keeps what it was fed."""

    backend = device = precision = "fake"
    inputs = outputs = passed_over = ()

    def __init__(self) -> None:
        self._restored = np.zeros((1, CROP_PX, CROP_PX, 3), np.uint8)
        self.runs = 0

    def run(self, feeds):
        self.fed = dict(feeds)
        self.runs += 1
        np.subtract(255, feeds["face"], out=self._restored)
        return {"restored": self._restored}

    def close(self) -> None: ...


def hidden_crop(value: int, coverage: float = 0.4, track_id: int = 1) -> HiddenCrop:
    image = np.full((CROP_PX, CROP_PX, 3), value, np.uint8)
    crop = Crop.of_template(FaceTrack(track_id, TEMPLATE, 1.0), image, np.eye(2, 3, dtype=np.float32))
    return HiddenCrop.of_template(crop, np.full((CROP_PX, CROP_PX), 255, np.uint8), coverage)


def remembered(value: int, confidence: int, motion=None) -> Reference:
    """A memory of one grey level, trusted the same everywhere."""
    shape = (CROP_PX, CROP_PX)
    return Reference(
        np.full((*shape, 3), value, np.uint8),
        np.full(shape, 255, np.uint8),
        np.full(shape, confidence, np.uint8),
        motion,
    )


def test_every_door_gets_its_picture():
    engine, hidden = Negative(), hidden_crop(50)
    reference = Reference(np.full((CROP_PX, CROP_PX, 3), 9, np.uint8), np.full((CROP_PX, CROP_PX), 255, np.uint8))
    patch = Restorer(engine)(hidden, reference)
    assert {name: (array.shape, array.dtype) for name, array in engine.fed.items()} == {
        "face": ((1, CROP_PX, CROP_PX, 3), np.uint8),
        "mask": ((1, CROP_PX, CROP_PX, 1), np.uint8),
        "reference": ((1, CROP_PX, CROP_PX, 3), np.uint8),
        "reference_mask": ((1, CROP_PX, CROP_PX, 1), np.uint8),
    }
    assert all(array.flags.c_contiguous for array in engine.fed.values())
    assert (engine.fed["reference"] == 9).all() and (engine.fed["reference_mask"] == 255).all()
    assert patch.crop is hidden.crop and patch.mask is hidden.mask
    assert (patch.image == 205).all()


def test_a_patch_outlives_the_next_run():
    restore = Restorer(Negative())
    reference = Reference(np.zeros((CROP_PX, CROP_PX, 3), np.uint8), np.zeros((CROP_PX, CROP_PX), np.uint8))
    first = restore(hidden_crop(50), reference)
    restore(hidden_crop(90), reference)
    assert (first.image == 205).all()


@pytest.mark.parametrize(
    ("means", "confidence", "shown", "asked"),
    [
        ("auto", 255, 9, 0),  # wholly trusted: the network is not needed
        ("auto", 0, 205, 1),
        ("auto", 51, 166, 1),  # a fifth of the way from 205 to 9
        ("network", 255, 205, 1),
        ("memory", 0, 9, 0),  # whatever is valid, trusted or not
    ],
)
def test_memory_is_shown_as_far_as_it_is_trusted(means, confidence, shown, asked):
    engine = Negative()
    patch = Restorer(engine, means)(hidden_crop(50), remembered(9, confidence))
    assert patch is not None and engine.runs == asked
    assert np.abs(patch.image.astype(int) - shown).max() <= 1


def test_without_memory_every_means_asks_the_network():
    for means in ("auto", "network", "memory"):
        patch = Restorer(Negative(), means)(hidden_crop(50), NO_REFERENCE)
        assert patch is not None and (patch.image == 205).all()


def test_a_face_that_holds_still_changes_slowly():
    restore = Restorer(Negative())
    restore(hidden_crop(50), NO_REFERENCE)  # shows 205
    second = restore(hidden_crop(150), remembered(0, 0, IDENTITY))  # the network says 105
    assert second is not None
    assert np.abs(second.image.astype(float) - (205 + NEWEST * (105 - 205))).max() <= 1


def test_a_fast_face_and_one_that_was_lost_show_the_newest_picture():
    far = np.array([[1, 0, 30], [0, 1, 0]], np.float32)
    for motion in (far, None):
        restore = Restorer(Negative())
        restore(hidden_crop(50), NO_REFERENCE)
        second = restore(hidden_crop(150), remembered(0, 0, motion))
        assert second is not None and (second.image == 105).all()


def test_what_was_shown_moves_along_with_the_face():
    restore = Restorer(Negative())
    first = hidden_crop(50)
    first.crop.image[:, :128] = 255  # restored: 0 on the left, 205 on the right
    restore(first, NO_REFERENCE)
    right = np.array([[1, 0, 4], [0, 1, 0]], np.float32)
    second = restore(hidden_crop(50), remembered(0, 0, right))  # the network says 205 everywhere
    assert second is not None
    dark = second.image[100, :, 0] < 190
    assert dark[10:130].all() and not dark[134:].any()


def test_what_was_not_hidden_before_is_new_at_once():
    restore = Restorer(Negative())
    first = hidden_crop(50)
    first.mask[:, 128:] = 0
    restore(first, NO_REFERENCE)
    second = restore(hidden_crop(150), remembered(0, 0, IDENTITY))
    assert second is not None
    assert (second.image[:, 130:] == 105).all() and (second.image[:, :126] > 150).all()


def test_a_forgotten_track_starts_anew():
    restore = Restorer(Negative())
    restore(hidden_crop(50), NO_REFERENCE)
    restore.forget([1, 7])
    second = restore(hidden_crop(150), remembered(0, 0, IDENTITY))
    assert second is not None and (second.image == 105).all()


class TestUnsure:
    """Of a face that is nearly all hidden, and of which nothing is remembered, no other face is invented."""

    def test_passthrough_leaves_it_as_it_is(self):
        engine = Negative()
        restore = Restorer(engine, when_unsure="passthrough")
        assert restore(hidden_crop(50, coverage=0.9), NO_REFERENCE) is None
        assert restore(hidden_crop(50, coverage=0.7), NO_REFERENCE) is None  # not at every wavering of the mask
        assert engine.runs == 0
        assert restore(hidden_crop(50, coverage=0.5), NO_REFERENCE) is not None

    def test_restore_paints_it_all_the_same(self):
        patch = Restorer(Negative(), when_unsure="restore")(hidden_crop(50, coverage=0.9), NO_REFERENCE)
        assert patch is not None and (patch.image == 205).all()

    def test_hold_keeps_what_was_shown_last(self):
        restore = Restorer(Negative(), when_unsure="hold")
        assert restore(hidden_crop(50, coverage=0.9), NO_REFERENCE) is None  # nothing to hold yet
        restore(hidden_crop(50), NO_REFERENCE)
        for _ in range(3):
            patch = restore(hidden_crop(150, coverage=0.9), remembered_nothing_but(IDENTITY))
            assert patch is not None and (patch.image == 205).all()

    def test_blank_shows_squares_over_the_whole_face(self):
        hidden = hidden_crop(50, coverage=0.9)
        hidden.crop.image[:] = np.random.default_rng(0).integers(0, 255, hidden.crop.image.shape, dtype=np.uint8)
        patch = Restorer(Negative(), when_unsure="blank")(hidden, NO_REFERENCE)
        assert patch is not None
        assert len(np.unique(patch.image.reshape(-1, 3), axis=0)) <= 144
        assert (
            patch.mask[128, 128] == 255 and (patch.mask[TEMPLATE[:, 1].astype(int), TEMPLATE[:, 0].astype(int)]).all()
        )

    def test_a_remembered_face_is_restored(self):
        patch = Restorer(Negative(), when_unsure="passthrough")(hidden_crop(50, coverage=0.9), remembered(9, 255))
        assert patch is not None and (patch.image == 9).all()


def remembered_nothing_but(motion) -> Reference:
    return Reference(NO_REFERENCE.image, NO_REFERENCE.mask, None, motion)


@pytest.mark.parametrize("rate", [10, 30, 60])
def test_what_is_shown_of_a_still_face_follows_as_fast_at_any_rate(rate: int):
    steady = TemporalSmoother()

    def shown(level: int, at: float) -> int:
        hidden = hidden_crop(level)
        crop = replace(hidden.crop, face=replace(hidden.crop.face, at=at))
        picture = np.full((CROP_PX, CROP_PX, 3), level, np.uint8)
        made = steady(Patch.of_hidden(replace(hidden, crop=crop), picture), IDENTITY)
        return int(made.image[hidden.mask != 0].mean())

    shown(0, 1.0)
    levels = [shown(200, 1.0 + n / rate) for n in range(1, rate // 5 + 1)]
    assert levels[-1] == pytest.approx(200 * (1 - (1 - NEWEST) ** 6), abs=8)


def resting(hidden: HiddenCrop) -> HiddenCrop:
    return replace(hidden, may_carry=True)


def test_what_was_painted_moves_with_the_face_while_the_network_rests():
    engine = Negative()
    restore = Restorer(engine)
    sideways = np.eye(2, 3, dtype=np.float32)
    sideways[0, 2] = 1
    restore(hidden_crop(50), replace(NO_REFERENCE, motion=IDENTITY))
    ramp = np.repeat(np.arange(CROP_PX, dtype=np.uint8)[None, :, None], CROP_PX, 0).repeat(3, 2)
    restore._painted[1] = replace(restore._painted[1], image=ramp)
    restore._steady.forget([1])
    for moved in (1, 2):
        patch = restore(resting(hidden_crop(50)), replace(NO_REFERENCE, motion=sideways))
        restore._steady.forget([1])
        assert (patch.image[:, 10] == 10 - moved).all()
    assert engine.runs == 1
    restore(hidden_crop(50), replace(NO_REFERENCE, motion=sideways))
    assert engine.runs == 2


@pytest.mark.parametrize("why", ["the motion is unknown", "the hole grew", "the face left"])
def test_the_network_paints_what_it_cannot_carry(why: str):
    engine = Negative()
    restore = Restorer(engine)
    small = np.zeros((CROP_PX, CROP_PX), np.uint8)
    small[100:200] = 255
    first = replace(hidden_crop(50), mask=small) if why == "the hole grew" else hidden_crop(50)
    restore(first, replace(NO_REFERENCE, motion=IDENTITY))
    if why == "the face left":
        restore.forget([1])
    motion = None if why == "the motion is unknown" else IDENTITY
    restore(resting(hidden_crop(50)), replace(NO_REFERENCE, motion=motion))
    assert engine.runs == 2
