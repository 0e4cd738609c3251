"""What the restorer may know of the person: the same face unhidden, as it was seen before.

A face that nothing hides is remembered; when something comes in front of it, the view that fits best is followed
along with the head (stages/motion.py), brought to today's light, and given to the restorer as the reference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from engines.contract import CROP_PX, HIDDEN, Affine, Image, Points
from occlufix_vcam.errors import ConfigError
from occlufix_vcam.frame import Crop, FaceTrack, Frame, HiddenCrop
from occlufix_vcam.people import Person
from occlufix_vcam.stages.geometry import align, compose, face_area
from occlufix_vcam.stages.motion import IDENTITY, LOOK_PX, Continuity, Look, look, motion
from occlufix_vcam.stages.recognise import DOUBT, SAME_PERSON, Embedding, similarity

#: What is left out around an occluder or the picture's end, where pixels are mixed: pixels of the crop.
MARGIN_PX = 3

#: A view is tried every so many frames, and only kept once nothing has hidden the face for a while after it:
#: what comes in front is noticed a frame or two late.
LOOK_EVERY, KEPT_AFTER = 4, 8
MOST_VIEWS = 8
FEWEST_FEATURES = 20
#: With more of the face hidden than this, nothing is learnt of the rest; a smaller share of it is not worth a view.
PARTLY_HIDDEN, LEAST_SHARE = 0.35, 0.01
#: Where no view is found, or a part of the hole is in none, they are all tried again after so many frames.
SEARCH_EVERY = 5
#: Faces that left are kept so long, in seconds, and so many of them; a face that stays is looked at every so many
#: frames, to make sure that it still is the same person's.
GONE_S, MOST_GONE, CHECK_EVERY = 30.0, 4, 30
#: A view at least this sharp, against the sharpest that is kept; a face in motion is blurred.
SHARP_ENOUGH = 0.6
LIGHT_RANGE = (30.0, 225.0)
#: Share of the corners that must have gone along for a view to count as found in the crop, and for it to be taken
#: although an older one might be found better: a newer one has the light and the expression of the moment.
FOUND, WELL_FOUND = 0.45, 0.65
#: Share of the way from where the motion since the last frame says a view lies to where it is seen: the first is
#: steady, the second does not drift.
PULL = 0.15
#: Mean difference between the view and what is seen around the hole, grey levels, up to which a view is
#: trusted wholly, and from which on it is not trusted at all.
TRUSTED, DOUBTED = 12.0, 22.0
#: Light and trust are worked out in cells of this many crop pixels.
CELL_PX = 8
_CELLS = CROP_PX // CELL_PX
#: Share of the way to the newest light and trust in one frame.
EASE = 0.35


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The person's own face in the template: `image` 256x256x3 uint8 BGR, `mask` 256x256 uint8, 255 = valid.

    `trust` (256x256 uint8, or None for nowhere) says how far it may be shown as it is; `motion` takes the pixels of
    the same face's last crop to this one's, and is None where that is not known.
    """

    image: Image
    mask: Image
    trust: Image | None = None
    motion: Affine | None = None


WHOLE: Image = np.full((CROP_PX, CROP_PX), HIDDEN, np.uint8)
WHOLE.flags.writeable = False
NO_REFERENCE = Reference(np.zeros((CROP_PX, CROP_PX, 3), np.uint8), np.zeros((CROP_PX, CROP_PX), np.uint8))


class Memory(Protocol):
    """Learns from every crop, and gives what it knows of those that are hidden; `forget` names lost tracks."""

    def __call__(self, hidden: HiddenCrop) -> Reference: ...

    def forget(self, track_ids: Iterable[int]) -> None: ...


class NoMemory:
    """Remembers nobody: the network restores from what it sees around the hole."""

    def __call__(self, hidden: HiddenCrop) -> Reference:
        return NO_REFERENCE

    def forget(self, track_ids: Iterable[int]) -> None:
        """Nothing is remembered of any track."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One look at the unhidden face: the crop, where it is valid (255), and what motion is told from."""

    image: Image
    mask: Image
    look: Look
    sharpness: float

    def is_good(self) -> bool:
        """Neither too dark nor too bright, and with enough on it to follow."""
        light = float(self.look.grey.mean())
        return LIGHT_RANGE[0] < light < LIGHT_RANGE[1] and len(self.look.corners) >= FEWEST_FEATURES


