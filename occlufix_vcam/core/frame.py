"""Data that flows through the pipeline: one frozen type per step."""

from __future__ import annotations

from dataclasses import dataclass

from engines.contract import Affine, Image, Points


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame: height x width x 3 uint8 BGR, never written to; `captured_at` is time.monotonic() in seconds.

    `restored_from` is the origin of a restored frame; None if the frame is untouched.
    """

    image: Image
    index: int
    captured_at: float
    restored_from: Origin | None = None


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
    """A face in the template: 256x256x3 uint8 BGR; `to_crop` is the 2x3 similarity, frame pixels to crop pixels."""

    face: FaceTrack
    image: Image
    to_crop: Affine


@dataclass(frozen=True, slots=True, eq=False)
class HiddenCrop:
    """`mask` is 256x256 uint8, 255 = hidden; `coverage` is the share of the face that is hidden, 0..1."""

    crop: Crop
    mask: Image
    coverage: float


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A restored crop: `image` 256x256x3 uint8 BGR, to be blended where `mask` (256x256 uint8) is not 0."""

    crop: Crop
    mask: Image
    image: Image


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """A frame before its faces were restored, and what was hidden in it."""

    image: Image
    hidden: tuple[HiddenCrop, ...]
