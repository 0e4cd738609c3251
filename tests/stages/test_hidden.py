"""What is hidden appears at once, lets go slowly and never flickers; a clear face has an empty mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engines.base import TensorSpec
from engines.contract import CROP_PX, TEMPLATE, TEMPLATE_PART, WIDE_OFFSET, WIDE_PX, Image
from occlufix_vcam.core.frame import Crop, FaceTrack
from occlufix_vcam.stages.geometry import face_area, face_share
from occlufix_vcam.stages.hidden import GROWTH_PX, SURE, GivenMask, HiddenSegmenter, remove_specks


class SaidProbability:
    """An engine that says what the test set, into an array that it reuses, as real engines do."""

    backend = device = precision = "fake"
    outputs = passed_over = ()

    def __init__(self, side: int = CROP_PX) -> None:
        self.inputs = (TensorSpec("face", (1, side, side, 3), "uint8"),)
        self._output = np.zeros((1, side, side, 1), np.uint8)
        self.probability: Image = self._output[0, ..., 0]

    def run(self, feeds):
        assert feeds["face"].shape == self.inputs[0].shape and feeds["face"].dtype == np.uint8
        return {"hidden": self._output}

    def close(self) -> None: ...


@pytest.fixture
def engine():
    return SaidProbability()


def crop(track_id: int = 1, at: float = 0.0) -> Crop:
    """Times that stand still count as frames at 30 a second."""
    image = np.zeros((CROP_PX, CROP_PX, 3), np.uint8)
    return Crop.of_template(FaceTrack(track_id, TEMPLATE, 1.0, at), image, np.eye(2, 3, dtype=np.float32))


def turned_aside() -> Crop:
    turned = TEMPLATE.copy()
    turned[2, 0] -= 0.4 * (turned[1, 0] - turned[0, 0])
    return Crop.of_template(FaceTrack(1, turned, 1.0), crop().image, np.eye(2, 3, dtype=np.float32))


def box(top: int, bottom: int, left: int = 60, right: int = 196) -> tuple[slice, slice]:
    return slice(top, bottom), slice(left, right)


def test_what_is_surely_hidden_is_masked_in_its_first_frame_and_with_a_margin(engine):
    see = HiddenSegmenter(engine)
    see(crop())
    engine.probability[box(150, 220)] = 255
    hidden = see(crop())
    rows, columns = np.nonzero(hidden.mask)
    assert (rows.min(), rows.max()) == (150 - GROWTH_PX, 219 + GROWTH_PX)
    assert (columns.min(), columns.max()) == (60 - GROWTH_PX, 195 + GROWTH_PX)
    assert set(np.unique(hidden.mask)) == {0, 255}
    assert hidden.coverage == pytest.approx((face_area()[box(150, 220)] > 0).sum() / (face_area() > 0).sum(), abs=1e-6)


def test_the_mask_lets_go_within_a_fifth_of_a_second(engine):
    see = HiddenSegmenter(engine)
    engine.probability[box(150, 220)] = 255
    see(crop())
    engine.probability[:] = 0
    masks = [see(crop()).mask.any() for _ in range(6)]
    assert masks[0], "one clear frame alone does not uncover"
    assert not masks[-1]


@pytest.mark.parametrize("rate", [5, 10, 15, 24, 30, 60, 120])
def test_the_mask_lets_go_within_a_tenth_of_a_second_at_any_rate(engine, rate: int):
    see = HiddenSegmenter(engine)
    engine.probability[box(150, 220)] = 255
    see(crop())
    engine.probability[:] = 0
    times = [n / rate for n in range(rate)]
    assert max((at for at in times if see(crop(at=at + 1 / rate)).mask.any()), default=0.0) <= 0.1


def test_background_beside_the_far_cheek_of_a_turned_face_hides_nothing(engine):
    see = HiddenSegmenter(engine)
    engine.probability[box(60, 230, 30, 75)] = SURE - 1
    aside = turned_aside()
    assert not any(see(aside).mask.any() for _ in range(5))
    engine.probability[box(150, 230, 60, 196)] = 255  # a hand on the mouth is one all the same
    assert see(aside).mask.any()


def test_a_thing_that_is_sure_hides_a_face_also_beside_its_far_cheek(engine):
    see = HiddenSegmenter(engine)
    engine.probability[box(60, 230, 30, 75)] = SURE
    assert see(turned_aside()).mask.any()


def test_a_face_seen_mirrored_too_gets_the_mean_of_both(engine):
    see = HiddenSegmenter(engine, mirrored=True)
    engine.probability[box(150, 220, 60, 120)] = 250  # whatever it is shown: once on the left, once on the right
    assert not see(crop()).mask.any(), "half sure on either side"
    engine.probability[box(150, 220, 60, 196)] = 255
    assert see(crop()).mask.any()


@pytest.mark.parametrize(
    ("options", "probability", "top", "counts"),
    [
        ({"mirrored": True}, 255, 230, True),
        ({"mirrored": True, "min_coverage": 0.05}, 255, 230, False),
        ({}, 255, 230, False),
        ({"mirrored": True}, SURE - 2, 230, False),
        ({"mirrored": True}, 255, 252, False),
    ],
)
def test_in_a_picture_a_sure_thing_at_the_jaw_counts_that_hides_next_to_nothing(options, probability, top, counts):
    engine = SaidProbability(WIDE_PX)
    left, above = WIDE_OFFSET
    engine.probability[above + top : above + 330, left + 98 : left + 158] = probability
    hidden = HiddenSegmenter(engine, **options)(crop())
    assert hidden.wide_mask.any() == counts
    assert hidden.coverage < 0.02


def test_a_probability_around_the_threshold_does_not_flicker(engine):
    see = HiddenSegmenter(engine)
    engine.probability[box(150, 220)] = 200
    see(crop())
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(60):
        engine.probability[box(150, 220)] = 127 + rng.integers(-30, 31)
        masks.append(see(crop()).mask.copy())
    assert all(np.array_equal(mask, masks[0]) for mask in masks)


def test_a_doubt_below_the_threshold_never_shows(engine):
    see = HiddenSegmenter(engine)
    engine.probability[:] = 110
    assert not any(see(crop()).mask.any() for _ in range(20))


def test_coverage_has_hysteresis_too(engine):
    """A small occluder that grows and shrinks around the limit is either restored or left alone."""
    see = HiddenSegmenter(engine, min_coverage=0.05)
    pixels = int((face_area() > 0).sum())
    restored = []
    for share in (0.03, 0.045, 0.06, 0.045, 0.03, 0.045, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.045):
        engine.probability[:] = 0
        engine.probability[100 : 100 + round(share * pixels / 100), 78:178] = 255
        restored.append(see(crop()).coverage > 0)
    assert restored[:7] == [False, False, True, True, True, True, True]
    assert restored[-2:] == [False, False]


def test_a_clear_face_has_an_empty_mask_and_no_coverage(engine):
    hidden = HiddenSegmenter(engine)(crop())
    assert hidden.coverage == 0 and not hidden.mask.any()


def test_what_is_far_from_the_face_is_left_in_the_picture(engine):
    """A hand that holds a cup to the mouth is restored where it hides the face, not as far as the crop reaches."""
    engine.probability[box(150, 256, 60, 256)] = 255
    mask = HiddenSegmenter(engine)(crop()).mask
    assert mask[160:230, 70:190].all()
    assert not mask[235:, 235:].any()


def test_a_network_of_the_template_marks_nothing_beyond_it(engine):
    engine.probability[box(150, 220)] = 255
    hidden = HiddenSegmenter(engine)(crop())
    assert np.array_equal(hidden.wide_mask[TEMPLATE_PART], hidden.mask) and hidden.mask.any()
    assert cv2.countNonZero(hidden.wide_mask) == cv2.countNonZero(hidden.mask)


def test_in_the_wide_field_a_thing_is_marked_wholly_if_it_hides_some_of_the_face():
    """The arm of the hand before the mouth belongs to it; a cup on the table hides nothing of the face."""
    engine = SaidProbability(WIDE_PX)
    engine.probability[206:416, 150:270] = 255
    engine.probability[340:400, 20:80] = 255
    hidden = HiddenSegmenter(engine)(crop())
    assert hidden.wide_mask[206:416, 150:270].all() and not hidden.wide_mask[:, :100].any()
    assert np.array_equal(hidden.wide_mask[TEMPLATE_PART], hidden.mask)
    assert hidden.coverage == face_share(engine.probability[TEMPLATE_PART])


def test_a_given_mask_counts_beyond_the_template_too():
    mask = np.zeros((720, 1280), np.uint8)
    mask[300:700, 600:680] = 255
    to_crop = np.array([[1, 0, -512], [0, 1, -200]], np.float32)
    hidden = GivenMask(mask)(Crop.of_template(FaceTrack(1, TEMPLATE, 1.0), crop().image, to_crop))
    left, top = 600 - 512 + WIDE_OFFSET[0], 300 - 200 + WIDE_OFFSET[1]
    expected = np.zeros((WIDE_PX, WIDE_PX), np.uint8)
    expected[top:, left : left + 80] = 255
    assert np.array_equal(hidden.wide_mask, expected)
    assert np.array_equal(hidden.mask, expected[TEMPLATE_PART])


def test_specks_are_the_networks_doubt(engine):
    see = HiddenSegmenter(engine, min_coverage=0.0)
    engine.probability[100:105, 100:105] = 255
    assert not see(crop()).mask.any()
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    mask[10:14, 10:14] = 255
    mask[30, 30] = 255
    mask[40, 30:90] = 255
    mask[100:120, 100:120] = 255
    remove_specks(mask)
    assert not mask[:50].any() and mask[100:120, 100:120].all()


def test_each_track_has_its_own_memory_until_it_is_forgotten(engine):
    see = HiddenSegmenter(engine)
    engine.probability[box(150, 220)] = 255
    see(crop(1))
    engine.probability[:] = 0
    assert not see(crop(2)).mask.any()
    assert see(crop(1)).mask.any()
    see.forget([1, 99])
    assert not see(crop(1)).mask.any()


def test_a_mask_that_was_handed_out_is_not_changed_later(engine):
    see = HiddenSegmenter(engine)
    engine.probability[box(150, 220)] = 255
    first = see(crop()).mask
    before = first.copy()
    engine.probability[:] = 0
    for _ in range(10):
        see(crop())
    assert np.array_equal(first, before)


def test_a_given_mask_is_taken_as_it_is():
    mask = np.zeros((720, 1280), np.uint8)
    mask[300:420, 500:700] = 255
    to_crop = np.array([[0.5, 0, -200], [0, 0.5, -100]], np.float32)
    hidden = GivenMask(mask)(Crop.of_template(FaceTrack(1, TEMPLATE, 1.0), crop().image, to_crop))
    expected = np.zeros((CROP_PX, CROP_PX), np.uint8)
    expected[50:110, 50:150] = 255
    assert (hidden.mask != expected).sum() < 350  # at most the rim, by one pixel
    assert set(np.unique(hidden.mask)) == {0, 255}
    assert hidden.coverage == pytest.approx(face_share(expected), abs=0.02)


def test_coverage_is_a_share_of_the_face_not_of_the_crop():
    everything = np.full((CROP_PX, CROP_PX), 255, np.uint8)
    assert face_share(everything) == 1.0
    assert face_share(cv2.bitwise_not(face_area())) == 0.0


MASK, COLLAR = np.s_[190:290, 140:276], np.s_[250:340, 300:390]
STRAP, ARM = np.s_[200:204, 276:330], np.s_[290:, 150:250]


def marked_beside_a_mask(arm: int) -> Image:
    """What counts as hidden if collar and strap, which touch a sure mask, are doubtful."""
    engine = SaidProbability(WIDE_PX)
    engine.probability[255:262, 270:330] = 200
    engine.probability[COLLAR], engine.probability[STRAP] = 170, 170
    engine.probability[MASK], engine.probability[ARM] = 255, arm
    return HiddenSegmenter(engine)(crop()).wide_mask


def test_what_is_thick_and_doubted_beside_a_face_mask_is_none_of_it():
    mask = marked_beside_a_mask(arm=0)
    assert mask[MASK].all() and mask[STRAP].all()
    assert np.count_nonzero(mask[COLLAR]) < 0.1 * mask[COLLAR].size


def test_what_is_doubted_of_an_arm_goes_with_it():
    """What is sure reaches far beyond the face: this is no face mask."""
    mask = marked_beside_a_mask(arm=255)
    assert mask[ARM].all() and mask[COLLAR].all()


class CountingEngine(SaidProbability):
    """Also counts its runs."""

    runs = 0

    def run(self, feeds):
        self.runs += 1
        return super().run(feeds)


def wide_crop(track_id: int, frame: int, value: int = 90) -> Crop:
    face = FaceTrack(track_id, TEMPLATE, 1.0, frame / 30)
    wide = np.full((WIDE_PX, WIDE_PX, 3), value, np.uint8)
    inside = np.full((WIDE_PX, WIDE_PX), 255, np.uint8)
    return Crop(face, np.ascontiguousarray(wide[TEMPLATE_PART]), np.eye(2, 3, dtype=np.float32), wide, inside)


@pytest.mark.parametrize(("faces", "every"), [(1, 2), (2, 3), (3, 4), (4, 4)])
def test_while_nothing_changes_the_network_looks_at_one_face_a_frame(faces: int, every: int):
    engine = CountingEngine(WIDE_PX)
    engine.probability[box(250, 320)] = 255
    see = HiddenSegmenter(engine, every_frame=False)
    runs = []
    for frame in range(10 * every):
        before, carried = engine.runs, [see(wide_crop(face, frame)).may_carry for face in range(faces)]
        runs.append(engine.runs - before)
        assert frame < 2 * every or carried.count(False) <= 1, "the restorer paints one face a frame, too"
    assert runs[0] == faces, "a new face is looked at in its first frame"
    assert max(runs[2 * every :]) == 1 and sum(runs[-4 * every :]) == 4 * faces


def test_in_a_hurry_each_network_runs_in_every_fourth_frame_for_one_still_face():
    engine = CountingEngine(WIDE_PX)
    engine.probability[box(250, 320)] = 255
    see = HiddenSegmenter(engine, every_frame=False)
    see.hurries = True
    carried = [see(wide_crop(1, frame)).may_carry for frame in range(42)]
    assert carried[2:].count(False) == 10 and engine.runs == 11


@pytest.mark.parametrize("hurries", [False, True])
def test_a_change_is_looked_at_in_its_very_frame(hurries: bool):
    engine = CountingEngine(WIDE_PX)
    see = HiddenSegmenter(engine, every_frame=False)
    see.hurries = hurries
    for frame in range(4):
        see(wide_crop(1, frame))
    for frame in range(4, 9):
        before = engine.runs
        hidden = see(wide_crop(1, frame, 90 + 15 * frame))
        assert engine.runs == before + 1 and not hidden.may_carry


def test_a_segmenter_that_looks_at_every_frame_never_lets_the_restorer_rest():
    engine = CountingEngine(WIDE_PX)
    engine.probability[box(250, 320)] = 255
    see = HiddenSegmenter(engine)
    assert not any(see(wide_crop(1, frame)).may_carry for frame in range(6)) and engine.runs == 6
