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
from numpy.typing import NDArray

from engines.contract import Image, Points, transform_points
from occlufix_vcam.core.frame import Crop, FaceTrack, Frame, HiddenCrop
from occlufix_vcam.core.media.pictures import load_picture
from occlufix_vcam.people.person import EnrolledView, EnrollmentError, Person, checked_name
from occlufix_vcam.people.sealed import MOST_VIEWS
from occlufix_vcam.people.store import PeopleStore
from occlufix_vcam.stages.align import align
from occlufix_vcam.stages.embed import Embedder, Embedding
from occlufix_vcam.stages.find import FaceFinder
from occlufix_vcam.stages.fine import fine_detail
from occlufix_vcam.stages.geometry import face_area
from occlufix_vcam.stages.identify import match_score, vectors, with_vectors
from occlufix_vcam.stages.reference import valid_region

Pose = Literal["front", "left", "right"]
#: What is missing for the next view, as one word for those who say it in another language.
Need = Literal[
    "look",
    "front",
    "side",
    "other_side",
    "done",
    "no_face",
    "faces",
    "small",
    "hidden",
    "light",
    "blurred",
    "stranger",
    "same",
]

#: Views of each pose that a camera should deliver.
WANTED: dict[Pose, int] = {"front": 4, "left": 2, "right": 2}
#: With fewer, enrollment at a camera fails: one side may be missing.
NEEDED = 4
#: Distance of the nose from the eyes' middle, in eye distances, from which a head counts as turned.
TURNED = 0.1
#: Eyes closer together than this, in frame pixels, show too little of a face.
LEAST_EYES_PX = 40.0
#: Mean absolute Laplacian inside the face, and how many times that of the face blurred further (`REBLUR_PX`): what is
#: blurred already loses little (source of the idea: F. Crete et al., "The blur effect", SPIE 2007). In films of 24
#: people, by soft and by sharp cameras, a tenth of the frames has less than 2.2, and all have 1.35 times and more;
#: blurred by 2.5 px, 1.11 times at most.
LEAST_SHARPNESS, LEAST_LOSS, REBLUR_PX = 1.9, 1.25, 1.5
LIGHT = (45.0, 225.0)
LARGEST_COVERAGE = 0.03
#: Mean difference of two small crops, in grey levels, below which they are one photograph.
SAME_PICTURE = 2.0
#: Seconds between two views of a camera, so that the next one shows something else.
VIEW_EVERY_S = 0.35
#: Consecutive views of one person at a camera may match less well, by this much, than naming requires.
VIEWS_BELOW = 0.1
#: Cosine of a photograph with the mean of one person's other views, in other light, pose and year: 95 % of 20 people's
#: own photographs are above it, and 90 % of other people's below.
LEAST_ALIKE = 0.25


#: What the user should do.
SAID: dict[Need, str] = {
    "look": "look at the camera",
    "front": "look straight at the camera",
    "side": "turn your head a little to one side",
    "other_side": "turn your head a little to the other side",
    "done": "done",
    "no_face": "no face in view: sit in front of the camera",
    "small": "the face is small: come closer to the camera",
    "hidden": "part of the face is hidden: uncover it",
    "light": "the face is too dark or too bright: change the light",
    "blurred": "the face is blurred: hold still, or clean the lens",
    "stranger": "this is another face than before: enroll one person at a time",
    "same": "the same picture was already given",
}


@dataclass(frozen=True, slots=True)
class EnrollmentProgress:
    """Progress of a collection: `views` of `wanted`, and one line that tells the user what to do now.

    `need` is that line as a word, `poses` the views of each pose, `turn` how far the head is turned: -1 and 1 are far
    enough to the left and right of the image.
    """

    views: int
    wanted: int
    say: str
    need: Need
    poses: dict[Pose, int]
    turn: float


