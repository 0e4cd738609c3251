"""Segments what hides the face: the `hidden` network, smoothed over time, or a mask from the user."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from engines.base import InferenceEngine, Tensor
from engines.contract import CROP_PX, HIDDEN, TEMPLATE_PART, WIDE_PX, Image
from occlufix_vcam.core.frame import Crop, HiddenCrop, in_wide
from occlufix_vcam.stages.geometry import face_area, face_share, to_wide_field, warp_mask
from occlufix_vcam.stages.motion import Stillness, in_cells
from occlufix_vcam.stages.presence.pose import covers_face, turn_of
from occlufix_vcam.stages.timing import Stopwatch, eased

#: Share of the way to the newest probability in a thirtieth of a second: a hand appears at once and disappears within a
#: tenth of a second.
ATTACK, RELEASE = 0.7, 0.3
#: A smaller spot, in crop pixels, is noise of the network and no occluder.
SPECK_PX = 80
#: The mask grows by this much, so that neither the occluder's rim nor the shadow beside it remains.
GROWTH_PX = 6
_GROWTH = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * GROWTH_PX + 1, 2 * GROWTH_PX + 1))
#: Occluders farther from the face, as a share of its area's axes, stay in the image: an arm, the foot of a cup.
FACE_REACH = 1.4
#: A crop pixel of which a user's mask covers this much, of 255, shows something of the thing.
LEAST_GIVEN = 32
#: While nothing changes, the network looks at one face a frame in turn: at each in every second frame, with more faces
#: in one of up to so many; and this often at least.
MOST_FRAMES, LOOK_EVERY_S = 4, 0.25
#: In a hurry, it looks at each in one of MOST_FRAMES, and so many times as large a change is none.
HURRIED = 1.5
#: A thing is sure from this probability on, of 255. It is a face mask if a share of at least this of what is sure lies
#: before the face, and so many pixels of it.
SURE, MASK_SHARE, MASK_PX = 245, 0.85, 4000
#: From so many sure pixels in the template on it is a thing that a turned face hides behind. Background beside the far
#: cheek is never sure: 3 pixels at most on 319 frames and 411 portraits of uncovered people, 53 of them turned.
SURE_PX = 400
#: Share of a face that must be hidden, unless the user says otherwise.
USUAL_COVERAGE = 0.02
#: In a single picture a thing counts, however little of the face it hides, if it reaches the face's area times this and
#: so much of it is sure (crop pixels). 38 of 97 photographs of hands and things at the jaw have one, of 798 uncovered
#: portraits and 102 in which a thing is near a face 5 and 1; 4 of the 5 do hold something to face or ear.
AT_FACE, SURE_THING_PX = 1.1, 800
#: Beyond the face, a part of a face mask this thick (crop pixels) counts from this mean probability on, of 255, taken
#: over squares of this side: collars and hair beside a mask reach about 170. Of an arm, true parts have as little.
THICK_PX, DOUBTFUL, AROUND_PX = 9, 220, 25
#: A face that counts as hidden is released at this share of what it takes.
LET_GO = 0.5
NOTHING: Image = np.zeros((WIDE_PX, WIDE_PX), np.uint8)
NOTHING.flags.writeable = False


class HiddenSegmenter:
    """Runs the network and smooths each track over time, so that no pixel and no face flickers on or off.

    The network sees the template or the wide field, whichever its input is as large as. In the wide field, a thing that
    hides some of the face is marked wholly, and one that hides nothing of it is left out.
    A pixel becomes hidden at probability `on` and known again below `off`. A face whose hidden share stays below
    `min_coverage` gets an empty mask, so that it passes untouched. Used by one thread.
    """

    def __init__(
        self,
        engine: InferenceEngine,
        *,
        on: float = 0.5,
        off: float = 0.35,
        min_coverage: float = USUAL_COVERAGE,
        every_frame: bool = True,
        mirrored: bool = False,
    ) -> None:
        """Unless `every_frame`, the network rests while nothing changes: its last answer holds.

        `mirrored`: it sees each face mirrored, too, and the mean holds, for pictures for which there is time. What is
        sure then counts although it hides less, such as a hand at the jaw, unless `min_coverage` is raised.
        """
        #: While it hurries, the network rests longer, and through somewhat larger changes.
        self.hurries = False
        self._engine = engine
        self._every_frame = every_frame or engine.inputs[0].shape[1] != WIDE_PX
        self._mirrored = mirrored
        self._side = engine.inputs[0].shape[1]
        self._on = round(on * 255)
        self._off = round(off * 255)
        self._min_coverage = min_coverage
        self._takes_sure = mirrored and self._side == WIDE_PX and min_coverage <= USUAL_COVERAGE
        self._tracks: dict[int, _Track] = {}
        self._looked_at = -np.inf

    def __call__(self, crop: Crop) -> HiddenCrop:
        is_wide = self._side == WIDE_PX
        part = TEMPLATE_PART if is_wide else np.s_[:]
        track = self._tracks.setdefault(crop.face.track_id, _Track())
        may_carry = self._look(track, crop)
        probability = track.answer
        enough = LET_GO if track.covered else 1.0
        least = self._min_coverage * enough
        marked, turn = np.greater_equal(probability[part], self._off), turn_of(crop.face.landmarks)
        if not covers_face(marked, turn, least) and np.count_nonzero(probability[part] >= SURE) < SURE_PX * enough:
            probability = np.zeros_like(probability)  # it only marks the background beside the far cheek
        seen = track.mask.update(probability, self._on, self._off, crop.face.at)
        coverage = face_share(seen[part])
        track.covered = coverage >= least or (self._takes_sure and is_sure_thing(seen, probability))
        track.hides = NOTHING
        if not track.covered:
            return HiddenCrop.of_template(crop, np.zeros((CROP_PX, CROP_PX), np.uint8), 0.0)
        if not is_wide:
            mask = _grown(cv2.bitwise_and(seen, face_area(FACE_REACH)))
            return HiddenCrop.of_template(crop, mask, coverage)
        reach = AT_FACE if self._mirrored else 1.0
        wide_mask = track.hides = _grown(before_face(without_doubtful(seen, track.mask.probability), reach))
        mask = np.ascontiguousarray(wide_mask[TEMPLATE_PART])
        return HiddenCrop(crop, mask, coverage, wide_mask, may_carry=may_carry)

    def _look(self, track: _Track, crop: Crop) -> bool:
        """Asks the network, unless nothing changed and it is another frame's turn. Returns whether the restorer rests.

        That paints what changed at once, and what did not in the frame after the look: so never both networks run.
        """
        cells = in_cells(crop.wide)
        is_still = not self._every_frame and track.still.lasts(cells, in_cells(track.hides))
        most = MOST_FRAMES if self.hurries else min(len(self._tracks) + 1, MOST_FRAMES)
        track.age += 1
        at = crop.face.at
        is_turn = track.age >= most and self._looked_at != at
        if is_still and not is_turn and 0 <= at - track.looked_at < LOOK_EVERY_S:
            return track.age != 1
        track.answer = ask(self._engine, crop)
        if self._mirrored:
            other = ask(self._engine, crop, mirrored=True)
            track.answer = np.asarray(cv2.addWeighted(track.answer, 0.5, other, 0.5, 0))
        track.still.keep(cells, HURRIED if self.hurries else 1.0)
        track.age, track.looked_at, self._looked_at = 0, at, at
        return is_still

    def forget(self, track_ids: Iterable[int]) -> None:
        """Forgets lost tracks; unknown ones are ignored."""
        for track_id in track_ids:
            self._tracks.pop(track_id, None)


def ask(engine: InferenceEngine, crop: Crop, mirrored: bool = False) -> Image:
    """The probability (0..255) that each pixel hides the face, in the wide field or the template, as the network has
    it; if `mirrored`, as it sees the face mirrored.
    """
    side = engine.inputs[0].shape[1]
    turn = np.s_[:, :: -1 if mirrored else 1]
    feed = np.ascontiguousarray((crop.wide if side == WIDE_PX else crop.image)[turn])
    answer = engine.run({"face": feed[None]})["hidden"].reshape(side, side).astype(np.uint8)
    return np.ascontiguousarray(answer[turn])


class GivenMask:
    """Mask in frame pixels (height x width uint8, white = hidden) for every frame and face."""

    hurries = False

    def __init__(self, mask: Image) -> None:
        self._mask = mask

    def __call__(self, crop: Crop) -> HiddenCrop:
        wide_mask = warp_mask(self._mask, to_wide_field(crop.to_crop), least=LEAST_GIVEN, side=WIDE_PX)
        mask = np.ascontiguousarray(wide_mask[TEMPLATE_PART])
        return HiddenCrop(crop, mask, face_share(mask), wide_mask, exact=True)

    def forget(self, track_ids: Iterable[int]) -> None:
        """Does nothing: no track is remembered."""


class _Track:
    """One face: the network's last answer, its age in frames and its time, and what was made of it."""

    def __init__(self) -> None:
        self.mask = MaskSmoother()
        self.covered = False
        self.still = Stillness()
        self.hides = NOTHING
        self.age, self.looked_at = 0, -np.inf
        self.answer: Image


