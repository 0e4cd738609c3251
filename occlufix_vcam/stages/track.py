"""Tracks faces across frames, each under one id, and keeps the landmarks of a still face still."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engines.contract import Points
from engines.faces_maps import Detection, overlap
from occlufix_vcam.core.frame import FaceTrack

#: A face that is not detected stays in place for so many seconds: a passing hand does not end its track.
GRACE_S = 0.22
#: A detection belongs to a track if its middle is within this share of the face's size.
REACH = 0.7
#: If all places are taken, a new face this much larger takes the place of the smallest one.
LARGER = 1.5
#: Two detections that overlap more than this are one face.
SAME_FACE = 0.4


@dataclass(slots=True, eq=False)
class _Track:
    """Tracked face: its last detection, and the filter that smooths it."""

    track_id: int
    find: Detection
    smooth: OneEuro
    landmarks: Points
    seen_at: float

    @property
    def size_px(self) -> float:
        return _size_px(self.find)


class FaceTracker:
    """Assigns ids to faces: a detection goes to the nearest track; a track without one waits and then ends."""

    def __init__(self, max_faces: int) -> None:
        self._max_faces = max_faces
        self._tracks: list[_Track] = []
        self._ids = itertools.count(1)

    @property
    def count(self) -> int:
        return len(self._tracks)

    def last_seen(self) -> list[tuple[int, Detection]]:
        """Id and last detection, not smoothed, of each face, largest first, also of those that are not sure yet."""
        return [(track.track_id, track.find) for track in self._tracks]

    def clear(self) -> None:
        """Ends all tracks; ids are never reused."""
        self._tracks = []

    def update(
        self, finds: Sequence[Detection], at: float, returned: Mapping[int, Detection] | None = None
    ) -> list[FaceTrack]:
        """Faces after a frame of time `at` (seconds) with the detections `finds`, largest first.

        A face of which no detection was sure yet is not among them. `returned` are faces that are back under the id
        that they had.
        """
        waiting = list(finds)
        for track, find in self._pairs(waiting):
            track.find, track.seen_at = replace(find, sure=find.sure or track.find.sure), at
            track.landmarks = track.smooth(find.landmarks, track.size_px, at)
            waiting.remove(find)
        self._tracks = [track for track in self._tracks if at - track.seen_at <= GRACE_S]
        for track_id, find in (returned or {}).items():
            self._admit(find, at, track_id)
        for find in sorted(waiting, key=_size_px, reverse=True):
            self._admit(find, at)
        self._tracks.sort(key=lambda track: track.size_px, reverse=True)
        return [
            FaceTrack(track.track_id, track.landmarks, track.find.score, at, track.seen_at == at)
            for track in self._tracks
            if track.find.sure
        ]

    def _pairs(self, finds: Sequence[Detection]) -> list[tuple[_Track, Detection]]:
        """Assigns detections to tracks: nearest pairs first, each at most once."""
        near = []
        for track, find in itertools.product(self._tracks, finds):
            shift = find.landmarks.mean(axis=0) - track.find.landmarks.mean(axis=0)
            distance = float(np.hypot(*shift)) / track.size_px
            if distance < REACH and 0.5 < _size_px(find) / track.size_px < 2.0:
                near.append((distance, track, find))
        pairs: list[tuple[_Track, Detection]] = []
        for _, track, find in sorted(near, key=lambda pair: pair[0]):
            if all(track is not other and find is not taken for other, taken in pairs):
                pairs.append((track, find))
        return pairs

    def _admit(self, find: Detection, at: float, track_id: int | None = None) -> None:
        """Adds a track, if there is room, or if the face is much larger than the smallest one."""
        if not is_new_face(find, [track.find for track in self._tracks]):
            return
        if len(self._tracks) >= self._max_faces:
            smallest = min(self._tracks, key=lambda track: (track.find.sure, track.size_px))
            if smallest.find.sure and _size_px(find) < LARGER * smallest.size_px:
                return
            self._tracks.remove(smallest)
        smooth = OneEuro()
        landmarks = smooth(find.landmarks, _size_px(find), at)
        number = next(self._ids) if track_id is None else track_id
        self._tracks.append(_Track(number, find, smooth, landmarks, at))


class OneEuro:
    """Smooths the landmarks of a still face and follows those of a moving one.

    A low-pass filter whose cut-off rises with the speed. Everything is in units of the face's size, so that near and
    far faces are treated alike; all landmarks share one cut-off, so that a moving face does not deform. Source: G.
    Casiez, N. Roussel, D. Vogel, "1 EUR filter", CHI 2012.
    """

    CUTOFF_HZ = 1.2
    CUTOFF_PER_SPEED = 18.0  # Hz for one face size a second: the lag stays below 1/(2 pi 18), 0.9 % of the face
    SPEED_CUTOFF_HZ = 1.5

    def __init__(self) -> None:
        self._landmarks: Points | None = None
        self._speed: Points = np.zeros((5, 2), np.float32)
        self._at = 0.0

    def __call__(self, landmarks: Points, size_px: float, at: float) -> Points:
        """Smoothed 5x2 landmarks at time `at` in seconds; `size_px` is the face's size."""
        last, self._landmarks = self._landmarks, landmarks
        if last is None:
            self._at = at
            return landmarks
        elapsed = min(max(at - self._at, 1 / 240), 0.25)  # a clip may run faster, a camera may pause
        self._at = at
        move = (landmarks - last) / size_px
        share = _share(self.SPEED_CUTOFF_HZ, elapsed)
        self._speed = self._speed + share * (move / elapsed - self._speed)
        cutoff = self.CUTOFF_HZ + self.CUTOFF_PER_SPEED * float(np.hypot(*self._speed.T).mean())
        self._landmarks = last + np.float32(_share(cutoff, elapsed)) * (landmarks - last)
        return self._landmarks


def _share(cutoff_hz: float, elapsed: float) -> float:
    """Share of the newest value in a first-order low-pass filter."""
    return 1.0 / (1.0 + 1.0 / (2.0 * math.pi * cutoff_hz * elapsed))


def _size_px(find: Detection) -> float:
    """Side of a square as large as the face's box."""
    return math.sqrt(max(float(np.prod(find.box[2:] - find.box[:2])), 1.0))


def is_new_face(find: Detection, others: Sequence[Detection]) -> bool:
    return all(overlap(find.box, other.box) < SAME_FACE for other in others)


def is_inside(find: Detection, other: Detection) -> bool:
    """Whether the middle of a face lies in the box of another: the same one, seen in part."""
    x, y = find.landmarks.mean(axis=0)
    return bool(other.box[0] < x < other.box[2] and other.box[1] < y < other.box[3])