class UnsuitableView(Exception):
    """This image is not stored; the message tells the user what to do, `need` says it as a word."""

    def __init__(self, message: str, need: Need) -> None:
        super().__init__(message)
        self.need = need


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
        self._need: Need = "look"
        self._say = SAID["look"]
        self._turn = 0.0

    @property
    def progress(self) -> EnrollmentProgress:
        return EnrollmentProgress(
            len(self._views), sum(WANTED.values()), self._say, self._need, dict(self._poses), self._turn
        )

    @property
    def complete(self) -> bool:
        return all(self._poses[pose] >= wanted for pose, wanted in WANTED.items())

    def offer(self, frame: Frame) -> None:
        """Offers one camera frame: it becomes a view, or `progress` says what is wrong. Raises EngineRunError."""
        faces = self._find(frame)
        self._turn = turn_of(faces[0].landmarks) / TURNED if len(faces) == 1 else 0.0
        if frame.captured_at - self._last_at < VIEW_EVERY_S:
            return
        try:
            view = self._view(frame, faces)
            pose = pose_of(view.landmarks)
            if self._poses[pose] >= WANTED[pose]:
                raise _unsuitable(self._missing())
            self._add(view)
        except UnsuitableView as poor:
            self._say, self._need = str(poor), poor.need
            return
        self._poses[pose] += 1
        self._last_at = frame.captured_at
        self._need = self._missing()
        self._say = SAID[self._need]

    def add_picture(self, path: Path) -> None:
        """Adds the face of an image file; `leave_out_strangers` checks later whose it is.

        Raises UnsuitableView, DeviceError if the file cannot be read, EngineRunError.
        """
        frame = Frame(load_picture(path), index=0, captured_at=0.0)
        self._find.reset()
        faces = self._find(frame)
        if len(faces) != 1:
            many = f"{len(faces)} faces" if faces else "no face"
            raise UnsuitableView(f"it shows {many}: crop it to one face", "faces" if faces else "no_face")
        view = self._view(frame, faces)
        if any(is_same_picture(view.image, other.image) for other in self._views):
            raise _unsuitable("same")
        self._append(view)

    def leave_out_strangers(self) -> list[int]:
        """Removes views unlike the others, worst first; returns their numbers in the order in which they were added.

        Of two that are unlike each other, the first stays.
        """
        numbers = list(range(len(self._views)))
        out: list[int] = []
        while len(self._vectors) > 1:
            cosines = [_alike_others(self._vectors, at) for at in range(len(self._vectors))]
            worst = len(cosines) - 1 - int(np.argmin(cosines[::-1]))
            if cosines[worst] >= LEAST_ALIKE:
                break
            out.append(numbers.pop(worst))
            del self._views[worst], self._vectors[worst]
        return out

    def missing_poses(self) -> list[Pose]:
        """Poses of which there is no view."""
        there = {pose_of(view.landmarks) for view in self._views}
        return [pose for pose in WANTED if pose not in there]

    def person(self, name: str) -> Person:
        """Person in the views, in the most varied of many. Raises EnrollmentError if there are none."""
        if not self._views:
            raise EnrollmentError(
                f"no good view of a face: {self._say}", "try again in good light", code="no_good_view"
            )
        kept = most_varied(np.stack(self._vectors), MOST_VIEWS)
        return Person(
            name,
            np.stack([self._vectors[number] for number in kept]),
            tuple(self._views[number] for number in kept),
            self.embed.model,
        )

    def person_before_camera(self, name: str) -> Person:
        """Like `person`, but raises EnrollmentError also if there are few views, or only one pose."""
        person = self.person(name)
        views, front = len(self._views), self._poses["front"]
        if views < NEEDED or not 0 < front < views:
            raise EnrollmentError(
                f"only {views} good views were taken, {front} of them from the front: {self._say}",
                "try again, and turn your head slowly to both sides",
                code="few_views",
                views=views,
            )
        return person

    def _view(self, frame: Frame, faces: Sequence[FaceTrack]) -> EnrolledView:
        """View of the only face in a frame, if it is good enough. Raises UnsuitableView."""
        if not faces:
            raise _unsuitable("no_face")
        if len(faces) > 1:
            raise UnsuitableView(f"{len(faces)} faces in view: make sure you are alone", "faces")
        crop = align(frame, faces[0])
        if crop is None or _eye_distance(faces[0].landmarks) < LEAST_EYES_PX:
            raise _unsuitable("small")
        hidden = self._see_hidden(crop)
        if hidden.coverage > LARGEST_COVERAGE:
            raise _unsuitable("hidden")
        if not LIGHT[0] <= _light(crop.image) <= LIGHT[1]:
            raise _unsuitable("light")
        if is_blurred(crop.image):
            raise _unsuitable("blurred")
        points = transform_points(faces[0].landmarks, crop.to_crop)
        valid, fine = valid_region(frame.image, crop.to_crop, hidden.mask), fine_detail(crop)
        return EnrolledView(crop.image.copy(), valid, points, fine.luma if fine is not None else None)

    def _add(self, view: EnrolledView) -> None:
        """Adds a view of a camera, unless it shows another person than before. Raises UnsuitableView."""
        (vector,) = vectors([view], self.embed)
        if self._vectors and match_score(np.stack(self._vectors), vector) < self.embed.same_person - VIEWS_BELOW:
            raise _unsuitable("stranger")
        self._append(view, vector)

    def _append(self, view: EnrolledView, vector: Embedding | None = None) -> None:
        self._views.append(view)
        self._vectors.append(vectors([view], self.embed)[0] if vector is None else vector)

    def _missing(self) -> Need:
        """What the user should do for the views that are still missing."""
        if self._poses["front"] < WANTED["front"]:
            return "front"
        if self._poses["left"] < WANTED["left"] and self._poses["right"] < WANTED["right"]:
            return "side"
        return "done" if self.complete else "other_side"


