"""Memory of faces for the restorer: the same face unhidden, from earlier in the call.

Views of an unhidden face are remembered. When something hides it, the best view is tracked along with the head
(stages/motion.py), matched to the current light, and passed to the restorer as its reference.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Protocol

import cv2
import numpy as np

from engines.contract import Image, Points
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.frame import Crop, FaceTrack, Frame, HiddenCrop
from occlufix_vcam.people.person import Person
from occlufix_vcam.stages.align import align
from occlufix_vcam.stages.embed import DOUBT_BELOW, Embedder, Embedding, cosine
from occlufix_vcam.stages.fine import detail_of, fine_detail
from occlufix_vcam.stages.geometry import face_area, face_share
from occlufix_vcam.stages.motion import IDENTITY, Continuity, MotionFeatures, motion, motion_features
from occlufix_vcam.stages.reference import (
    LEAST_SHARE,
    NO_REFERENCE,
    WELL_FOUND,
    WHOLE,
    Reference,
    ReferenceView,
    TrackedReference,
    best_shown,
    composed,
    is_covered,
    known_face,
    make_view,
    most_alike,
    unseen_part,
    valid_region,
    without_rim,
)
from occlufix_vcam.stages.timing import FRAME_S, Stopwatch

#: Seconds: a view is taken this often, and kept only if nothing hides the face for a while after it, because an
#: occluder is detected a frame or two late.
VIEW_EVERY_S, KEPT_AFTER_S = 0.13, 0.26
MOST_VIEWS = 8
#: With more of the face hidden than this, nothing is learnt from the rest.
PARTLY_HIDDEN = 0.35
#: With more of the face hidden or outside the picture, it is not checked who it is.
MUCH_UNSEEN = 0.65
#: Minimum sharpness of a view relative to the sharpest kept one; a moving face is blurred.
SHARP_ENOUGH = 0.6
#: If no view is found, or a part of the hole is in none, all are tried again after so many seconds.
SEARCH_EVERY_S = 0.16
#: How long, in seconds, and how many faces are kept after they left; a face that stays is checked this often, to make
#: sure that it still is the same person's.
GONE_S, MOST_GONE, CHECK_EVERY_S = 30.0, 4, 1.0
#: A face that changed abruptly, as by a hand that is not detected yet, is trusted again if its views are found in it
#: well within so many seconds.
DOUBTED_S = 0.4
#: One doubtful look at a covered face proves nothing: the same person behind a mask has cosines down to 0.37. The face
#: is looked at again this often, and given up after so many doubtful looks in a row if their mean is this far below the
#: threshold: clearly another person. While they are, nothing of it is shown. An uncovered face is given up after two.
LOOK_AGAIN_S, DOUBTFUL_LOOKS, CLEARLY_BELOW = 0.5, 4, 0.3
UNCOVERED_LOOKS = 2


class Memory(Protocol):
    """Learns from every crop, and recalls references for hidden ones; `forget` names lost tracks.

    `whose` numbers the remembered faces: a track that shows somebody else gets another number. `name` is the enrolled
    person as whom a track is recognised, or "".
    """

    def __call__(self, hidden: HiddenCrop) -> Reference: ...

    def whose(self, track_id: int) -> int: ...

    def name(self, track_id: int) -> str: ...

    def forget(self, track_ids: Iterable[int]) -> None: ...

    def close(self) -> None: ...


class NoMemory:
    """Remembers nothing: the network restores from what it sees around the hole."""

    def __call__(self, hidden: HiddenCrop) -> Reference:
        return NO_REFERENCE

    def whose(self, track_id: int) -> int:
        return track_id

    def name(self, track_id: int) -> str:
        return ""

    def forget(self, track_ids: Iterable[int]) -> None:
        """Does nothing: no track is remembered."""

    def close(self) -> None:
        """Does nothing: nothing is open."""


class KnownPeople(Protocol):
    """Names the faces of enrolled people: stages/identify.py, or a fake."""

    def identify(self, track_id: int, crop: Crop, mask: Image) -> Person | None: ...

    def forget(self, track_ids: Iterable[int]) -> None: ...

    def close(self) -> None: ...


class FaceMemory:
    """Memory of a call: for each track, a few views of the face from the last times it was unhidden.

    Without any, the views of an enrolled person. Bounded: MOST_VIEWS crops per face, MOST_GONE faces that left. Used by
    one thread.
    """

    def __init__(self, embed: Embedder | None = None, known: KnownPeople | None = None) -> None:
        """Without `embed`, a face that was lost for a moment is a new one, unless its track returns."""
        self._embed = embed
        self._known = known
        self._now = 0.0
        self._tracks: dict[int, _Face] = {}
        self._gone: list[tuple[float, int, _Face]] = []
        self._enrolled: dict[str, tuple[Person, list[ReferenceView]]] = {}
        self._names: dict[int, str] = {}

    def __call__(self, hidden: HiddenCrop) -> Reference:
        """Learns from what a crop shows of the face, and recalls what it does not show. Raises EngineRunError."""
        crop, unseen = hidden.crop, unseen_part(hidden)
        self._now = crop.face.at
        face = self._face(hidden, unseen)
        person = self._known.identify(crop.face.track_id, crop, unseen) if self._known is not None else None
        self._names[crop.face.track_id] = person.name if person is not None else ""
        face.learn(hidden, unseen)
        if not hidden.mask.any():
            return NO_REFERENCE
        return face.recall(hidden, self._views_of(person) if person is not None else [])

    def whose(self, track_id: int) -> int:
        """Number of the remembered face that a track showed last."""
        return self._tracks[track_id].number

    def name(self, track_id: int) -> str:
        """Enrolled person as whom a track is recognised, or ""."""
        return self._names.get(track_id, "")

    def forget(self, track_ids: Iterable[int]) -> None:
        """Keeps the faces of lost tracks for a while, in case they return."""
        track_ids = list(track_ids)
        for track_id in track_ids:
            self._names.pop(track_id, None)
            face = self._tracks.pop(track_id, None)
            if face is not None and face.views:
                self._gone = [*self._gone, (self._now, track_id, face)][-MOST_GONE:]
        if self._known is not None:
            self._known.forget(track_ids)

    def close(self) -> None:
        """Ends the reader of enrolled people."""
        if self._known is not None:
            self._known.close()

    def _face(self, hidden: HiddenCrop, unseen: Image) -> _Face:
        """Memory of this crop's face; a new one if it shows another person than before."""
        crop, is_hidden = hidden.crop, bool(hidden.mask.any())
        track_id = crop.face.track_id
        face = self._tracks.get(track_id) or self._returned(lambda id_, _: id_ == track_id)
        is_new = face is None
        face = face or _Face()
        broken = face.continuity.broken(crop.image, unseen)
        due = face.is_check_due(is_hidden, crop.face.at) or is_new or broken
        if due and self._embed is not None and face_share(unseen) <= MUCH_UNSEEN:
            who, same_person = self._embed(crop, unseen), self._embed.same_person
            if is_new:
                face = self._returned(lambda _, gone: gone.is_same(who, same_person)) or face
            elif face.is_another(who, same_person, is_hidden, broken):
                face = _Face()
            face.met(who, same_person)
        elif broken and self._embed is None:
            face.doubted_until = face.now + DOUBTED_S
        self._tracks[track_id] = face
        return face

    def _returned(self, is_it: Callable[[int, _Face], bool]) -> _Face | None:
        """Face that left recently: the last one that `is_it`, by its track and its memory."""
        self._gone = [entry for entry in self._gone if entry[0] >= self._now - GONE_S]
        for entry in reversed(self._gone):
            if is_it(*entry[1:]):
                self._gone.remove(entry)
                entry[2].nothing_hidden()
                return entry[2]
        return None

    def _views_of(self, person: Person) -> list[ReferenceView]:
        """Enrolled views of a person, prepared once."""
        made = self._enrolled.get(person.name)
        if made is None or made[0] is not person:
            views = [make_view(view.image, view.mask, detail_of(view.luma)) for view in person.views]
            made = self._enrolled[person.name] = (person, views)
        return made[1]


