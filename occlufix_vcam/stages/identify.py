"""Identifies which enrolled person a track shows: decided over several frames, dropped at once, never swapped.

Showing another person's face is far worse than showing none. So a track is unnamed until several frames agree, each
clearly on the same person; it is released when several looks in a row contradict, or when the image changes abruptly;
and it can become another person only by being unnamed first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import Image
from occlufix_vcam.core.frame import Crop, FaceTrack
from occlufix_vcam.people.person import EnrolledView, Person
from occlufix_vcam.stages.embed import DOUBT_BELOW, Embedder, Embedding
from occlufix_vcam.stages.geometry import face_share
from occlufix_vcam.stages.motion import Continuity
from occlufix_vcam.stages.timing import Stopwatch

#: Number of frames that have to agree.
AGREEING = 3
#: Margin by which the best person must exceed the second best.
MARGIN = 0.1
#: An undecided face is checked in each frame at first, for so many seconds; later, and once decided, only this often.
EAGER_S = 0.4
ASK_EVERY_S = 0.2
#: So many looks in a row have to contradict a decision: a mask lowers the cosines of the same person, too.
CONTRADICTING = 3
#: With more of the face hidden than this, it is not checked; if the hidden share changes by this much from the last
#: frame, it is checked at once: another person may be behind it.
LARGEST_COVERAGE, MUCH_COVERAGE = 0.75, 0.1


class FaceIdentifier:
    """Names the faces of enrolled people. Used by one thread."""

    def __init__(
        self,
        people: Callable[[], Sequence[Person]],
        embed: Embedder,
        at_close: Callable[[], None] = lambda: None,
        agreeing: int = AGREEING,
    ) -> None:
        """`people` is called in every frame and returns the same object until people are added or deleted.

        `at_close` ends the reader behind `people`; `agreeing` is the number of frames that have to agree.
        """
        self.close = at_close
        self._ask_people = people
        self._agreeing = agreeing
        self._embed = embed
        self._enrolled: Sequence[Person] = ()
        self._people: list[Person] = []
        self._tracks: dict[int, _Track] = {}

    def identify(self, track_id: int, crop: Crop, mask: Image) -> Person | None:
        """Person of this track, or None while uncertain. `mask` is 256x256 uint8, 255 = hidden.

        Raises EngineRunError.
        """
        self._keep_up()
        if not self._people:
            return None
        track = self._tracks.setdefault(track_id, _Track())
        if track.continuity.broken(crop.image, mask):
            track.start_again()
        coverage = face_share(mask)
        if track.is_due(coverage, crop.face.at) and coverage <= LARGEST_COVERAGE:
            self._weigh(track, self._embed(crop, mask))
        return track.person

    def forget(self, track_ids: Iterable[int]) -> None:
        """Forgets lost tracks; unknown ones are ignored."""
        for track_id in track_ids:
            self._tracks.pop(track_id, None)

    def _keep_up(self) -> None:
        """Applies additions and deletions of people; then every track is checked again."""
        enrolled = self._ask_people()
        if enrolled is not self._enrolled:
            self._enrolled = enrolled
            self._people = [with_vectors(person, self._embed) for person in enrolled]
            self._tracks.clear()

    def _weigh(self, track: _Track, embedding: Embedding) -> None:
        """Weighs one more embedding: it confirms, contradicts or adds to a decision."""
        scores = np.array([match_score(person.embeddings, embedding) for person in self._people])
        best = int(scores.argmax())
        if track.person is not None:
            own = next(index for index, person in enumerate(self._people) if person is track.person)
            contradicts = scores[own] < self._embed.same_person - DOUBT_BELOW or best != own
            track.contradicted = track.contradicted + 1 if contradicts else 0
            if track.contradicted >= CONTRADICTING:
                track.start_again()
            return
        track.scores.append(scores)
        del track.scores[: -self._agreeing]
        means = np.mean(track.scores, axis=0)
        best = int(means.argmax())
        second = float(np.delete(means, best).max(initial=-1.0))
        agreed = len(track.scores) == self._agreeing and all(int(one.argmax()) == best for one in track.scores)
        clear = means[best] >= self._embed.same_person and means[best] - second >= MARGIN
        if agreed and clear and not self._is_here(best):
            track.person = self._people[best]

    def _is_here(self, number: int) -> bool:
        """Whether another track already shows this person: no one appears twice."""
        return any(track.person is self._people[number] for track in self._tracks.values())


def with_vectors(person: Person, embed: Embedder) -> Person:
    """`person` with embeddings of this network: the stored ones, or new ones if another network made those."""
    if person.model == embed.model and len(person.embeddings):
        return person
    return replace(person, embeddings=vectors(person.views, embed), model=embed.model)


def vectors(views: Sequence[EnrolledView], embed: Embedder) -> NDArray[np.float32]:
    """Embeddings of enrolled views, one per row."""
    return np.stack([_vector(view, embed) for view in views])


def _vector(view: EnrolledView, embed: Embedder) -> Embedding:
    face = FaceTrack(track_id=-1, landmarks=view.landmarks, confidence=1.0)
    crop = Crop.of_template(face, view.image, np.eye(2, 3, dtype=np.float32))
    return embed(crop, cv2.bitwise_not(view.mask).astype(np.uint8, copy=False))


def match_score(vectors: NDArray[np.float32], embedding: Embedding) -> float:
    """Mean of the two best cosines with a person's embeddings: a single lucky view does not decide."""
    cosines = np.sort(vectors @ embedding)
    return float(cosines[-2:].mean())


@dataclass(slots=True, eq=False)
class _Track:
    """State of one face: its person and the last scores."""

    person: Person | None = None
    scores: list[np.ndarray] = field(default_factory=list)
    contradicted: int = 0
    now: float = 0.0
    asked_at: float = 0.0
    coverage: float = 0.0
    continuity: Continuity = field(default_factory=Continuity)
    watch: Stopwatch = field(default_factory=Stopwatch)

    def is_due(self, coverage: float, at: float) -> bool:
        """Whether to check this frame, of time `at`, with this much of the face hidden."""
        self.now += self.watch.step(at)
        changed = abs(coverage - self.coverage) > MUCH_COVERAGE
        self.coverage = coverage
        eager = self.person is None and self.now <= EAGER_S
        due = eager or changed or self.contradicted > 0 or self.now - self.asked_at >= ASK_EVERY_S
        if due:
            self.asked_at = self.now
        return due

    def start_again(self) -> None:
        """Releases the person; the next frames are checked."""
        self.person, self.contradicted, self.now, self.asked_at = None, 0, 0.0, 0.0
        self.scores.clear()