class KnownPeople(Protocol):
    """Names the faces of people who enrolled: stages/known.py, or a fake."""

    def identify(self, track_id: int, crop: Crop, mask: Image) -> Person | None: ...

    def forget(self, track_ids: Iterable[int]) -> None: ...


class FaceMemory:
    """The memory of a call: for each track, a few views of the face from the last times nothing hid it.

    Where there is none, the views of a person who enrolled. Bounded: MOST_VIEWS crops for a face, MOST_GONE faces
    that left. Used by one thread.
    """

    def __init__(
        self,
        recognise: Callable[[Crop, Image], Embedding] | None = None,
        known: KnownPeople | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without `recognise` a face that was lost for a moment is a new one."""
        self._recognise = recognise
        self._known = known
        self._clock = clock
        self._tracks: dict[int, _Face] = {}
        self._gone: list[tuple[float, _Face]] = []
        self._enrolled: dict[str, tuple[Person, list[View]]] = {}

    def __call__(self, hidden: HiddenCrop) -> Reference:
        """Learns from what a crop shows of the face, and recalls what it does not show. Raises EngineRunError."""
        crop, mask = hidden.crop, hidden.mask
        face = self._face(crop, mask)
        person = self._known.identify(crop.face.track_id, crop, mask) if self._known is not None else None
        face.learn(hidden)
        if not mask.any():
            return NO_REFERENCE
        return face.recall(hidden, self._views_of(person) if person is not None else [])

    def forget(self, track_ids: Iterable[int]) -> None:
        """Keeps the faces of lost tracks for a while, in case they come back."""
        track_ids = list(track_ids)
        for track_id in track_ids:
            face = self._tracks.pop(track_id, None)
            if face is not None and face.who is not None and face.views:
                self._gone = [*self._gone, (self._clock(), face)][-MOST_GONE:]
        if self._known is not None:
            self._known.forget(track_ids)

    def _face(self, crop: Crop, mask: Image) -> _Face:
        """The memory of this crop's face; a new one where it shows another person than before."""
        face = self._tracks.get(crop.face.track_id)
        is_new = face is None
        face = face or _Face()
        broken = face.continuity.broken(crop.image, mask)
        due = face.is_check_due(bool(mask.any())) or is_new or broken
        if due and self._recognise is not None:
            who = self._recognise(crop, mask)
            if is_new:
                face = self._returned(who) or face
            elif face.is_another(who):
                face = _Face()
            face.met(who)
        elif broken:
            face = _Face()
        self._tracks[crop.face.track_id] = face
        return face

    def _returned(self, who: Embedding) -> _Face | None:
        """The face of this person that left not long ago."""
        since = self._clock() - GONE_S
        self._gone = [(left, face) for left, face in self._gone if left >= since]
        for entry in reversed(self._gone):
            if entry[1].is_same(who):
                self._gone.remove(entry)
                entry[1].nothing_hidden()
                return entry[1]
        return None

    def _views_of(self, person: Person) -> list[View]:
        """The views that a person enrolled, made ready once."""
        made = self._enrolled.get(person.name)
        if made is None or made[0] is not person:
            made = self._enrolled[person.name] = (person, [_view(view.image, view.mask) for view in person.views])
        return made[1]


class _Face:
    """One face: its views, newest last, those that wait to be kept, and those that are being shown."""

    def __init__(self) -> None:
        self.views: list[View] = []
        self.who: Embedding | None = None
        self.continuity = Continuity()
        self._waiting: list[tuple[int, View]] = []
        self._shown: list[_Shown] = []
        self._last: Look | None = None
        self._frames = 0
        self._search_at = 0
        self._wanted = 0.0
        self._was_hidden = False

    def is_check_due(self, is_hidden: bool) -> bool:
        """One more frame; whether it is one to make sure that the face still is the same person's."""
        came = is_hidden and not self._was_hidden
        self._was_hidden = is_hidden
        self._frames += 1
        return came or self._frames % CHECK_EVERY == 0

    def is_same(self, who: Embedding) -> bool:
        return self.who is not None and similarity(self.who, who) >= SAME_PERSON

    def is_another(self, who: Embedding) -> bool:
        return self.who is not None and similarity(self.who, who) < DOUBT

    def met(self, who: Embedding) -> None:
        """One more vector of this face; what is kept is their mean."""
        mean = who if self.who is None else 0.8 * self.who + 0.2 * who
        self.who = np.asarray(mean / np.linalg.norm(mean), np.float32)

    def nothing_hidden(self) -> None:
        """What was shown is over."""
        self._shown, self._last, self._wanted = [], None, 0.0

    def learn(self, hidden: HiddenCrop) -> None:
        """One more crop: what it shows of the face may become a view, unless it is hidden a moment later."""
        mask = hidden.mask
        if not mask.any():
            self.nothing_hidden()
        self._waiting = [(at, view) for at, view in self._waiting if not _is_hidden(view, mask)]
        while self._waiting and self._waiting[0][0] <= self._frames - KEPT_AFTER:
            self._keep(self._waiting.pop(0)[1])
        if self._frames % LOOK_EVERY == 0 and hidden.coverage <= PARTLY_HIDDEN:
            view = _view(hidden.crop.image, _without_rim(cv2.bitwise_not(mask)) if mask.any() else WHOLE)
            if view.is_good():
                self._waiting.append((self._frames, view))

    def _keep(self, view: View) -> None:
        if self.views and view.sharpness < SHARP_ENOUGH * max(kept.sharpness for kept in self.views):
            return
        self.views.append(view)
        if len(self.views) > MOST_VIEWS:
            del self.views[_most_alike(self.views)]

    def recall(self, hidden: HiddenCrop, enrolled: list[View]) -> Reference:
        """The best view, laid where the face now is; what it does not show is filled from others.

        `enrolled` views serve where none of this call is found.
        """
        known = _known_face(hidden.mask)
        now = look(hidden.crop.image, known)
        moved = motion(self._last, now, known) if self._last is not None else None
        self._last = now
        step = moved.matrix if moved is not None else None
        for shown in self._shown:
            shown.follow(now, known, step)
        wanting = self._wanting(hidden.mask)
        grown = _share(wanting) > self._wanted + LEAST_SHARE
        self._wanted = _share(wanting)
        if self._wanted > LEAST_SHARE and (grown or self._frames >= self._search_at):
            self._search_at = self._frames + SEARCH_EVERY
            self._search(now, known, wanting, enrolled)
        return _composed([shown.reference(hidden, known) for shown in self._shown], step)

    def _wanting(self, mask: Image) -> Image:
        """The part of the face's hole that no view shows which is still found."""
        rest = np.asarray(cv2.bitwise_and(mask, face_area()), np.uint8)
        for shown in self._shown:
            if shown.is_found():
                rest[shown.view.mask != 0] = 0
        return rest

    def _search(self, now: Look, known: Image, wanting: Image, enrolled: list[View]) -> None:
        """Looks for one more view; where none is found at all, the enrolled one nearest lies by its landmarks."""
        still = [shown for shown in self._shown if shown.is_found()][-1:]
        found = _best_shown(self.views, now, known, wanting) or _best_shown(enrolled, now, known, wanting)
        if found is not None:
            self._shown = [*still, found]
        elif not self._shown and enrolled:
            nearest = min(enrolled, key=lambda view: float(cv2.absdiff(view.look.grey, now.grey).mean()))
            self._shown = [_Shown(nearest, IDENTITY, 0.0)]


class _Shown:
    """A view that is being shown: where it lies in the crop, and how its light has to be changed."""

    def __init__(self, view: View, matrix: Affine, share: float) -> None:
        self.view = view
        self.share = share
        self._matrix = matrix
        self._light: NDArray[np.float32] | None = None
        self._trust: NDArray[np.float32] | None = None

    def is_found(self) -> bool:
        """Whether the view was found in the last crop."""
        return self.share >= FOUND

    def follow(self, now: Look, known: Image, step: Affine | None) -> None:
        """Goes along with the face."""
        expected = compose(step, self._matrix) if step is not None else self._matrix
        seen = motion(self.view.look, now, known, expected)
        self._matrix = expected if seen is None else (expected + PULL * (seen.matrix - expected)).astype(np.float32)
        self.share = seen.share if seen is not None else 0.0

    def reference(self, hidden: HiddenCrop, known: Image) -> Reference:
        """The view as it looks in this crop."""
        size = (CROP_PX, CROP_PX)
        image = np.empty((CROP_PX, CROP_PX, 3), np.uint8)
        mask = np.empty((CROP_PX, CROP_PX), np.uint8)
        cv2.warpAffine(self.view.image, self._matrix, size, dst=image, borderMode=cv2.BORDER_REPLICATE)
        cv2.warpAffine(self.view.mask, self._matrix, size, dst=mask, borderMode=cv2.BORDER_CONSTANT)
        cv2.threshold(mask, 254, HIDDEN, cv2.THRESH_BINARY, dst=mask)
        light, fit = _compared(image, mask, hidden.crop.image, known)
        self._light = light if self._light is None else self._light + EASE * (light - self._light)
        self._trust = fit if self._trust is None else self._trust + EASE * (fit - self._trust)
        cv2.add(image, cv2.resize(self._light, size, interpolation=cv2.INTER_LINEAR), dst=image, dtype=cv2.CV_8U)
        trust = cv2.resize(self._trust * (HIDDEN if self.is_found() else 0), size, interpolation=cv2.INTER_LINEAR)
        return Reference(image, mask, trust.astype(np.uint8) & mask)


def _view(image: Image, mask: Image) -> View:
    seen = look(image, cv2.bitwise_and(face_area(), mask).astype(np.uint8))
    inside = cv2.resize(face_area(), (LOOK_PX, LOOK_PX), interpolation=cv2.INTER_NEAREST) > 0
    edges = cv2.Laplacian(seen.grey, cv2.CV_32F)
    return View(image, mask, seen, float(np.abs(edges[inside]).mean()))


def _most_alike(views: list[View]) -> int:
    """The older one of the two views that differ least; the newest two always stay."""
    small = [cv2.resize(view.look.grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32) for view in views]
    distances = {
        float(np.abs(small[older] - small[newer]).mean() + np.mean(views[older].mask != views[newer].mask) * 50): older
        for older in range(len(views) - 2)
        for newer in range(older + 1, len(views))
    }
    return distances[min(distances)]


def _best_shown(views: list[View], now: Look, known: Image, hole: Image) -> _Shown | None:
    """Of the views that show some of the `hole` the newest that is found well, else the one that is found best."""
    best: _Shown | None = None
    for view in reversed(views):
        if _share(cv2.bitwise_and(view.mask, hole)) <= LEAST_SHARE:
            continue
        found = motion(view.look, now, known, levels=3)
        if found is not None and found.share >= (best.share if best else FOUND):
            best = _Shown(view, found.matrix, found.share)
            if best.share >= WELL_FOUND:
                break
    return best


def _composed(references: list[Reference], step: Affine | None) -> Reference:
    """The first of `references`, with the next ones where it is not valid."""
    if not references:
        return replace(NO_REFERENCE, motion=step)
    first = references[0]
    for other in references[1:]:
        fill = cv2.bitwise_and(other.mask, cv2.bitwise_not(first.mask))
        cv2.copyTo(other.image, fill, first.image)
        cv2.copyTo(other.mask, fill, first.mask)
        if first.trust is not None and other.trust is not None:
            cv2.copyTo(other.trust, fill, first.trust)
    return replace(first, motion=step)


def _is_hidden(view: View, mask: Image) -> bool:
    """Whether something hides a part of the face that `view` shows."""
    return _share(cv2.bitwise_and(cv2.bitwise_and(view.mask, mask), face_area())) > LEAST_SHARE


def _share(part: MatLike) -> float:
    """How much of the face's area `part` is."""
    return cv2.countNonZero(part) / cv2.countNonZero(face_area())


def _without_rim(valid: MatLike) -> Image:
    """`valid` without MARGIN_PX at its edges, where pixels are mixed."""
    side = 2 * MARGIN_PX + 1
    return np.asarray(cv2.erode(valid, np.ones((side, side), np.uint8)), np.uint8)


def _known_face(mask: Image) -> Image:
    """Where the face is and nothing hides it: 256x256 uint8."""
    return np.asarray(cv2.bitwise_and(cv2.bitwise_not(mask), face_area()), np.uint8)


def _compared(image: Image, mask: Image, crop: Image, known: Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How the light has changed from `image` to `crop`, and how far `image` fits it, both in cells.

    Compared is what both show; from there it is spread into the hole. The light is in grey levels by channel, the
    trust 0..1.
    """
    both = cv2.bitwise_and(mask, known)
    cells = (_CELLS, _CELLS)
    share = (cv2.resize(both, cells, interpolation=cv2.INTER_AREA) / HIDDEN).astype(np.float32)
    step = np.stack(
        [
            cv2.resize(cv2.bitwise_and(picture, picture, mask=both), cells, interpolation=cv2.INTER_AREA)
            for picture in (crop, image)
        ]
    ).astype(np.float32)
    change = (step[0] - step[1]) / np.maximum(share, 0.05)[..., None]
    light = _spread(np.clip(change, -60, 60), share, 4.0)
    off = np.abs(change - light).mean(axis=2)
    doubt = _spread(off[..., None], share, 2.0)
    trust = np.clip((DOUBTED - doubt) / (DOUBTED - TRUSTED), 0, 1)
    return light, trust.astype(np.float32)


def _spread(values: NDArray[np.float32], share: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    """`values` of cells smoothed over `reach` cells, each counted by its share; far from any, their mean."""
    weighted = values * share[..., None]
    mean = weighted.sum(axis=(0, 1)) / (share.sum() + 1e-3)
    near = cv2.GaussianBlur(weighted, (0, 0), reach, borderType=cv2.BORDER_CONSTANT).reshape(values.shape)
    weight = cv2.GaussianBlur(share, (0, 0), reach, borderType=cv2.BORDER_CONSTANT)[..., None]
    return np.asarray((near + 0.02 * mean) / (weight + 0.02), np.float32)


class FixedReference:
    """One photograph of the person, for every face that is asked about."""

    def __init__(
        self, picture: Image, landmarks: Points, see_hidden: Callable[[Crop], HiddenCrop] | None = None
    ) -> None:
        """`picture` is BGR uint8 with the face's five `landmarks` in its pixels.

        What `see_hidden` says hides that face is not valid. Raises ConfigError where the landmarks span no face.
        """
        face = FaceTrack(track_id=-1, landmarks=landmarks, confidence=1.0)
        crop = align(Frame(picture, index=0, captured_at=0.0), face)
        if crop is None:
            raise ConfigError(
                "the reference picture shows no usable face", "choose a picture with one clear, frontal face"
            )
        valid = np.full(picture.shape[:2], HIDDEN, np.uint8)
        mask = np.empty((CROP_PX, CROP_PX), np.uint8)
        cv2.warpAffine(valid, crop.to_crop, (CROP_PX, CROP_PX), dst=mask, borderMode=cv2.BORDER_CONSTANT)
        cv2.threshold(mask, 254, HIDDEN, cv2.THRESH_BINARY, dst=mask)
        if see_hidden is not None:
            mask[see_hidden(crop).mask != 0] = 0
        mask = _without_rim(mask)
        image = crop.image.copy()
        image[mask == 0] = 0
        self._view = _view(image, mask)
        self._faces: dict[int, _Face] = {}

    def __call__(self, hidden: HiddenCrop) -> Reference:
        if not hidden.mask.any():
            return NO_REFERENCE
        return self._faces.setdefault(hidden.crop.face.track_id, _Face()).recall(hidden, [self._view])

    def forget(self, track_ids: Iterable[int]) -> None:
        """The photograph stays, whoever comes and goes."""
        for track_id in track_ids:
            self._faces.pop(track_id, None)