class MaskSmoother:
    """Smoothed probability of one face and its mask, both uint8, as large as the network's input."""

    def __init__(self) -> None:
        self._watch = Stopwatch()
        self._probability: Image | None = None
        self._mask: Image
        self._risen: Image

    @property
    def probability(self) -> Image:
        """The smoothed probability, 0..255, after the first update."""
        assert self._probability is not None
        return self._probability

    def update(self, probability: Tensor, on: int, off: int, at: float) -> Image:
        """Mask after one more frame, of time `at` (seconds), valid until the next update; thresholds 0..255."""
        seconds = self._watch.step(at)
        newest = probability.astype(np.uint8, copy=False)
        if self._probability is None:
            self._probability = newest.copy()
            self._mask, self._risen = np.zeros_like(newest), np.empty_like(newest)
        else:
            # The higher of the two mixtures is the fast one where the probability rose, and the slow one where it fell.
            attack, release = eased(ATTACK, seconds), eased(RELEASE, seconds)
            cv2.addWeighted(newest, attack, self._probability, 1 - attack, 0, dst=self._risen)
            cv2.addWeighted(newest, release, self._probability, 1 - release, 0, dst=self._probability)
            cv2.max(self._risen, self._probability, dst=self._probability)
        _, surely = cv2.threshold(self._probability, on - 1, HIDDEN, cv2.THRESH_BINARY)
        _, perhaps = cv2.threshold(self._probability, off - 1, HIDDEN, cv2.THRESH_BINARY)
        cv2.bitwise_or(surely, cv2.bitwise_and(perhaps, self._mask), dst=self._mask)
        remove_specks(self._mask)
        return self._mask


