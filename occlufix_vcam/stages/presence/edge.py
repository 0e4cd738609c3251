"""Follows faces that reach out of the picture, where detectors squeeze the landmarks into it.

While a face lies in the picture, its look is kept; once a part of it is outside, its position comes from the motion of
what is still seen since then, so that the template keeps its size and the part outside is known, too. A face that left
is recognised by the same look when it comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from engines.contract import CROP_PX, HIDDEN, Affine, Image, Points, similarity, transform_points
from engines.faces_maps import Detection, template_box
from occlufix_vcam.stages.geometry import TEMPLATE_CORNERS, compose, face_area, inverse
from occlufix_vcam.stages.motion import IDENTITY, MotionFeatures, motion, motion_features

#: Up to this share of the face outside the picture the detector's landmarks are trusted, of a face that is followed.
TRUSTED_OUTSIDE = 0.05
#: A new face is let in up to this share outside, with its landmarks this far inside, in distances from eyes to mouth;
#: if any of it is outside, only with its eyes this far apart: a squeezed face is narrower.
NEW_OUTSIDE, NEW_INSIDE, NEW_SHAPE = 0.3, 0.15, 0.85
#: Share of the corners that must follow, for a face that is followed and for one that comes back.
FOUND, FOUND_AGAIN = 0.4, 0.55
#: Seconds after which the look of a face near the edge is taken anew, and for which that of one that left is kept.
LOOK_EVERY_S, AWAY_S = 0.1, 10.0
#: Sizes and shapes of a detection, relative to the followed face, at which the two agree.
AGREED = (0.87, 1.15)
#: A face is near the edge if the second area reaches out, and lies wholly in the picture if the first one does not.
_WHOLE, _NEAR = face_area(1.15), face_area(1.5)


@dataclass(slots=True, eq=False)
class _Look:
    """A face as it was when it last lay in the picture, and where it is now."""

    features: MotionFeatures
    landmarks: Points
    speed: Points
    seen_at: float
    taken_at: float
    #: Landmarks in the crop of `features`.
    points: Points
    #: Distance between the eyes to that from eyes to mouth, when all of the face was in the picture.
    shape: float
    followed: bool = False


class EdgeFollower:
    """Keeps tracks at the picture's edge. Used by one thread."""

    def __init__(self) -> None:
        self._looks: dict[int, _Look] = {}

    def clear(self) -> None:
        self._looks = {}

    def follow(self, image: Image, track_id: int, find: Detection | None, at: float) -> Detection | None:
        """`find`, or the same face where its motion says that it is; None if neither is known."""
        look = self._looks.get(track_id)
        if find is not None and self._is_trusted(image, find, look):
            self._keep(image, track_id, find, at)
            return find
        if look is None or at - look.seen_at > AWAY_S:
            return find
        moved = self._moved(image, look, find, at)
        if moved is None and find is not None and outside(image, find.landmarks, _WHOLE) == 0:
            self._keep(image, track_id, find, at)
            return find
        return moved

    def returned(self, image: Image, find: Detection, at: float, present: set[int]) -> tuple[int, Detection] | None:
        """The track that `find`, partly outside the picture, belongs to, of those that left, and where its face is."""
        self._looks = {id_: look for id_, look in self._looks.items() if id_ in present or at - look.seen_at <= AWAY_S}
        for track_id, look in self._looks.items():
            if track_id in present:
                continue
            landmarks = _found(image, look, _by_eyes(look, find), FOUND_AGAIN)
            if landmarks is not None:
                look.landmarks, look.speed, look.seen_at = landmarks, np.zeros((5, 2), np.float32), at
                look.followed = True
                return track_id, Detection(find.score, template_box(landmarks), landmarks)
        return None

    def has_away(self, present: set[int]) -> bool:
        """Whether a face left at the edge and may come back."""
        return not self._looks.keys() <= present

    def _is_trusted(self, image: Image, find: Detection, look: _Look | None) -> bool:
        if outside(image, find.landmarks) > TRUSTED_OUTSIDE:
            return False
        if look is None:
            return True
        ratios = _shape(find.landmarks) / look.shape, _size(find.landmarks) / _size(look.landmarks)
        return all(AGREED[0] < ratio < AGREED[1] for ratio in ratios)

    def _keep(self, image: Image, track_id: int, find: Detection, at: float) -> None:
        """Keeps the look of a face near the edge; one far from it needs none."""
        if outside(image, find.landmarks, _NEAR) == 0:
            self._looks.pop(track_id, None)
            return
        last = self._looks.get(track_id)
        speed = find.landmarks - last.landmarks if last is not None else np.zeros((5, 2), np.float32)
        if last is not None and not last.followed and 0 <= at - last.taken_at < LOOK_EVERY_S:
            last.landmarks, last.speed, last.seen_at = find.landmarks, speed, at
            return
        to_crop = similarity(find.landmarks)
        crop, inside = _crop(image, to_crop)
        features = motion_features(crop, cv2.bitwise_and(inside, face_area()).astype(np.uint8))
        points = transform_points(find.landmarks, to_crop)
        is_cut = last is not None and outside(image, find.landmarks, _WHOLE) > 0
        shape = last.shape if last is not None and is_cut else _shape(find.landmarks)
        self._looks[track_id] = _Look(features, find.landmarks, speed, at, at, points, shape)

    def _moved(self, image: Image, look: _Look, find: Detection | None, at: float) -> Detection | None:
        guesses = [look.landmarks + look.speed, *(_by_eyes(look, find) if find is not None else [])]
        landmarks = _found(image, look, guesses, FOUND)
        if landmarks is None:
            return None
        look.speed, look.landmarks = landmarks - look.landmarks, landmarks
        look.seen_at, look.followed = at, True
        return Detection(find.score if find is not None else FOUND, template_box(landmarks), landmarks)