def _unsuitable(need: Need) -> UnsuitableView:
    return UnsuitableView(SAID[need], need)


def keep(person: Person, store: PeopleStore, embed: Embedder) -> Person:
    """Adds `person` to the store, with the earlier views under that name, newest first.

    Raises EnrollmentError if the name belongs to another person, or the face is enrolled under another name.
    """
    person = replace(person, name=checked_name(person.name))
    with store.locked():
        others = [with_vectors(other, embed) for other in store.load().people]
        before = next((other for other in others if other.name == person.name), None)
        _check_is_new(person, [other for other in others if other is not before], embed)
        if before is not None:
            person = _joined(person, before)
        store.save(person)
    return person


def _check_is_new(person: Person, others: Sequence[Person], embed: Embedder) -> None:
    """Raises EnrollmentError if this face is enrolled under another name."""
    for other in others:
        if person_similarity(other, person) >= embed.same_person:
            raise EnrollmentError(
                f"this face is already enrolled as {other.name}",
                f"add to it: occlufix-vcam enroll {other.name!r}, or remove it first: --delete {other.name!r}",
                code="known_face",
                name=other.name,
            )


def _joined(person: Person, before: Person) -> Person:
    """`person` with the views of `before`. Raises EnrollmentError if they show different people."""
    if float(_mean_of(person.embeddings) @ _mean_of(before.embeddings)) < LEAST_ALIKE:
        raise EnrollmentError(
            f"{person.name} is enrolled with another face",
            f"use another name, or remove the old one: occlufix-vcam enroll --delete {person.name!r}",
            code="known_name",
            name=person.name,
        )
    return replace(
        person,
        views=(*person.views, *before.views)[:MOST_VIEWS],
        embeddings=np.concatenate([person.embeddings, before.embeddings])[:MOST_VIEWS],
    )


def person_similarity(enrolled: Person, seen: Person) -> float:
    """Similarity of two people's views: the median over the views of one."""
    return float(np.median([match_score(enrolled.embeddings, vector) for vector in seen.embeddings]))


def most_varied(embeddings: NDArray[np.float32], count: int) -> list[int]:
    """Numbers of up to `count` rows that differ most from each other, beginning with the first, in their order."""
    if len(embeddings) <= count:
        return list(range(len(embeddings)))
    kept = [0]
    while len(kept) < count:
        nearest = (embeddings @ embeddings[kept].T).max(axis=1)
        nearest[kept] = np.inf
        kept.append(int(nearest.argmin()))
    return sorted(kept)


def is_same_picture(one: Image, other: Image) -> bool:
    """Whether two crops show the same photograph, perhaps stored anew in another format or size."""
    small = [cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA) for image in (one, other)]
    return float(cv2.absdiff(small[0], small[1]).mean()) < SAME_PICTURE


def _mean_of(embeddings: NDArray[np.float32]) -> Embedding:
    mean = embeddings.mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-6), np.float32)


def _alike_others(embeddings: Sequence[Embedding], number: int) -> float:
    """Cosine of one embedding with the mean of the others."""
    others = np.stack([*embeddings[:number], *embeddings[number + 1 :]])
    return float(_mean_of(others) @ embeddings[number])


def pose_of(landmarks: Points) -> Pose:
    """Direction of the head as seen in the image."""
    turn = turn_of(landmarks)
    return "left" if turn < -TURNED else "right" if turn > TURNED else "front"


def turn_of(landmarks: Points) -> float:
    """Distance of the nose from the eyes' middle, in eye distances; negative to the left of the image."""
    left, right, nose = landmarks[:3]
    across = right - left
    return float((nose - (left + right) / 2) @ across / max(float(across @ across), 1.0))


def sharpness(image: Image) -> float:
    """Mean absolute Laplacian of a crop's luma inside the face; low means blurred."""
    laplacian = cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.CV_32F)
    return float(cv2.mean(np.abs(laplacian), face_area())[0])


def is_blurred(image: Image) -> bool:
    """Whether a crop's face is blurred: by the lens or its own motion, and not because the camera is a soft one."""
    detail = sharpness(image)
    softer = np.asarray(cv2.GaussianBlur(image, (0, 0), REBLUR_PX), np.uint8)
    return detail < LEAST_SHARPNESS or detail < LEAST_LOSS * sharpness(softer)


def _light(image: Image) -> float:
    return float(cv2.mean(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), face_area())[0])


def _eye_distance(landmarks: Points) -> float:
    return float(np.hypot(*(landmarks[1] - landmarks[0])))
