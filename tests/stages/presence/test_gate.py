"""What only looks like a covered face is left alone: turned aside, behind another head, or not there any more."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE, Image, similarity
from occlufix_vcam.core.frame import Crop, FaceTrack, Frame, HiddenCrop
from occlufix_vcam.stages.presence.gate import BEHIND_S, TURNED, TURNED_BACK, TURNED_IN_PICTURE, FaceGate

SIZE = (480, 800)


def face(track_id: int = 1, x: float = 200, y: float = 120, scale: float = 0.6, turn: float = 0.0) -> FaceTrack:
    points = TEMPLATE.copy()
    points[2, 0] += turn * (points[1, 0] - points[0, 0])
    return FaceTrack(track_id, (points * scale + (x, y)).astype(np.float32), 0.9)


def hidden(track: FaceTrack, whole: bool = False) -> HiddenCrop:
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    mask[slice(None) if whole else slice(140, 230), 60:196] = 255
    image = np.zeros((CROP_PX, CROP_PX, 3), np.uint8)
    return HiddenCrop.of_template(Crop.of_template(track, image, similarity(track.landmarks)), mask, 0.4)


def picture(seed: int = 0) -> Image:
    noise = np.random.default_rng(seed).integers(40, 216, (12, 20, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, SIZE[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def frame(image: Image | None = None, at: float = 0.0) -> Frame:
    return Frame(picture() if image is None else image, 0, at)


def test_a_covered_face_is_restored():
    assert FaceGate().refusal(hidden(face()), [face()]) is None


def test_a_face_turned_far_aside_is_left_alone_until_it_is_turned_back():
    gate = FaceGate()
    between = (TURNED + TURNED_BACK) / 2
    turns = [between, TURNED + 0.05, between, TURNED_BACK - 0.05, between]
    refusals = [gate.refusal(hidden(face(turn=turn)), [face(turn=turn)]) for turn in turns]
    assert refusals == [None, "turned", "turned", None, None]


def test_a_single_picture_may_show_a_face_turned_farther():
    aside = face(turn=(TURNED + TURNED_IN_PICTURE) / 2)
    assert FaceGate().refusal(hidden(aside), [aside]) == "turned"
    assert FaceGate(TURNED_IN_PICTURE).refusal(hidden(aside), [aside]) is None


def test_the_head_of_another_person_in_front_is_no_occluder():
    behind, front = face(1, x=300, y=80, scale=0.45), face(2, x=250, y=150, scale=0.7)
    gate, faces = FaceGate(), [behind, front]
    assert gate.refusal(hidden(behind), faces) == "behind"
    assert gate.refusal(hidden(front), faces) is None


def test_a_face_beside_another_is_restored():
    faces = [face(1, x=20), face(2, x=500, scale=0.7)]
    gate = FaceGate()
    assert not any(gate.refusal(hidden(one), faces) for one in faces)


def test_a_masked_child_in_front_of_somebody_is_restored():
    grown_up, child = face(1, x=250, y=20, scale=0.8), face(2, x=290, y=260, scale=0.5)
    gate, faces = FaceGate(), [grown_up, child]
    assert not any(gate.refusal(hidden(one), faces) for one in (child, grown_up))


def test_of_two_faces_of_one_size_the_one_that_is_lost_is_behind():
    seen, lost = face(1), replace(face(2, x=240), seen=False, confidence=0.95)
    gate, faces = FaceGate(), [seen, lost]
    assert gate.refusal(hidden(seen), faces) is None and gate.refusal(hidden(lost, whole=True), faces) == "behind"


@pytest.mark.parametrize("rate", [10, 30, 60])
def test_a_face_gets_its_own_back_shortly_after_the_head_in_front_has_gone(rate: int):
    gate, behind, front = FaceGate(), face(1, x=300, y=80, scale=0.45), face(2, x=250, y=150, scale=0.7)
    assert gate.refusal(hidden(behind), [behind, front]) == "behind"
    times = [n / rate for n in range(1, rate)]
    back = next(at for at in times if not gate.refusal(hidden(replace(behind, at=at)), [replace(behind, at=at)]))
    assert back < BEHIND_S + 1.5 / rate


def lost(gate: FaceGate, covered: bool, after: Image, track: FaceTrack | None = None) -> bool:
    """Whether a face, covered or not, counts as there in a frame in which it is not seen."""
    track = track or face()
    assert gate.present(frame(), [track]) == [track]
    bare = hidden(track)
    gate.refusal(bare if covered else replace(bare, mask=np.zeros_like(bare.mask)), [track])
    return bool(gate.present(frame(after, 0.03), [replace(track, seen=False, at=0.03)]))


def test_a_covered_face_that_is_not_seen_for_a_moment_is_still_there():
    """A hand comes from below."""
    hand = picture()
    hand[160:, 200:340] = 200
    assert lost(FaceGate(), True, hand)


def test_a_face_that_was_not_covered_and_is_not_seen_has_gone():
    assert not lost(FaceGate(), False, picture())


def test_nothing_is_painted_after_a_cut():
    """For up to 7 frames a face was painted on what came next."""
    gate = FaceGate()
    assert not lost(gate, True, picture(1))
    assert not gate.present(frame(at=0.06), [replace(face(), seen=False, at=0.06)])


def test_a_face_that_left_at_the_edge_is_not_painted_there():
    assert not lost(FaceGate(), True, picture(), face(x=700))


def test_a_forgotten_track_starts_anew():
    gate = FaceGate()
    gate.refusal(hidden(face(turn=0.6)), [])
    between = (TURNED + TURNED_BACK) / 2
    gate.forget([1, 99])
    assert gate.refusal(hidden(face(turn=between)), []) is None
