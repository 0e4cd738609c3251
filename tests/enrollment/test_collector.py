"""Enrollment collects only good views of one face, and never stores a person under another's name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE, Image
from occlufix_vcam.core.frame import Crop, FaceTrack, Frame, HiddenCrop
from occlufix_vcam.enrollment.collector import (
    LEAST_SHARPNESS,
    WANTED,
    ViewCollector,
    is_blurred,
    keep,
    pose_of,
    sharpness,
)
from occlufix_vcam.people.keys import KeyFile
from occlufix_vcam.people.person import EnrollmentError, Person
from occlufix_vcam.people.store import PeopleStore
from occlufix_vcam.stages.embed import Embedding

ANN, BOB = 0, 1


class Scene:
    """What stands before the camera; finder, segmenter and recogniser see just that."""

    model = "fake"
    same_person = 0.5

    def __init__(self) -> None:
        self.faces = [self.face()]
        self.person = ANN
        self.coverage = 0.0
        self.gain, self.blur = 1.0, 0.0
        self.frames = 0
        texture = np.random.default_rng(0).integers(40, 216, (130, 130, 3), dtype=np.uint8)
        self._texture = cv2.resize(texture, (520, 520), interpolation=cv2.INTER_LINEAR)

    @staticmethod
    def face(turn: float = 0.0, scale: float = 1.0) -> FaceTrack:
        landmarks = TEMPLATE.copy()
        landmarks[2, 0] += turn * 76.8
        return FaceTrack(1, landmarks * np.float32(scale) + 60, 1.0)

    def frame(self) -> Frame:
        self.frames += 1
        image = cv2.GaussianBlur(self._texture, (0, 0), self.blur) if self.blur else self._texture
        return Frame(cv2.convertScaleAbs(image, alpha=self.gain), self.frames, float(self.frames))

    def see_hidden(self, crop: Crop) -> HiddenCrop:
        mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
        if self.coverage:
            mask[200:] = 255
        return HiddenCrop.of_template(crop, mask, self.coverage)

    def __call__(self, crop: Crop, mask: Image) -> Embedding:
        return np.eye(128, dtype=np.float32)[self.person]


class Finder:
    """The scene's faces; `reset` is counted."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.resets = 0

    def __call__(self, frame: Frame) -> Sequence[FaceTrack]:
        return self._scene.faces

    def reset(self) -> None:
        self.resets += 1

    def close(self) -> None:
        """Holds nothing."""


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def enrollment(scene: Scene) -> ViewCollector:
    return ViewCollector(Finder(scene), scene.see_hidden, scene)


@pytest.fixture
def store(tmp_path: Path) -> PeopleStore:
    return PeopleStore(tmp_path / "faces", KeyFile(tmp_path / "faces" / "key"))


def look(scene: Scene, enrollment: ViewCollector, frames: int = 6, turn: float = 0.0) -> str:
    scene.faces = [Scene.face(turn)]
    for _ in range(frames):
        enrollment.offer(scene.frame())
    return enrollment.progress.say


def look_round(scene: Scene, enrollment: ViewCollector) -> None:
    for turn in (0.0, -0.2, 0.2):
        look(scene, enrollment, turn=turn)


@pytest.mark.parametrize(("scale", "side"), [(1.0, None), (1.5, 384)])
def test_a_view_of_a_large_face_keeps_its_detail(
    scene: Scene, enrollment: ViewCollector, scale: float, side: int | None
) -> None:
    scene.faces = [Scene.face(scale=scale)]
    enrollment.offer(scene.frame())
    (view,) = enrollment.person("Ann").views
    assert (view.luma.shape[0] if view.luma is not None else None) == side


def test_several_poses_are_asked_for_and_then_it_is_done(scene: Scene, enrollment: ViewCollector) -> None:
    assert "straight" in look(scene, enrollment, frames=1)
    assert "to one side" in look(scene, enrollment)
    assert "to the other side" in look(scene, enrollment, turn=-0.2)
    assert not enrollment.complete
    assert look(scene, enrollment, turn=0.2) == "done" and enrollment.complete
    person = enrollment.person_before_camera("Ann")
    assert len(person.views) == len(person.embeddings) == sum(WANTED.values()) == enrollment.progress.views
    assert {pose_of(view.landmarks) for view in person.views} == {"front", "left", "right"}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda scene: scene.faces.clear(), "no face"),
        (lambda scene: scene.faces.append(Scene.face()), "2 faces"),
        (lambda scene: scene.faces.__setitem__(0, Scene.face(scale=0.4)), "closer"),
        (lambda scene: setattr(scene, "coverage", 0.3), "hidden"),
        (lambda scene: setattr(scene, "gain", 0.1), "dark"),
        (lambda scene: setattr(scene, "blur", 8.0), "blurred"),
    ],
)
def test_a_poor_picture_is_not_kept_and_says_why(scene: Scene, enrollment: ViewCollector, spoil, said: str) -> None:  # type: ignore[no-untyped-def]
    spoil(scene)
    enrollment.offer(scene.frame())
    assert enrollment.progress.views == 0 and said in enrollment.progress.say
    with pytest.raises(EnrollmentError, match=said):
        enrollment.person("Ann")