def remove_specks(mask: Image) -> None:
    """Clears, in place, hidden spots smaller than SPECK_PX."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    specks = [outline for outline in outlines if cv2.contourArea(outline) < SPECK_PX]
    if specks:
        cv2.drawContours(mask, specks, -1, 0, cv2.FILLED)


def _grown(mask: MatLike) -> Image:
    """`mask` with GROWTH_PX around it."""
    grown, part = np.zeros(mask.shape, np.uint8), _box(mask, GROWTH_PX)
    grown[part] = cv2.dilate(mask[part], _GROWTH)
    return grown


def _box(mask: MatLike, margin: int) -> tuple[slice, slice]:
    """The part of `mask` that holds all that is marked, with a margin."""
    x, y, width, height = cv2.boundingRect(mask)
    return np.s_[max(y - margin, 0) : y + height + margin, max(x - margin, 0) : x + width + margin]


def without_doubtful(mask: Image, probability: Image) -> Image:
    """`mask` (416x416 uint8) without what is marked beside a face mask, but doubted by the `probability` (0..255)."""
    _, sure = cv2.threshold(probability, SURE - 1, HIDDEN, cv2.THRESH_BINARY)
    before = cv2.countNonZero(cv2.bitwise_and(sure, _around_face()))
    if before < MASK_PX or before < MASK_SHARE * cv2.countNonZero(sure):
        return mask
    part, around = _box(mask, AROUND_PX), (AROUND_PX, AROUND_PX)
    marked = mask[part]
    mean, share = cv2.blur(cv2.bitwise_and(probability[part], marked), around), cv2.blur(marked, around)
    doubtful = cv2.compare(mean, cv2.convertScaleAbs(share, alpha=DOUBTFUL / HIDDEN), cv2.CMP_LT)
    doubtful = cv2.bitwise_and(cv2.bitwise_and(doubtful, marked), cv2.bitwise_not(_around_face()[part]))
    thick = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (THICK_PX, THICK_PX))
    kept = mask.copy()
    kept[part] = cv2.subtract(marked, cv2.morphologyEx(doubtful, cv2.MORPH_OPEN, thick))
    return kept


@functools.cache
def _around_face() -> Image:
    return in_wide(face_area(1.2))


def before_face(mask: Image, reach: float = 1.0) -> Image:
    """Of `mask` (416x416 uint8), the connected parts that hide more than a speck of the face's area times `reach`."""
    count, labels = cv2.connectedComponents(mask, ltype=cv2.CV_16U)
    if count <= 2:
        return mask  # one thing: the face is covered, so it is this one that covers it
    before: Image = np.where(_hides(labels, count, reach), HIDDEN, 0).astype(np.uint8)[labels]
    return before & mask


def is_sure_thing(mask: Image, probability: Image) -> bool:
    """Whether a connected part of `mask` (416x416 uint8) reaches the face and is surely a thing (0..255)."""
    count, labels = cv2.connectedComponents(mask, ltype=cv2.CV_16U)
    sure = np.bincount(labels[TEMPLATE_PART][probability[TEMPLATE_PART] >= SURE], minlength=count)
    return bool((sure[1:] >= SURE_THING_PX)[_hides(labels, count, AT_FACE)[1:]].any())


def _hides(labels: MatLike, count: int, reach: float) -> NDArray[np.bool_]:
    """Which of the connected parts hide more than a speck of the face's area times `reach`."""
    return np.bincount(labels[TEMPLATE_PART][face_area(reach) != 0], minlength=count) >= SPECK_PX
