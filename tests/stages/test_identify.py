"""Who a track shows: only after several looks that agree, never another person's, let go at the first doubt."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE, Image
from occlufix_vcam.core.frame import Crop, FaceTrack
from occlufix_vcam.people.person import EnrolledView, Person
from occlufix_vcam.stages.embed import Embedding
from occlufix_vcam.stages.identify import AGREEING, ASK_EVERY_S, CONTRADICTING, FaceIdentifier

#: Times that stand still count as frames at 30 a second.
ASK_EVERY = math.ceil(ASK_EVERY_S * 30)
WHOLE = np.zeros((CROP_PX, CROP_PX), np.uint8)
ANN, BOB, STRANGER = np.eye(128, dtype=np.float32)[:3]


def enrolled(name: str, vector: Embedding) -> Person:
    picture = np.zeros((CROP_PX, CROP_PX, 3), np.uint8)
    view = EnrolledView(picture, np.full((CROP_PX, CROP_PX), 255, np.uint8), TEMPLATE)
    return Person(name, np.stack([vector, vector]), [view], model="fake")


class Told:
    """A recogniser that says what the test tells it, and counts."""

    model = "fake"
    same_person = 0.5

    def __init__(self) -> None:
        self.vector = ANN
        self.calls = 0

    def __call__(self, crop: Crop, mask: Image) -> Embedding:
        self.calls += 1
        return self.vector


def crop(level: int = 120) -> Crop:
    image = np.full((CROP_PX, CROP_PX, 3), level, np.uint8)
    return Crop.of_template(FaceTrack(1, TEMPLATE, 1.0), image, np.eye(2, 3, dtype=np.float32))


def mixed(a: Embedding, share: float, b: Embedding) -> Embedding:
    """As similar to `a` as `share`, and the rest `b`."""
    return (share * a + np.sqrt(1 - share**2) * b).astype(np.float32)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def known(told: Told) -> FaceIdentifier:
    people = [enrolled("Ann", ANN), enrolled("Bob", BOB)]
    return FaceIdentifier(lambda: people, told)


def names(known: FaceIdentifier, frames: int, track: int = 1, face: Crop | None = None) -> list[str | None]:
    found = [known.identify(track, face or crop(), WHOLE) for _ in range(frames)]
    return [person.name if person else None for person in found]


def test_a_person_is_named_after_several_looks(known: FaceIdentifier) -> None:
    assert names(known, AGREEING + 2) == [None] * (AGREEING - 1) + ["Ann"] * 3


def test_a_stranger_is_nobody(known: FaceIdentifier, told: Told) -> None:
    told.vector = STRANGER
    assert set(names(known, 100)) == {None}


def test_who_resembles_two_is_nobody(known: FaceIdentifier, told: Told) -> None:
    told.vector = mixed(ANN, 0.72, BOB)
    assert set(names(known, 100)) == {None}


def test_looks_that_disagree_decide_nothing(known: FaceIdentifier, told: Told) -> None:
    for _ in range(60):
        told.vector = (ANN, BOB)[told.calls % 2]
        assert known.identify(1, crop(), WHOLE) is None


def test_a_named_face_is_asked_about_rarely(known: FaceIdentifier, told: Told) -> None:
    names(known, AGREEING)
    before = told.calls
    names(known, 10 * ASK_EVERY)
    assert 9 <= told.calls - before <= 10


def test_a_stranger_is_asked_about_rarely_in_the_end(known: FaceIdentifier, told: Told) -> None:
    told.vector = STRANGER
    names(known, 30)
    before = told.calls
    names(known, 10 * ASK_EVERY)
    assert 9 <= told.calls - before <= 10


def test_another_person_takes_over_only_by_way_of_nobody(known: FaceIdentifier, told: Told) -> None:
    assert names(known, 10)[-1] == "Ann"
    told.vector = BOB
    after = names(known, 40)
    first_bob = after.index("Bob")
    assert "Ann" not in after[ASK_EVERY + CONTRADICTING :] and after[first_bob - 1] is None
    assert set(after[first_bob:]) == {"Bob"}


def test_one_doubtful_look_in_between_does_not_end_a_name(known: FaceIdentifier, told: Told) -> None:
    assert names(known, 10)[-1] == "Ann"
    for _ in range(100):
        told.vector = mixed(ANN, 0.3, STRANGER) if told.calls % CONTRADICTING else ANN
        assert names(known, 1) == ["Ann"]


def test_a_cut_in_the_picture_ends_a_name_at_once(known: FaceIdentifier, told: Told) -> None:
    assert names(known, 10)[-1] == "Ann"
    told.vector = BOB
    after = names(known, 10, face=crop(220))
    assert "Ann" not in after and after[-1] == "Bob"


def test_a_hand_that_passes_is_no_cut(known: FaceIdentifier) -> None:
    assert names(known, 10)[-1] == "Ann"
    covered, mask = crop(), WHOLE.copy()
    covered.image[120:] = 250
    mask[120:] = 255
    assert known.identify(1, covered, mask) is not None


def test_a_face_that_is_nearly_all_hidden_is_not_asked_about(known: FaceIdentifier, told: Told) -> None:
    for _ in range(20):
        known.identify(1, crop(), np.full((CROP_PX, CROP_PX), 255, np.uint8))
    assert told.calls == 0


def test_nobody_is_there_twice(known: FaceIdentifier) -> None:
    assert names(known, 10, track=1)[-1] == "Ann"
    assert set(names(known, 20, track=2)) == {None}
    known.forget([1, 99])
    assert names(known, 20, track=2)[-1] == "Ann"


def test_nobody_enrolled_costs_nothing(told: Told) -> None:
    assert set(names(FaceIdentifier(lambda: (), told), 20)) == {None}
    assert told.calls == 0


def test_who_enrols_meanwhile_is_named_and_who_is_deleted_is_not(told: Told) -> None:
    now: list[tuple[Person, ...]] = [(), (enrolled("Ann", ANN),)]
    people = now.pop(0)
    known = FaceIdentifier(lambda: people, told)
    assert set(names(known, 5)) == {None}
    people = now.pop(0)
    assert names(known, AGREEING)[-1] == "Ann"
    people = ()
    assert names(known, 1) == [None]


def test_vectors_of_another_network_are_made_anew(told: Told) -> None:
    old = enrolled("Ann", STRANGER)
    people = [Person(old.name, old.embeddings, old.views, model="an older one")]
    assert names(FaceIdentifier(lambda: people, told), AGREEING)[-1] == "Ann"