def test_views_are_some_time_apart(scene: Scene, enrollment: ViewCollector) -> None:
    for number in range(10):
        enrollment.offer(Frame(scene.frame().image, number, captured_at=number * 0.01))
    assert enrollment.progress.views == 1


def test_one_pose_alone_is_not_enough_for_a_camera(scene: Scene, enrollment: ViewCollector) -> None:
    look(scene, enrollment, frames=20)
    with pytest.raises(EnrollmentError, match="only 4 good views") as told:
        enrollment.person_before_camera("Ann")
    assert "turn your head" in told.value.hint


def test_somebody_else_who_sits_down_is_not_mixed_in(scene: Scene, enrollment: ViewCollector) -> None:
    look(scene, enrollment)
    scene.person = BOB
    assert "another face" in look(scene, enrollment, turn=0.2)
    assert enrollment.progress.views == WANTED["front"]


def test_what_lies_outside_the_picture_is_not_valid(scene: Scene, enrollment: ViewCollector) -> None:
    landmarks = Scene.face().landmarks - np.float32([60, 140])  # the forehead is cut off
    scene.faces = [FaceTrack(1, landmarks, 1.0)]
    enrollment.offer(scene.frame())
    (view,) = enrollment.person("Ann").views
    assert not view.mask[:70].any() and view.mask[90:250, 10:250].all()
    np.testing.assert_allclose(view.landmarks, TEMPLATE, atol=0.1)


def somebody(scene: Scene, person: int, name: str) -> Person:
    scene.person = person
    enrollment = ViewCollector(Finder(scene), scene.see_hidden, scene)
    look_round(scene, enrollment)
    return enrollment.person_before_camera(name)


def test_views_are_added_to_what_was_there(scene: Scene, store: PeopleStore) -> None:
    keep(somebody(scene, ANN, "Ann"), store, scene)
    again = keep(somebody(scene, ANN, " Ann"), store, scene)
    (ann,) = store.load().people
    assert len(ann.views) == len(ann.embeddings) == len(again.views) == 12


def test_another_face_under_an_enrolled_name_is_refused(scene: Scene, store: PeopleStore) -> None:
    keep(somebody(scene, ANN, "Ann"), store, scene)
    with pytest.raises(EnrollmentError, match="Ann is enrolled with another face") as told:
        keep(somebody(scene, BOB, "Ann"), store, scene)
    assert "--delete" in told.value.hint
    assert len(store.load().people[0].views) == sum(WANTED.values())


def test_one_face_under_two_names_is_refused(scene: Scene, store: PeopleStore) -> None:
    keep(somebody(scene, ANN, "Ann"), store, scene)
    with pytest.raises(EnrollmentError, match="already enrolled as Ann"):
        keep(somebody(scene, ANN, "Bob"), store, scene)
    keep(somebody(scene, BOB, "Bob"), store, scene)
    assert [person.name for person in store.load().people] == ["Ann", "Bob"]


def test_a_soft_camera_is_told_from_a_blurred_picture() -> None:
    """Both have as little fine detail; what is blurred has none that blurring it further would take."""
    texture = np.random.default_rng(0).integers(0, 256, (CROP_PX, CROP_PX, 3), dtype=np.uint8)
    soft = cv2.convertScaleAbs(cv2.GaussianBlur(texture, (0, 0), 1.0), alpha=0.12, beta=110)
    blurred = cv2.convertScaleAbs(cv2.resize(texture[::10, ::10], (CROP_PX, CROP_PX), interpolation=cv2.INTER_CUBIC))
    assert sharpness(blurred) > sharpness(soft) > LEAST_SHARPNESS
    assert not is_blurred(soft) and is_blurred(blurred)


def test_a_blurred_picture_is_less_sharp() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (CROP_PX, CROP_PX, 3), dtype=np.uint8)
    levels = [sharpness(cv2.GaussianBlur(picture, (0, 0), sigma)) for sigma in (0.5, 1, 2, 4)]
    assert levels == sorted(levels, reverse=True)
