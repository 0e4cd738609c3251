"""Which enrolled person a track shows: decided over several frames, doubted at once, never swapped for another.

Another person's face is far worse than none. So a track belongs to nobody until several frames agree, each clearly
for the same person; it is let go as soon as a frame speaks against it, or as the picture changes at a stroke; and it
can become another's only by belonging to nobody first.
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

#: So many frames have to agree.
AGREEING = 3
#: The best person has to be this much more similar than the second best.
MARGIN = 0.1
#: An undecided face is asked about in each of so many first frames; later, and once decided, only now and then.
EAGER_FRAMES = 12
ASK_EVERY = 6
#: With more of the face hidden than this, nothing is asked; when so much more or less is hidden than in the last frame,
#: it is asked at once: somebody else may be behind what came.
LARGEST_COVERAGE, MUCH_COVERAGE = 0.75, 0.1


class FaceIdentifier:
    """Names the faces of people who enrolled. Used by one thread."""

    def __init__(
        self,
        people: Callable[[], Sequence[Person]],
        embed: Embedder,
        at_close: Callable[[], None] = lambda: None,
    ) -> None:
        """`people` is asked in every frame, and gives the very same object until somebody comes or goes.

        `at_close` ends what `people` reads with.
        """
        self.close = at_close
        self._ask_people = people
        self._embed = embed
        self._enrolled: Sequence[Person] = ()
        self._people: list[Person] = []
        self._tracks: dict[int, _Track] = {}

    def identify(self, track_id: int, crop: Crop, mask: Image) -> Person | None:
        """The person of this track, or None while that is not certain. `mask` is 256x256 uint8, 255 = hidden.

        Raises EngineRunError.
        """
        self._keep_up()
        if not self._people:
            return None
        track = self._tracks.setdefault(track_id, _Track())
        if track.continuity.broken(crop.image, mask):
            track.start_again()
        coverage = face_share(mask)
        if track.is_due(coverage) and coverage <= LARGEST_COVERAGE:
            self._weigh(track, self._embed(crop, mask))
        return track.person

    def forget(self, track_ids: Iterable[int]) -> None:
        """Drops what was known of lost tracks; unknown ones are no trouble."""
        for track_id in track_ids:
            self._tracks.pop(track_id, None)

    def _keep_up(self) -> None:
        """Takes over who enrolled or was deleted meanwhile; then every track is asked about anew."""
        enrolled = self._ask_people()
        if enrolled is not self._enrolled:
            self._enrolled = enrolled
            self._people = [with_vectors(person, self._embed) for person in enrolled]
            self._tracks.clear()

    def _weigh(self, track: _Track, embedding: Embedding) -> None:
        """One more vector: it confirms, denies or adds up to a decision."""
        scores = np.array([match_score(person.embeddings, embedding) for person in self._people])
        best = int(scores.argmax())
        if track.person is not None:
            own = next(index for index, person in enumerate(self._people) if person is track.person)
            if scores[own] < self._embed.same_person - DOUBT_BELOW or best != own:
                track.start_again()
            return
        track.scores.append(scores)
        del track.scores[:-AGREEING]
        means = np.mean(track.scores, axis=0)
        best = int(means.argmax())
        second = float(np.delete(means, best).max(initial=-1.0))
        agreed = len(track.scores) == AGREEING and all(int(one.argmax()) == best for one in track.scores)
        clear = means[best] >= self._embed.same_person and means[best] - second >= MARGIN
        if agreed and clear and not self._is_here(best):
            track.person = self._people[best]

    def _is_here(self, number: int) -> bool:
        """Whether another track shows this person already: nobody is there twice."""
        return any(track.person is self._people[number] for track in self._tracks.values())


def with_vectors(person: Person, embed: Embedder) -> Person:
    """`person` with vectors of this network: his own, or new ones where another network made those."""
    if person.model == embed.model and len(person.embeddings):
        return person
    return replace(person, embeddings=vectors(person.views, embed), model=embed.model)


def vectors(views: Sequence[EnrolledView], embed: Embedder) -> NDArray[np.float32]:
    """The vectors of enrolled views, one a row."""
    return np.stack([_vector(view, embed) for view in views])


def _vector(view: EnrolledView, embed: Embedder) -> Embedding:
    face = FaceTrack(track_id=-1, landmarks=view.landmarks, confidence=1.0)
    crop = Crop(face, view.image, np.eye(2, 3, dtype=np.float32))
    return embed(crop, cv2.bitwise_not(view.mask).astype(np.uint8, copy=False))


def match_score(vectors: NDArray[np.float32], embedding: Embedding) -> float:
    """The mean of the two best cosines to a person's vectors: one lucky view alone does not decide."""
    cosines = np.sort(vectors @ embedding)
    return float(cosines[-2:].mean())


@dataclass(slots=True, eq=False)
class _Track:
    """What is known of one face: whose it is, and the last scores."""

    person: Person | None = None
    scores: list[np.ndarray] = field(default_factory=list)
    frames: int = 0
    coverage: float = 0.0
    continuity: Continuity = field(default_factory=Continuity)

    def is_due(self, coverage: float) -> bool:
        """Whether this frame, with so much of the face hidden, is one to look at."""
        self.frames += 1
        changed = abs(coverage - self.coverage) > MUCH_COVERAGE
        self.coverage = coverage
        eager = self.person is None and self.frames <= EAGER_FRAMES
        return eager or changed or self.frames % ASK_EVERY == 0

    def start_again(self) -> None:
        """Belongs to nobody, and is asked about in the next frames."""
        self.person, self.frames = None, 0
        self.scores.clear()
