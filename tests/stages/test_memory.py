"""The memory holds the person's own face, only where it is visible, placed where the face is now."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.frame import Crop, FaceTrack, HiddenCrop
from occlufix_vcam.people.person import EnrolledView as EnrolledView
from occlufix_vcam.people.person import Person
from occlufix_vcam.stages.memory import (
    CHECK_EVERY_S,
    DOUBTED_S,
    DOUBTFUL_LOOKS,
    GONE_S,
    KEPT_AFTER_S,
    LOOK_AGAIN_S,
    MOST_VIEWS,
    SEARCH_EVERY_S,
    VIEW_EVERY_S,
    FaceMemory,
    FixedReference,
    NoMemory,
)
from occlufix_vcam.stages.reference import MARGIN_PX, NO_REFERENCE, Reference

PICTURE = np.random.default_rng(0).integers(0, 255, (CROP_PX, CROP_PX, 3), dtype=np.uint8)


def asked() -> HiddenCrop:
    crop = Crop.of_template(FaceTrack(1, TEMPLATE, 1.0), np.zeros_like(PICTURE), np.eye(2, 3, dtype=np.float32))
    return HiddenCrop.of_template(crop, np.full((CROP_PX, CROP_PX), 255, np.uint8), 1.0)


def test_no_reference_is_all_zeros():
    reference = NoMemory()(asked())
    assert reference is NO_REFERENCE
    assert reference.image.shape == (CROP_PX, CROP_PX, 3) and not reference.image.any()
    assert reference.mask.shape == (CROP_PX, CROP_PX) and not reference.mask.any()


def test_a_picture_that_already_is_a_template_crop_is_its_own_reference():
    reference = FixedReference(PICTURE, TEMPLATE)(asked())
    valid = reference.mask == 255
    assert valid[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX].all()
    assert np.array_equal(reference.image[valid], PICTURE[valid])
    assert not reference.image[~valid].any()


def test_what_the_picture_does_not_show_is_not_valid():
    reference = FixedReference(PICTURE[:, :180], TEMPLATE)(asked())
    assert reference.mask[:, : 180 - 2 * MARGIN_PX].mean() > 240
    assert not reference.mask[:, 180 - MARGIN_PX :].any()
    assert not reference.image[:, 180 - MARGIN_PX :].any()


def test_what_is_hidden_in_the_picture_is_not_valid():
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    mask[150:200, 60:196] = 255
    reference = FixedReference(PICTURE, TEMPLATE, lambda crop: HiddenCrop.of_template(crop, mask, 0.2))(asked())
    assert not reference.mask[150 - MARGIN_PX : 200 + MARGIN_PX, 60:196].any()
    assert reference.mask[20:140, 60:196].all()


def test_a_picture_without_a_face_is_refused():
    with pytest.raises(ConfigError, match="no usable face"):
        FixedReference(PICTURE, np.full((5, 2), 7.0, np.float32))


# -- the memory of a call


def face_picture(seed: int = 0) -> np.ndarray:
    """Something with corners and no two parts alike, as a face has."""
    rng = np.random.default_rng(seed)
    rough = cv2.resize(
        rng.integers(60, 200, (24, 24, 3), dtype=np.uint8), (CROP_PX, CROP_PX), interpolation=cv2.INTER_CUBIC
    )
    return cv2.GaussianBlur(rough, (0, 0), 1.5)


NOTHING = np.zeros((CROP_PX, CROP_PX), np.uint8)
MOUTH = NOTHING.copy()
MOUTH[150:230, 70:186] = 255


RATE = 30
#: Frames between views, until one is kept, until a search, and for which a face is doubted.
VIEW_EVERY, KEPT_AFTER, SEARCH_EVERY, DOUBTED_FRAMES = (
    math.ceil(seconds * RATE) for seconds in (VIEW_EVERY_S, KEPT_AFTER_S, SEARCH_EVERY_S, DOUBTED_S)
)


def seen(image: np.ndarray, mask: np.ndarray = NOTHING, track_id: int = 1, at: float = 0.0) -> HiddenCrop:
    """Times that stand still count as frames at RATE."""
    crop = Crop.of_template(FaceTrack(track_id, TEMPLATE, 1.0, at), image, np.eye(2, 3, dtype=np.float32))
    return HiddenCrop.of_template(crop, mask, float((mask != 0).mean()))


def covered(image: np.ndarray, mask: np.ndarray = MOUTH, level: int = 240) -> np.ndarray:
    result = image.copy()
    result[mask != 0] = level
    return result


def learned(image: np.ndarray, frames: int = 24, **parts) -> FaceMemory:
    memory = FaceMemory(**parts)
    for _ in range(frames):
        assert memory(seen(image)) is NO_REFERENCE
    return memory


def inside_error(reference: Reference, truth: np.ndarray) -> float:
    return float(np.abs(reference.image.astype(int) - truth)[MOUTH != 0].mean())


def test_what_was_seen_is_recalled_and_trusted():
    image = face_picture()
    recalled = learned(image)(seen(covered(image), MOUTH))
    assert inside_error(recalled, image) < 2
    assert (
        recalled.mask[MOUTH != 0].all()
        and recalled.confidence is not None
        and recalled.confidence[MOUTH != 0].min() > 250
    )


def test_a_face_that_nobody_saw_is_not_recalled():
    recalled = FaceMemory()(seen(covered(face_picture()), MOUTH))
    assert not recalled.mask.any() and recalled.confidence is None


def test_too_short_a_look_is_not_enough():
    """What comes in front of a face is noticed late: the last frames before it are not to be relied on."""
    recalled = learned(face_picture(), frames=VIEW_EVERY + 1)(seen(covered(face_picture()), MOUTH))
    assert not recalled.mask.any()


def test_what_is_recalled_lies_where_the_face_has_gone():
    image = face_picture()
    memory = learned(image)
    for step in range(8):
        shift = np.array([[1, 0, step], [0, 1, -step / 2]], np.float32)
        now = cv2.warpAffine(image, shift, (CROP_PX, CROP_PX), borderMode=cv2.BORDER_REFLECT)
        recalled = memory(seen(covered(now), MOUTH))
        assert inside_error(recalled, now) < 6
        if step:
            assert recalled.motion is not None
            assert np.abs(recalled.motion[:, 2] - (1, -0.5)).max() < 0.3


def test_what_is_recalled_is_brought_to_todays_light():
    image = face_picture()
    darker = cv2.convertScaleAbs(image, alpha=1.0, beta=-25)
    recalled = learned(image)(seen(covered(darker), MOUTH))
    assert inside_error(recalled, darker) < 4


def test_another_face_is_never_recalled_as_this_one():
    memory = learned(face_picture(0))
    recalled = memory(seen(covered(face_picture(1)), MOUTH))
    assert recalled.confidence is None or not recalled.confidence.any()


def test_a_hand_that_is_noticed_late_does_not_make_the_face_another_one():
    image, hand = face_picture(), NOTHING.copy()
    hand[110:] = 255
    memory = learned(image)
    for _ in range(2):
        memory(seen(covered(image, hand)))  # in front already, and not yet seen
    memory(seen(covered(image, hand), hand))
    recalled = memory(seen(covered(image, hand), hand))
    assert inside_error(recalled, image) < 2


def test_a_face_that_changed_at_a_stroke_and_is_not_found_again_is_forgotten():
    memory = learned(face_picture(0))
    for _ in range(DOUBTED_FRAMES + 1):
        memory(seen(face_picture(1)))
    for _ in range(2):
        assert not memory(seen(covered(face_picture(0)), MOUTH)).mask.any()


def test_tracks_do_not_share_what_they_remember():
    image = face_picture()
    memory = learned(image)
    assert not memory(seen(covered(image), MOUTH, track_id=2)).mask.any()
    assert memory(seen(covered(image), MOUTH, track_id=1)).mask.any()


def test_a_track_that_is_lost_and_returns_is_remembered_for_a_while():
    image = face_picture()
    memory = learned(image)
    memory.forget([1, 5])
    assert memory(seen(covered(image), MOUTH)).mask.any()
    memory.forget([1])
    assert not memory(seen(covered(image), MOUTH, at=GONE_S + 1)).mask.any()


def test_memory_is_bounded():
    memory = FaceMemory()
    for number in range(40 * VIEW_EVERY):
        memory(seen(cv2.convertScaleAbs(face_picture(), beta=number % 7)))
    assert len(memory._tracks[1].views) <= MOST_VIEWS
    assert len(memory._tracks[1]._waiting) <= KEPT_AFTER // VIEW_EVERY + 1


def test_a_blurred_look_does_not_take_the_place_of_a_sharp_one():
    image = face_picture()
    memory = learned(image)
    for _ in range(24):
        memory(seen(cv2.GaussianBlur(image, (0, 0), 4)))
    recalled = memory(seen(covered(image), MOUTH))
    assert inside_error(recalled, image) < 2


def test_a_face_that_is_always_partly_hidden_is_remembered_where_it_shows():
    """A microphone stays in the picture; then a hand comes as well."""
    image, microphone = face_picture(), NOTHING.copy()
    microphone[190:230, 110:140] = 255
    memory = FaceMemory()
    for _ in range(24):
        memory(seen(covered(image, microphone), microphone))
    hand = MOUTH | microphone
    recalled = memory(seen(covered(image, hand), hand))
    valid = (recalled.mask != 0) & (MOUTH != 0)
    assert np.abs(recalled.image.astype(int) - image)[valid].mean() < 2
    assert not recalled.mask[195:225, 115:135].any()  # no view shows that


def test_what_one_view_does_not_show_comes_from_another():
    image, left, right = face_picture(), NOTHING.copy(), NOTHING.copy()
    left[140:230, 60:128] = 255
    right[140:230, 128:196] = 255
    memory = FaceMemory()
    for mask in (left, right):
        for _ in range(24):
            memory(seen(covered(image, mask), mask))
    both = left | right
    for _ in range(SEARCH_EVERY + 1):
        recalled = memory(seen(covered(image, both), both))
    inner = NOTHING.copy()
    inner[150:220, 70:186] = 255
    inner[:, 120:136] = 0
    assert recalled.mask[inner != 0].all() and recalled.confidence[inner != 0].all()
    assert np.abs(recalled.image.astype(int) - image)[inner != 0].mean() < 2


class Who:
    """Knows each face by its mean colour of the forehead, which is not hidden here."""

    model = "fake"
    same_person = 0.5

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, crop: Crop, mask: np.ndarray) -> np.ndarray:
        self.asked += 1
        vector = crop.image[40:90, 80:176].reshape(-1, 3).mean(axis=0) - 128
        vector = np.concatenate([vector, np.zeros(125)]) + 1e-3
        return (vector / np.linalg.norm(vector)).astype(np.float32)


def tinted(seed: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.clip(face_picture(seed) * 0.6 + np.array(colour) * 0.4, 0, 255).astype(np.uint8)


ONE, OTHER = tinted(0, (190, 90, 90)), tinted(0, (90, 90, 190))  # the same features, another colour


def test_a_person_who_took_the_place_of_another_on_one_track_is_not_mixed_with_him():
    assert learned(ONE, embed=Who())(seen(covered(ONE), MOUTH)).mask.any()
    assert not learned(ONE, embed=Who())(seen(covered(OTHER), MOUTH)).mask.any()


class Told:
    """Says of each look how much it is like the person that it first saw."""

    model = "fake"
    same_person = 0.6

    def __init__(self) -> None:
        self.cosine = 1.0

    def __call__(self, crop: Crop, mask: np.ndarray) -> np.ndarray:
        vector = np.zeros(128, np.float32)
        vector[:2] = self.cosine, np.sqrt(1 - self.cosine**2)
        return vector


def behind_a_mask(told: Told, cosine: float, seconds: float, rate: int = 10) -> list[bool]:
    """Whether a known face is recalled in each frame, while looks are only so much like it."""
    memory = learned(ONE, embed=told)
    told.cosine = cosine
    frames = (seen(covered(ONE), MOUTH, at=n / rate) for n in range(1, round(seconds * rate)))
    return [bool(memory(frame).mask.any()) for frame in frames]


def test_doubtful_looks_at_a_covered_face_never_drop_it():
    """The same person behind a mask has cosines of 0.37 to 0.43; the memory was dropped at the first."""
    assert all(behind_a_mask(Told(), 0.38, seconds=10))


def test_a_clearly_other_person_behind_a_mask_is_given_up_after_several_looks_over_seconds():
    told = Told()
    memory = learned(ONE, embed=told)
    mine, told.cosine, at = memory._tracks[1], 0.05, 0.0
    while memory._tracks[1] is mine:
        at += 0.1
        assert not memory(seen(covered(ONE), MOUTH, at=at)).mask.any()  # and meanwhile nothing of it is shown
    assert LOOK_AGAIN_S * (DOUBTFUL_LOOKS - 1) <= at < LOOK_AGAIN_S * DOUBTFUL_LOOKS + CHECK_EVERY_S


def test_an_uncovered_stranger_on_the_same_track_takes_over_after_two_looks():
    told = Told()
    memory = learned(ONE, embed=told)
    told.cosine = 0.3
    for _ in range(round((CHECK_EVERY_S + 0.2) * RATE)):
        memory(seen(ONE))
    assert memory._tracks[1].who is not None and memory._tracks[1].who[0] == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("rate", [8, 30, 60])
def test_views_are_kept_after_the_same_time_at_any_rate(rate: int):
    memory = FaceMemory()
    for n in range(1, round(0.6 * rate) + 2):
        memory(seen(face_picture(), at=n / rate))
    assert memory._tracks[1].views
    memory = FaceMemory()
    for n in range(1, round((KEPT_AFTER_S - 0.1) * rate)):
        memory(seen(face_picture(), at=n / rate))
    assert 1 not in memory._tracks or not memory._tracks[1].views


def test_a_face_that_comes_back_soon_is_remembered_and_another_is_not():
    memory = learned(ONE, embed=Who())
    memory.forget([1])
    assert not memory(seen(covered(OTHER), MOUTH, track_id=2, at=5.0)).mask.any()
    assert memory(seen(covered(ONE), MOUTH, track_id=3, at=5.0)).mask.any()


def test_a_face_that_left_long_ago_is_forgotten():
    memory = learned(ONE, embed=Who())
    memory.forget([1])
    assert not memory(seen(covered(ONE), MOUTH, track_id=2, at=GONE_S + 1)).mask.any()


def test_the_person_is_asked_after_now_and_then_only():
    who = Who()
    memory = learned(ONE, frames=60, embed=who)
    assert who.asked <= 3
    memory(seen(covered(ONE), MOUTH))
    assert who.asked <= 4


class Known:
    """One enrolled person, on every track."""

    def __init__(self, image: np.ndarray) -> None:
        whole = np.full((CROP_PX, CROP_PX), 255, np.uint8)
        self.person = Person("Ada", np.zeros((0, 128), np.float32), [EnrolledView(image, whole, TEMPLATE)], "fake")
        self.forgotten: list[int] = []

    def identify(self, track_id: int, crop: Crop, mask: np.ndarray) -> Person:
        return self.person

    def forget(self, track_ids) -> None:
        self.forgotten += track_ids


def test_an_enrolled_face_fills_what_this_call_never_showed():
    image = face_picture()
    known = Known(image)
    memory = FaceMemory(known=known)
    assert inside_error(memory(seen(covered(image), MOUTH)), image) < 2
    memory.forget([1])
    assert known.forgotten == [1]


def test_an_enrolled_faces_detail_is_shown_at_its_pictures_scale():
    image, luma = face_picture(), np.random.default_rng(0).integers(0, 256, (512, 512), dtype=np.uint8)
    known = Known(image)
    known.person = replace(known.person, views=[replace(known.person.views[0], luma=luma)])
    fine = FaceMemory(known=known)(seen(covered(image), MOUTH)).fine
    assert fine is not None and fine.luma is luma
    corner = fine.matrix @ np.array([-0.5, -0.5, 1])
    assert np.abs(corner + 0.5).max() < 8  # the face is where it was: the template's corner is the picture's


def test_an_enrolled_face_that_cannot_be_followed_still_is_a_reference_by_its_landmarks():
    enrolled, now = face_picture(0), face_picture(1)
    recalled = FaceMemory(known=Known(enrolled))(seen(covered(now), MOUTH))
    assert recalled.mask.any() and recalled.confidence is not None and not recalled.confidence.any()
