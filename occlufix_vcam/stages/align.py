"""Aligns a face: warps it from the frame into the wide field, of which the face template is a part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from engines.contract import HIDDEN, TEMPLATE_PART, WIDE_PX, Affine, Image, similarity, transform_points
from occlufix_vcam.core.frame import Crop, FaceTrack, Frame
from occlufix_vcam.stages.geometry import (
    TEMPLATE_CORNERS,
    WIDE_CORNERS,
    box_in_frame,
    compose,
    inverse,
    reduced,
    scale_of,
    to_wide_field,
    translation,
    warp_colours,
)
from occlufix_vcam.stages.motion import IDENTITY
from occlufix_vcam.stages.timing import FRAME_S, Stopwatch, eased

#: Crop pixels per frame pixel: eyes 3840 px apart to eyes 6 px apart; beyond that, no face is visible.
SCALE_RANGE = (0.02, 12.8)
#: While no view is found, a correction goes this share of the way back in a thirtieth of a second.
LOST = 0.3
_WHOLE: Image = np.full((WIDE_PX, WIDE_PX), HIDDEN, np.uint8)
_WHOLE.flags.writeable = False


def align(frame: Frame, face: FaceTrack) -> Crop | None:
    """`face` in the template; None if its landmarks span no face or lie outside the frame.

    Beyond the frame's edge, the edge is repeated.
    """
    if not np.isfinite(face.landmarks).all():
        return None
    try:
        to_crop = similarity(face.landmarks)
    except ValueError:
        return None
    if not SCALE_RANGE[0] <= scale_of(to_crop) <= SCALE_RANGE[1]:
        return None
    _, _, width, height = box_in_frame(TEMPLATE_CORNERS, to_crop, frame.image)
    if width < 1 or height < 1:
        return None
    wide = _wide_field(frame.image, to_crop)
    return Crop(
        face, np.ascontiguousarray(wide[TEMPLATE_PART]), to_crop, wide, _in_frame(frame.image, to_crop), frame.image
    )


@dataclass(slots=True)
class _Placement:
    """A face by its landmarks, frame to template; from there to where the face is; seconds since its last frame."""

    by_landmarks: Affine
    watch: Stopwatch
    seconds: float = FRAME_S
    step: Affine | None = None


class Realignment:
    """Corrects the landmarks of covered faces by where a remembered view of the face was found in the frame before.

    Landmarks behind an occluder may be off by a third of the eyes' distance, in much the same way from frame to frame;
    a view that is found by what is still visible is off by a tenth of that. Used by one thread.
    """

    def __init__(self) -> None:
        self._placements: dict[int, _Placement] = {}

    def __call__(self, face: FaceTrack) -> FaceTrack:
        """The same face with its landmarks corrected."""
        try:
            placed = similarity(face.landmarks)
        except ValueError:
            return face
        track = self._placements.setdefault(face.track_id, _Placement(placed, Stopwatch()))
        track.by_landmarks, track.seconds = placed, track.watch.step(face.at)
        if track.step is None:
            return face
        corrected = compose(inverse(compose(track.step, placed)), placed)
        return replace(face, landmarks=transform_points(face.landmarks, corrected))

    def learn(self, crop: Crop, aligned: Affine | None, covered: bool) -> None:
        """Learns where the face of `crop` is: `aligned` is the Reference's, None if unknown."""
        track = self._placements.get(crop.face.track_id)
        if track is None:
            return
        if not covered:
            track.step = None
        elif aligned is not None:
            track.step = compose(compose(aligned, crop.to_crop), inverse(track.by_landmarks))
        elif track.step is not None:
            track.step = (track.step + eased(LOST, track.seconds) * (IDENTITY - track.step)).astype(np.float32)

    def forget(self, track_ids: Iterable[int]) -> None:
        for track_id in track_ids:
            self._placements.pop(track_id, None)


def _wide_field(image: Image, to_crop: Affine) -> Image:
    """The wide field around a face, 416x416x3."""
    scale = scale_of(to_crop)
    x, y, width, height = box_in_frame(WIDE_CORNERS, to_crop, image)
    matrix = compose(to_wide_field(to_crop), translation(x, y))
    if scale <= 0.5:
        # A plain warp would skip pixels of a face this large and alias.
        factor = round(1 / scale)
        # Whole multiples of the factor, where the frame extends that far, average several times faster.
        part = image[y : y + height + -height % factor, x : x + width + -width % factor]
        image, to_reduced = reduced(part, factor)
        matrix = compose(matrix, inverse(to_reduced))
    else:
        image = image[y : y + height, x : x + width]
    return warp_colours(image, matrix, (WIDE_PX, WIDE_PX))


def _in_frame(image: Image, to_crop: Affine) -> Image:
    """Where the wide field lies in the frame, 416x416 uint8: 255 inside."""
    height, width = image.shape[:2]
    corners = transform_points(WIDE_CORNERS, inverse(to_crop))
    if (corners >= 0).all() and (corners <= (width - 1, height - 1)).all():
        return _WHOLE
    frame = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float32)
    inside = np.zeros((WIDE_PX, WIDE_PX), np.uint8)
    rim = np.round(transform_points(frame, to_wide_field(to_crop))).astype(np.int32)
    cv2.fillConvexPoly(inside, rim, HIDDEN)
    return inside