_NUMBERS = itertools.count()


class _Face:
    """One face: its views, newest last, those that wait to be kept, and those that are shown."""

    def __init__(self) -> None:
        self.number = next(_NUMBERS)
        self.views: list[ReferenceView] = []
        self.who: Embedding | None = None
        self.continuity = Continuity()
        #: Seconds that this face has been there, and until when it may be another person's; 0 where it is not doubted.
        self.now = 0.0
        self.doubted_until = 0.0
        self._watch, self._seconds = Stopwatch(), FRAME_S
        self._check_at = CHECK_EVERY_S
        self._doubtful: list[float] = []
        self._is_suspect = False
        self._waiting: list[tuple[float, ReferenceView]] = []
        self._view_at = 0.0
        self._shown: list[TrackedReference] = []
        self._last: MotionFeatures | None = None
        self._search_at = 0.0
        self._wanted = 0.0
        self._was_hidden = False

    @property
    def doubted(self) -> bool:
        """Whether its views are not to be relied on, until one is found well again."""
        return self.doubted_until > 0

    @property
    def is_withheld(self) -> bool:
        """Whether it may be another person."""
        return self.doubted or self._is_suspect

    def is_check_due(self, is_hidden: bool, at: float) -> bool:
        """Counts one more frame, of time `at`; returns whether to check that the face still is the same person's."""
        came = is_hidden and not self._was_hidden
        self._was_hidden = is_hidden
        self._seconds = self._watch.step(at)
        self.now += self._seconds
        if not came and self.now < self._check_at:
            return False
        self._check_at = self.now + CHECK_EVERY_S
        return True

    def is_same(self, who: Embedding, least: float) -> bool:
        return self.who is not None and cosine(self.who, who) >= least

    def is_another(self, who: Embedding, same_person: float, is_hidden: bool, broken: bool) -> bool:
        """Whether one more look makes it another person's face: doubtful looks that agree, or one at a cut."""
        if self.who is None or (similarity := cosine(self.who, who)) >= same_person - DOUBT_BELOW:
            self._doubtful, self._is_suspect = [], False
            return False
        self._doubtful.append(similarity)
        self._check_at = self.now + (LOOK_AGAIN_S if is_hidden else 0)
        self._is_suspect = float(np.mean(self._doubtful)) < same_person - CLEARLY_BELOW
        if is_hidden and not (broken and self._is_suspect):
            return self._is_suspect and len(self._doubtful) >= DOUBTFUL_LOOKS
        return broken or len(self._doubtful) >= UNCOVERED_LOOKS

    def met(self, who: Embedding, same_person: float) -> None:
        """Adds one more embedding of this face to the mean, unless it is a doubtful one."""
        if self.who is not None and cosine(self.who, who) < same_person - DOUBT_BELOW:
            return
        mean = who if self.who is None else 0.8 * self.who + 0.2 * who
        self.who = np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-6), np.float32)

    def nothing_hidden(self) -> None:
        """Ends what was shown."""
        self._shown, self._last, self._wanted = [], None, 0.0

    def learn(self, hidden: HiddenCrop, unseen: Image) -> None:
        """Learns from one more crop: it may become a view, unless it is hidden a moment later."""
        if not hidden.mask.any():
            self.nothing_hidden()
        if self.doubted:
            self._settle(hidden)
            return
        self._waiting = [(at, view) for at, view in self._waiting if not is_covered(view, hidden.mask)]
        while self._waiting and self._waiting[0][0] <= self.now - KEPT_AFTER_S:
            self._keep(self._waiting.pop(0)[1])
        if self.now >= self._view_at and max(hidden.coverage, face_share(unseen)) <= PARTLY_HIDDEN:
            self._view_at = self.now + VIEW_EVERY_S
            shown = without_rim(cv2.bitwise_not(unseen)) if unseen.any() else WHOLE
            view = make_view(hidden.crop.image, shown, fine_detail(hidden.crop))
            if view.is_good():
                self._waiting.append((self.now, view))

    def _settle(self, hidden: HiddenCrop) -> None:
        """Whether the face still is the remembered one: its views are found in it again, or forgotten."""
        self._waiting.clear()
        known = known_face(hidden.mask)
        if best_shown(self.views, motion_features(hidden.crop.image, known), known, WHOLE, least=WELL_FOUND):
            self.doubted_until = 0.0
        elif self.now >= self.doubted_until:
            self.views, self._shown, self.doubted_until = [], [], 0.0

    def _keep(self, view: ReferenceView) -> None:
        if self.views and view.sharpness < SHARP_ENOUGH * max(kept.sharpness for kept in self.views):
            return
        self.views.append(view)
        if len(self.views) > MOST_VIEWS:
            del self.views[most_alike(self.views)]

    def recall(self, hidden: HiddenCrop, enrolled: list[ReferenceView]) -> Reference:
        """Best view, placed where the face is now; other views fill what it does not show.

        `enrolled` views are used if none of this call is found.
        """
        known = known_face(hidden.mask)
        now = motion_features(hidden.crop.image, known)
        moved = motion(self._last, now, known) if self._last is not None else None
        self._last = now
        step = moved.matrix if moved is not None else None
        if self.is_withheld:
            self._shown = []
        for shown in self._shown:
            shown.follow(now, known, step, self._seconds)
        wanting = self._wanting(hidden.mask)
        grown = face_share(wanting) > self._wanted + LEAST_SHARE
        self._wanted = face_share(wanting)
        if self._wanted > LEAST_SHARE and (grown or self.now >= self._search_at):
            self._search_at = self.now + SEARCH_EVERY_S
            self._search(now, known, wanting, enrolled)
        return composed([shown.reference(hidden, known) for shown in self._shown], step)

    def _wanting(self, mask: Image) -> Image:
        """Part of the face's hole that no view shows which is still found."""
        rest = np.asarray(cv2.bitwise_and(mask, face_area()), np.uint8)
        for shown in self._shown:
            if shown.is_found():
                rest[shown.view.mask != 0] = 0
        return rest

    def _search(self, now: MotionFeatures, known: Image, wanting: Image, enrolled: list[ReferenceView]) -> None:
        """Searches for one more view; if none is found at all, the nearest enrolled one is placed by its landmarks."""
        still = [shown for shown in self._shown if shown.is_found()][-1:]
        views = [] if self.is_withheld else self.views
        found = best_shown(views, now, known, wanting) or best_shown(enrolled, now, known, wanting)
        if found is not None:
            self._shown = [*still, found]
        elif not self._shown and enrolled:
            nearest = min(enrolled, key=lambda view: float(cv2.absdiff(view.features.grey, now.grey).mean()))
            self._shown = [TrackedReference(nearest, IDENTITY, 0.0)]


