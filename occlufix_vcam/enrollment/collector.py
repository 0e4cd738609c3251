"""Getting to know a person: which pictures of a face are good enough to be kept, and whose face they show.

Looks at frames of a camera, or at picture files. A view is kept where there is one face, large, sharp, well lit and
hidden by nothing; views of several poses are wanted, because a face is turned in a call. All have to be one person.
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
from occlufix_vcam.people.person import EnrolledView, EnrolmentError, Person, checked_name
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

#: How many views of each pose a camera is asked for.
WANTED: dict[Pose, int] = {"front": 4, "left": 2, "right": 2}
#: Without so many, looking at a camera has failed: one side may be missing.
NEEDED = 4
#: The nose this far off the eyes' middle, in eye distances, means a turned head.
TURNED = 0.1
#: Eyes nearer together than this, in pixels of the picture, show too little of a face.
LEAST_EYES_PX = 40.0
#: Mean absolute Laplacian inside the face: the softest of 200 photographs had 3.9, blurred ones have less than 1.6.
LEAST_SHARPNESS = 2.4
LIGHT = (45.0, 225.0)
LARGEST_COVERAGE = 0.03
#: Between two views of a camera, seconds: the next one is to show something else.
VIEW_EVERY_S = 0.35
#: Views of one person may match by so much less than what names somebody; other people's hardly ever match so well.
VIEWS_BELOW = 0.1


@dataclass(frozen=True, slots=True)
class EnrolmentProgress:
    """How far looking has come: `views` of `wanted`, and one line for the user, what to do now."""

    views: int
    wanted: int
    say: str


class UnsuitableView(Exception):
    """This picture is not kept; the message tells the user what to do."""


class ViewCollector:
    """Gathers views of one person. Used by one thread."""

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
    def progress(self) -> EnrolmentProgress:
        return EnrolmentProgress(len(self._views), sum(WANTED.values()), self._say)

    @property
    def complete(self) -> bool:
        return all(self._poses[pose] >= wanted for pose, wanted in WANTED.items())

    def offer(self, frame: Frame) -> None:
        """One more frame of the camera: a view is kept, or `progress` says what is wrong. Raises EngineRunError."""
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
        """The face of a picture file. Raises EnrolmentError, DeviceError where the file can't be read."""
        frame = Frame(load_picture(path), index=0, captured_at=0.0)
        self._find.reset()
        faces = self._find(frame)
        if len(faces) != 1:
            raise EnrolmentError(
                f"{path.name} shows {f'{len(faces)} faces' if faces else 'no face'}",
                "choose a picture in which one face is seen, or cut the others off",
            )
        try:
            self._add(self._view(frame, faces))
        except UnsuitableView as poor:
            raise EnrolmentError(f"{path.name} will not do: {poor}", "choose another picture") from None

    def person(self, name: str) -> Person:
        """Whom the views show. Raises EnrolmentError where there are none."""
        if not self._views:
            raise EnrolmentError(f"no good view of a face was seen: {self._say}", "try again in good light")
        return Person(name, np.stack(self._vectors), tuple(self._views), self.embed.model)

    def person_before_camera(self, name: str) -> Person:
        """The same. Raises EnrolmentError also where there are few views, or of one pose only."""
        person = self.person(name)
        views, front = len(self._views), self._poses["front"]
        if views < NEEDED or not 0 < front < views:
            raise EnrolmentError(
                f"only {views} good views were seen, {front} of them from the front: {self._say}",
                "try again, and turn your head a little to both sides while it looks",
            )
        return person

    def _view(self, frame: Frame, faces: Sequence[FaceTrack]) -> EnrolledView:
        """The one face of a frame, if it is good enough to be kept. Raises UnsuitableView."""
        if not faces:
            raise UnsuitableView("no face is seen: sit in front of the camera")
        if len(faces) > 1:
            raise UnsuitableView(f"{len(faces)} faces are seen: be alone in the picture")
        crop = align(frame, faces[0])
        if crop is None or _eye_distance(faces[0].landmarks) < LEAST_EYES_PX:
            raise UnsuitableView("the face is small: come closer to the camera")
        hidden = self._see_hidden(crop)
        if hidden.coverage > LARGEST_COVERAGE:
            raise UnsuitableView("a part of the face is hidden: take away what covers it")
        if not LIGHT[0] <= _light(crop.image) <= LIGHT[1]:
            raise UnsuitableView("the face is too dark or too bright: change the light")
        if sharpness(crop.image) < LEAST_SHARPNESS:
            raise UnsuitableView("the face is blurred: hold still, or clean the lens")
        points = transform_points(faces[0].landmarks, crop.to_crop)
        return EnrolledView(crop.image.copy(), valid_region(frame.image, crop.to_crop, hidden.mask), points)

    def _add(self, view: EnrolledView) -> None:
        """Keeps a view, unless it shows somebody else than the views before. Raises UnsuitableView."""
        (vector,) = vectors([view], self.embed)
        if self._vectors and match_score(np.stack(self._vectors), vector) < self.embed.same_person - VIEWS_BELOW:
            raise UnsuitableView("this face is not the one of the views before: one person at a time")
        self._views.append(view)
        self._vectors.append(vector)

    def _missing(self) -> str:
        """What the user should do for the views that are still wanted."""
        if self._poses["front"] < WANTED["front"]:
            return "look straight at the camera"
        if self._poses["left"] < WANTED["left"] and self._poses["right"] < WANTED["right"]:
            return "turn your head a little to one side"
        return "done" if self.complete else "turn your head a little to the other side"


def keep(person: Person, store: PeopleStore, embed: Embedder) -> Person:
    """Adds `person` to the store, with the views that were there under the name, newest first.

    Raises EnrolmentError where the name is somebody else's, or the face is enrolled under another name.
    """
    name = checked_name(person.name)
    before: Person | None = None
    for other in store.load().people:
        match = person_similarity(with_vectors(other, embed), person)
        if other.name == name:
            before = other
            if match < embed.same_person - VIEWS_BELOW:
                raise EnrolmentError(
                    f"this face is not the one that is enrolled as {name}",
                    f"use another name, or remove the old one: occlufix-vcam enroll --delete {name!r}",
                )
        elif match >= embed.same_person:
            raise EnrolmentError(
                f"this face is enrolled already, as {other.name}",
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
    """How well two people's views match: the median over the views of one."""
    return float(np.median([match_score(enrolled.embeddings, vector) for vector in seen.embeddings]))


def pose_of(landmarks: Points) -> Pose:
    """Where the head is turned, as seen in the picture, by how far the nose is off the eyes' middle."""
    left, right, nose = landmarks[:3]
    across = right - left
    turn = float((nose - (left + right) / 2) @ across / max(float(across @ across), 1.0))
    return "left" if turn < -TURNED else "right" if turn > TURNED else "front"


def sharpness(image: Image) -> float:
    """Mean absolute Laplacian of a crop's luma inside the face: low means blurred."""
    laplacian = cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.CV_32F)
    return float(cv2.mean(np.abs(laplacian), face_area())[0])


def _light(image: Image) -> float:
    return float(cv2.mean(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), face_area())[0])


def _eye_distance(landmarks: Points) -> float:
    return float(np.hypot(*(landmarks[1] - landmarks[0])))
