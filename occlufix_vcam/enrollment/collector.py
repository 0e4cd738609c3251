"""Collects views of a person: which images of a face are good enough to store, and whose face they show.

Reads frames of a camera, or image files. A view is stored if there is one face, large, sharp, well lit and unhidden.
Several poses are required, because a face turns during a call. All views must show one person.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from engines.contract import Image, Points, transform_points
from occlufix_vcam.core.frame import Crop, FaceTrack, Frame, HiddenCrop
from occlufix_vcam.people.person import EnrolledView, EnrollmentError, Person, checked_name
from occlufix_vcam.people.sealed import MOST_VIEWS
from occlufix_vcam.people.store import PeopleStore
from occlufix_vcam.sources.pictures import load_picture
from occlufix_vcam.stages.align import align
from occlufix_vcam.stages.embed import Embedder, Embedding
from occlufix_vcam.stages.find import FaceFinder
from occlufix_vcam.stages.geometry import face_area
from occlufix_vcam.stages.identify import match_score, vectors, with_vectors
from occlufix_vcam.stages.reference import valid_region

Pose = Literal["front", "left", "right"]

#: Views of each pose that a camera should deliver.
WANTED: dict[Pose, int] = {"front": 4, "left": 2, "right": 2}
#: With fewer, enrollment at a camera fails: one side may be missing.
NEEDED = 4
#: Distance of the nose from the eyes' middle, in eye distances, from which a head counts as turned.
TURNED = 0.1
#: Eyes closer together than this, in frame pixels, show too little of a face.
LEAST_EYES_PX = 40.0
#: Mean absolute Laplacian inside the face: the softest of 200 photographs had 3.9, blurred ones have less than 1.6.
LEAST_SHARPNESS = 2.4
LIGHT = (45.0, 225.0)
LARGEST_COVERAGE = 0.03
#: Seconds between two views of a camera, so that the next one shows something else.
VIEW_EVERY_S = 0.35
#: Views of one person may match less well, by this much, than naming requires; other people's rarely match that well.
VIEWS_BELOW = 0.1


@dataclass(frozen=True, slots=True)
class EnrollmentProgress:
    """Progress of a collection: `views` of `wanted`, and one line that tells the user what to do now."""

    views: int
    wanted: int
    say: str


class UnsuitableView(Exception):
    """This image is not stored; the message tells the user what to do."""


class ViewCollector:
    """Collects views of one person. Used by one thread."""

    def __init__(self, find: FaceFinder, see_hidden: Callable[[Crop], HiddenCrop], embed: Embedder) -> None:
        self._find = find
        self._see_hidden = see_hidden
        self.embed = embed
        self._views: list[EnrolledView] = []
        self._vectors: list[Embedding] = []
        self._poses: dict[Pose, int] = dict.fromkeys(WANTED, 0)
        self._last_at = float("-inf")
        self._say = "look at the camera"

    @property
    def progress(self) -> EnrollmentProgress:
        return EnrollmentProgress(len(self._views), sum(WANTED.values()), self._say)

    @property
    def complete(self) -> bool:
        return all(self._poses[pose] >= wanted for pose, wanted in WANTED.items())

    def offer(self, frame: Frame) -> None:
        """Offers one camera frame: it becomes a view, or `progress` says what is wrong. Raises EngineRunError."""
        faces = self._find(frame)
        if frame.captured_at - self._last_at < VIEW_EVERY_S:
            return
        try:
            view = self._view(frame, faces)
            pose = pose_of(view.landmarks)
            if self._poses[pose] >= WANTED[pose]:
                raise UnsuitableView(self._missing())
            self._add(view)
        except UnsuitableView as poor:
            self._say = str(poor)
            return
        self._poses[pose] += 1
        self._last_at = frame.captured_at
        self._say = self._missing()

    def add_picture(self, path: Path) -> None:
        """Adds the face of an image file. Raises EnrollmentError, DeviceError if the file cannot be read."""
        frame = Frame(load_picture(path), index=0, captured_at=0.0)
        self._find.reset()
        faces = self._find(frame)
        if len(faces) != 1:
            raise EnrollmentError(
                f"{path.name} shows {f'{len(faces)} faces' if faces else 'no face'}",
                "choose an image with one face, or crop it",
            )
        try:
            self._add(self._view(frame, faces))
        except UnsuitableView as poor:
            raise EnrollmentError(f"{path.name} cannot be used: {poor}", "choose another image") from None

    def person(self, name: str) -> Person:
        """Person in the views. Raises EnrollmentError if there are none."""
        if not self._views:
            raise EnrollmentError(f"no good view of a face: {self._say}", "try again in good light")
        return Person(name, np.stack(self._vectors), tuple(self._views), self.embed.model)

    def person_before_camera(self, name: str) -> Person:
        """Like `person`, but raises EnrollmentError also if there are few views, or only one pose."""
        person = self.person(name)
        views, front = len(self._views), self._poses["front"]
        if views < NEEDED or not 0 < front < views:
            raise EnrollmentError(
                f"only {views} good views were taken, {front} of them from the front: {self._say}",
                "try again, and turn your head slowly to both sides",
            )
        return person

    def _view(self, frame: Frame, faces: Sequence[FaceTrack]) -> EnrolledView:
        """View of the only face in a frame, if it is good enough. Raises UnsuitableView."""
        if not faces:
            raise UnsuitableView("no face in view: sit in front of the camera")
        if len(faces) > 1:
            raise UnsuitableView(f"{len(faces)} faces in view: make sure you are alone")
        crop = align(frame, faces[0])
        if crop is None or _eye_distance(faces[0].landmarks) < LEAST_EYES_PX:
            raise UnsuitableView("the face is small: come closer to the camera")
        hidden = self._see_hidden(crop)
        if hidden.coverage > LARGEST_COVERAGE:
            raise UnsuitableView("part of the face is hidden: uncover it")
        if not LIGHT[0] <= _light(crop.image) <= LIGHT[1]:
            raise UnsuitableView("the face is too dark or too bright: change the light")
        if sharpness(crop.image) < LEAST_SHARPNESS:
            raise UnsuitableView("the face is blurred: hold still, or clean the lens")
        points = transform_points(faces[0].landmarks, crop.to_crop)
        return EnrolledView(crop.image.copy(), valid_region(frame.image, crop.to_crop, hidden.mask), points)

    def _add(self, view: EnrolledView) -> None:
        """Adds a view, unless it shows another person than before. Raises UnsuitableView."""
        (vector,) = vectors([view], self.embed)
        if self._vectors and match_score(np.stack(self._vectors), vector) < self.embed.same_person - VIEWS_BELOW:
            raise UnsuitableView("this is another face than before: enroll one person at a time")
        self._views.append(view)
        self._vectors.append(vector)

    def _missing(self) -> str:
        """What the user should do for the views that are still missing."""
        if self._poses["front"] < WANTED["front"]:
            return "look straight at the camera"
        if self._poses["left"] < WANTED["left"] and self._poses["right"] < WANTED["right"]:
            return "turn your head a little to one side"
        return "done" if self.complete else "turn your head a little to the other side"


def keep(person: Person, store: PeopleStore, embed: Embedder) -> Person:
    """Adds `person` to the store, with the earlier views under that name, newest first.

    Raises EnrollmentError if the name belongs to another person, or the face is enrolled under another name.
    """
    name = checked_name(person.name)
    before: Person | None = None
    for other in store.load().people:
        match = person_similarity(with_vectors(other, embed), person)
        if other.name == name:
            before = other
            if match < embed.same_person - VIEWS_BELOW:
                raise EnrollmentError(
                    f"{name} is enrolled with another face",
                    f"use another name, or remove the old one: occlufix-vcam enroll --delete {name!r}",
                )
        elif match >= embed.same_person:
            raise EnrollmentError(
                f"this face is already enrolled as {other.name}",
                f"add to it: occlufix-vcam enroll {other.name!r}, or remove it first: --delete {other.name!r}",
            )
    if before is not None:
        old = with_vectors(before, embed)
        views = (*person.views, *old.views)[:MOST_VIEWS]
        both = np.concatenate([person.embeddings, old.embeddings])[:MOST_VIEWS]
        person = replace(person, views=views, embeddings=both)
    person = replace(person, name=name)
    store.save(person)
    return person


def person_similarity(enrolled: Person, seen: Person) -> float:
    """Similarity of two people's views: the median over the views of one."""
    return float(np.median([match_score(enrolled.embeddings, vector) for vector in seen.embeddings]))


def pose_of(landmarks: Points) -> Pose:
    """Direction of the head as seen in the image, from the nose's distance to the eyes' middle."""
    left, right, nose = landmarks[:3]
    across = right - left
    turn = float((nose - (left + right) / 2) @ across / max(float(across @ across), 1.0))
    return "left" if turn < -TURNED else "right" if turn > TURNED else "front"


def sharpness(image: Image) -> float:
    """Mean absolute Laplacian of a crop's luma inside the face; low means blurred."""
    laplacian = cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.CV_32F)
    return float(cv2.mean(np.abs(laplacian), face_area())[0])


def _light(image: Image) -> float:
    return float(cv2.mean(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), face_area())[0])


def _eye_distance(landmarks: Points) -> float:
    return float(np.hypot(*(landmarks[1] - landmarks[0])))