class FixedReference:
    """One photograph of the person, used for every face."""

    def __init__(
        self, picture: Image, landmarks: Points, see_hidden: Callable[[Crop], HiddenCrop] | None = None
    ) -> None:
        """`picture` is BGR uint8 with the face's five `landmarks` in its pixels.

        What `see_hidden` marks as hiding that face is not valid. Raises ConfigError if the landmarks span no face.
        """
        face = FaceTrack(track_id=-1, landmarks=landmarks, confidence=1.0)
        crop = align(Frame(picture, index=0, captured_at=0.0), face)
        if crop is None:
            raise ConfigError(
                "the reference image shows no usable face", "choose an image with one clear, frontal face"
            )
        mask = valid_region(picture, crop.to_crop, see_hidden(crop).mask if see_hidden is not None else None)
        #: The photograph's face, and what of it is not valid (255).
        self.crop, self.hidden = crop, np.asarray(cv2.bitwise_not(mask), np.uint8)
        image = crop.image.copy()
        image[mask == 0] = 0
        self._view = make_view(image, mask)
        self._faces: dict[int, _Face] = {}

    def __call__(self, hidden: HiddenCrop) -> Reference:
        if not hidden.mask.any():
            return NO_REFERENCE
        return self._faces.setdefault(hidden.crop.face.track_id, _Face()).recall(hidden, [self._view])

    def whose(self, track_id: int) -> int:
        return track_id

    def name(self, track_id: int) -> str:
        return ""

    def forget(self, track_ids: Iterable[int]) -> None:
        """Does nothing: the photograph stays."""
        for track_id in track_ids:
            self._faces.pop(track_id, None)

    def close(self) -> None:
        """Does nothing: nothing is open."""