def at_edge(image: Image, find: Detection) -> bool:
    """Whether what a detector squeezed into the picture may reach out of it."""
    return outside(image, find.landmarks, _NEAR) > 0


def lies_in(image: Image, find: Detection) -> bool:
    """Whether a new face lies so far in the picture that its landmarks can be right."""
    far_edges = np.array(image.shape[1::-1], np.float32) - 1
    inside = float(np.minimum(find.landmarks, far_edges - find.landmarks).min())
    share = outside(image, find.landmarks)
    is_narrow = share > TRUSTED_OUTSIDE / 2 and _shape(find.landmarks) < NEW_SHAPE
    return inside >= NEW_INSIDE * _size(find.landmarks) and share <= NEW_OUTSIDE and not is_narrow


def outside(image: Image, landmarks: Points, area: Image | None = None) -> float:
    """Share of the face with these landmarks that lies outside the picture, 0..1."""
    area = face_area() if area is None else area
    try:
        to_crop = similarity(landmarks)
    except ValueError:
        return 1.0
    corners = transform_points(TEMPLATE_CORNERS, inverse(to_crop))
    if (corners >= 0).all() and (corners <= np.array(image.shape[1::-1]) - 1).all():
        return 0.0
    inside = cv2.bitwise_and(_in_picture(image, to_crop), area)
    return 1 - cv2.countNonZero(inside) / cv2.countNonZero(area)


def _by_eyes(look: _Look, find: Detection) -> list[Points]:
    """Where the face of `look` may be: one of its eyes where `find` has it."""
    return [look.landmarks + (find.landmarks[eye] - look.landmarks[eye]) for eye in (0, 1)]


def _found(image: Image, look: _Look, guesses: Sequence[Points], least: float) -> Points | None:
    """Landmarks of the face of `look`, which is about where one of the `guesses` says; None if it is not there."""
    for guess in guesses:
        to_crop = similarity(guess, look.points)
        crop, inside = _crop(image, to_crop)
        seen = np.asarray(cv2.bitwise_and(inside, face_area()), np.uint8)
        moved = motion(look.features, motion_features(crop, seen), seen, IDENTITY, levels=3)
        if moved is not None and moved.share >= least:
            return transform_points(look.points, compose(inverse(to_crop), moved.matrix))
    return None


def _crop(image: Image, to_crop: Affine) -> tuple[Image, Image]:
    """The template's crop, and where it lies in the picture (255)."""
    size = (CROP_PX, CROP_PX)
    crop = cv2.warpAffine(image, to_crop, size, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(crop, np.uint8), _in_picture(image, to_crop)


def _in_picture(image: Image, to_crop: Affine) -> Image:
    """255 where the template lies in the picture: 256x256 uint8."""
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) - 0.5
    inside = np.zeros((CROP_PX, CROP_PX), np.uint8)
    cv2.fillConvexPoly(inside, np.round(transform_points(corners, to_crop)).astype(np.int32), HIDDEN)
    return inside


def _size(landmarks: Points) -> float:
    return float(np.hypot(*(landmarks[:2].mean(axis=0) - landmarks[3:].mean(axis=0))))


def _shape(landmarks: Points) -> float:
    return float(np.hypot(*(landmarks[1] - landmarks[0]))) / max(_size(landmarks), 1e-3)
