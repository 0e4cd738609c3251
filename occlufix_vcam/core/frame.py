"""Data that flows through the pipeline: one frozen type per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from engines.contract import CROP_PX, HIDDEN, TEMPLATE_PART, WIDE_OFFSET, WIDE_PX, Affine, Image, Points

#: Part of a frame: x, y, width, height.
Box: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame: height x width x 3 uint8 BGR, never written to; `captured_at` is time.monotonic() in seconds.

    `restored_from` is the origin of a restored frame; None if the frame is untouched. `is_demo`: it shows the
    face of the built-in demo, who is not the user.
    """

    image: Image
    index: int
    captured_at: float
    restored_from: Origin | None = None
    is_demo: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class FaceTrack:
    """One face over time: 5x2 float32 landmarks in frame pixels, confidence 0..1, at a time in seconds.

    A face that is not `seen` in this frame is where it was when it last was.
    """

    track_id: int
    landmarks: Points
    confidence: float
    at: float = 0.0
    seen: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A face in the template: 256x256x3 uint8 BGR; `to_crop` is the 2x3 similarity, frame pixels to crop pixels.

    `wide` is the face in the wide field, 416x416x3: `image` is its part TEMPLATE_PART. `in_frame` (416x416 uint8) is
    255 where the wide field lies in the frame; beyond, the frame's edge is repeated. `frame` is the image of the frame,
    None if unknown.
    """

    face: FaceTrack
    image: Image
    to_crop: Affine
    wide: Image
    in_frame: Image
    frame: Image | None = None

    @classmethod
    def of_template(cls, face: FaceTrack, image: Image, to_crop: Affine) -> Crop:
        """A face of which only the template is known; the wide field repeats its edge."""
        left, top = WIDE_OFFSET
        rows, columns = (np.clip(np.arange(WIDE_PX) - at, 0, CROP_PX - 1) for at in (top, left))
        inside = in_wide(np.full((CROP_PX, CROP_PX), HIDDEN, np.uint8))
        return cls(face, image, to_crop, image[rows[:, None], columns], inside)


@dataclass(frozen=True, slots=True, eq=False)
class HiddenCrop:
    """`mask` is 256x256 uint8, 255 = hidden; `coverage` is the share of the face that is hidden, 0..1.

    `wide_mask` (416x416 uint8) is all of the thing that hides the face, in the wide field: `mask` is its part
    TEMPLATE_PART. `exact` masks are followed as they are; others are refined along their outline. Unless `is_wide`, the
    segmenter saw the template only: a thing may go on beyond. `may_carry`: nothing changed, and another
    frame is the restorer's turn to paint.
    """

    crop: Crop
    mask: Image
    coverage: float
    wide_mask: Image
    exact: bool = False
    is_wide: bool = True
    may_carry: bool = False

    @classmethod
    def of_template(cls, crop: Crop, mask: Image, coverage: float) -> HiddenCrop:
        """A mask that is known in the template only."""
        return cls(crop, mask, coverage, in_wide(mask), is_wide=False)


@dataclass(frozen=True, slots=True, eq=False)
class FineDetail:
    """Detail of a face for which the template's pixels are too few.

    `luma` (square uint8) is that of the face at the frame's scale; `matrix` takes crop pixels to its pixels. `weight`
    (256x256 uint8) is how far its detail is to be shown; None: wholly.
    """

    luma: Image
    matrix: Affine
    weight: Image | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A restored crop: `image` 256x256x3 uint8 BGR, to be blended where `mask` (256x256 uint8) is not 0.

    `wide_mask` and `exact` are those of the HiddenCrop. `remembered` (256x256 uint8) is how far the image
    is a remembered view of the face, and `fine` the detail of that view.
    """

    crop: Crop
    mask: Image
    image: Image
    wide_mask: Image
    exact: bool = False
    remembered: Image | None = None
    fine: FineDetail | None = None

    @classmethod
    def of_hidden(cls, hidden: HiddenCrop, image: Image) -> Patch:
        return cls(hidden.crop, hidden.mask, image, hidden.wide_mask, hidden.exact)


@dataclass(frozen=True, slots=True, eq=False)
class Fill:
    """What lies behind the things in a frame, in the frame's own pixels.

    `image` (height x width x 3 uint8 BGR) and `trust` (height x width uint8) are those of `box`. Trust is 255 where the
    image is as good as seen, 0 where nothing is known, and steady in time. The fill is shown wherever it
    is trusted, also beyond the template; on the face itself, only where it is trusted well. `thing` (like `trust`) is
    255 where the things continue beyond the wide field; None if they do not. `rim` is 255 along the things where the
    frame is not what the image shows: shadows, and what the segmenter missed.
    """

    box: Box
    image: Image
    trust: Image
    thing: Image | None = None
    rim: Image | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """A frame before its faces were restored, and what was hidden in it."""

    image: Image
    hidden: tuple[HiddenCrop, ...]


def in_wide(mask: Image) -> Image:
    """`mask` (256x256 uint8) in the wide field: 0 around it."""
    wide = np.zeros((WIDE_PX, WIDE_PX), np.uint8)
    wide[TEMPLATE_PART] = mask
    return wide
