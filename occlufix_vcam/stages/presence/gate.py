"""Decides which faces may be restored. What only looks like a covered face is left alone.

Left alone are faces turned far aside, faces behind the head of another person, and faces that are not there any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import CROP_PX, HIDDEN, Affine, Image, Points, similarity, transform_points
from occlufix_vcam.core.frame import FaceTrack, Frame, HiddenCrop
from occlufix_vcam.stages.geometry import compose, face_share, inverse
from occlufix_vcam.stages.presence.edge import outside
from occlufix_vcam.stages.presence.pose import turn_of

#: Why a face is left alone.
Refusal = Literal["turned", "behind"]

#: A face turned farther than the first value is left alone, until it is turned less than the second: 38 and 33 degrees.
TURNED, TURNED_BACK = 0.47, 0.4
#: In a single picture up to this turn, 45 degrees: no frame beside it shows that the pose is not quite the face's.
TURNED_IN_PICTURE = 0.6
#: A hidden share of a face of at least this in front of which another head lies is that head.
BEHIND_SHARE = 0.01
#: For so many seconds after another head was in front, a face is left alone.
BEHIND_S = 0.12
#: Of two faces the one that is larger by this factor is in front; else the one that is surer.
NEARER = 1.1
#: Outline of a head with its hair in the template. Shoulders are no part of it: a child sits before those of others.
_HEAD: Points = np.array(cv2.ellipse2Poly((128, 100), (118, 156), 0, 0, 360, 10), np.float32)
#: What surrounds a face is compared in cells. It is another scene if this share of them changed by so many grey levels
#: on each of three sides: a hand comes from one side or two, and from below.
_CELLS, _CHANGED_SHARE, _CHANGED_BY = 12, 0.6, 14.0
_SIDES = (np.s_[:3], np.s_[:, :3], np.s_[:, -3:])


class FaceGate:
    """Tells which faces of a frame may be restored. Used by one thread."""

    def __init__(self, turned: float = TURNED) -> None:
        """`turned`: a face turned farther is left alone."""
        self._turned = turned
        self._tracks: dict[int, _Track] = {}

    def present(self, frame: Frame, faces: Sequence[FaceTrack]) -> list[FaceTrack]:
        """Faces that are there: seen, or covered a moment ago where nothing else changed since."""
        return [face for face in faces if self._track(face).is_present(frame.image, face)]

    def refusal(self, hidden: HiddenCrop, faces: Sequence[FaceTrack]) -> Refusal | None:
        """Why this face, hidden or not, may not be restored; None if it may. `faces` are all faces of the frame."""
        face = hidden.crop.face
        track = self._track(face)
        if face.seen:
            track.covered = bool(hidden.mask.any())
        turn = abs(turn_of(face.landmarks))
        track.turned = turn > (TURNED_BACK if track.turned else self._turned)
        if any(_hides(other, hidden) for other in faces):
            track.behind_until = face.at + BEHIND_S
        if face.at < track.behind_until:
            return "behind"
        return "turned" if track.turned else None

    def forget(self, track_ids: Iterable[int]) -> None:
        for track_id in track_ids:
            self._tracks.pop(track_id, None)

    def _track(self, face: FaceTrack) -> _Track:
        return self._tracks.setdefault(face.track_id, _Track())


@dataclass(slots=True, eq=False)
class _Track:
    """What is known of one face."""

    covered: bool = False
    turned: bool = False
    behind_until: float = -np.inf
    #: The last frame in which it was seen, and its landmarks there.
    last: tuple[Image, Points] | None = None

    def is_present(self, image: Image, face: FaceTrack) -> bool:
        if face.seen:
            self.last = image, face.landmarks
            return True
        if not self.covered or self.last is None or outside(image, face.landmarks) > 0:
            return False
        change = np.abs(_surroundings(image, face.landmarks) - _surroundings(*self.last)).max(axis=2)
        self.covered = any((change[side] > _CHANGED_BY).mean() < _CHANGED_SHARE for side in _SIDES)
        return self.covered


def _surroundings(image: Image, landmarks: Points) -> NDArray[np.float32]:
    """Colours around a face, twice as wide as the template, in cells."""
    scale = _CELLS / (2.0 * CROP_PX)
    to_cells = similarity(landmarks) * np.float32(scale)
    to_cells[:, 2] += _CELLS / 4
    step = max(int(1 / np.hypot(*to_cells[:, 0])) // 4, 1)
    reduced = to_cells.copy()
    reduced[:, :2] *= step
    size = (_CELLS, _CELLS)
    return cv2.warpAffine(image[::step, ::step], reduced, size, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)


def _hides(other: FaceTrack, hidden: HiddenCrop) -> bool:
    """Whether the head of `other` lies in front of what is hidden of a face."""
    face = hidden.crop.face
    if other.track_id == face.track_id or not _is_nearer(other, face):
        return False
    to_crop = compose(hidden.crop.to_crop, inverse(similarity(other.landmarks)))
    return face_share(cv2.bitwise_and(hidden.mask, _head(to_crop))) > BEHIND_SHARE


def _is_nearer(other: FaceTrack, face: FaceTrack) -> bool:
    ratio = _size(other) / max(_size(face), 1e-3)
    surer = not face.seen or other.confidence > face.confidence
    return other.seen and (ratio > NEARER or (surer and ratio > 1 / NEARER))


def _size(face: FaceTrack) -> float:
    """Distance between eyes and mouth: a turn aside does not change it."""
    return float(np.hypot(*(face.landmarks[:2].mean(axis=0) - face.landmarks[3:].mean(axis=0))))


def _head(to_crop: Affine) -> Image:
    """The head of a person whose template `to_crop` takes to this crop: 256x256 uint8."""
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    cv2.fillConvexPoly(mask, np.round(transform_points(_HEAD, to_crop)).astype(np.int32), HIDDEN)
    return mask
