"""An enrolled person, and the stored views of the unhidden face."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.contract import Image, Points
from occlufix_vcam.core.errors import ConfigError

LONGEST_NAME = 64


class EnrollmentError(ConfigError):
    """A face could not be enrolled, read or deleted."""


def unreadable(path: Path, error: OSError) -> EnrollmentError:
    what = f"{path} cannot be read: {error.strerror}"
    return EnrollmentError(what, "fix its permissions", code="face_unreadable", file=path)


@dataclass(frozen=True, slots=True, eq=False)
class EnrolledView:
    """Face in the template: 256x256x3 uint8 BGR, `mask` 256x256 uint8 (255 = valid), 5x2 `landmarks` in it.

    `luma` (square uint8, up to 768) is the same face at the scale of its picture; None if that has no more detail.
    """

    image: Image
    mask: Image
    landmarks: Points
    luma: Image | None = None

    @property
    def id(self) -> str:
        """Names this view among others."""
        return hashlib.sha256(self.image.tobytes()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """Person; `embeddings` is n x 128 float32, rows of length 1, computed by the network whose hash is `model`."""

    name: str
    embeddings: NDArray[np.float32]
    views: Sequence[EnrolledView]
    model: str = ""


def checked_name(name: str) -> str:
    """`name` in its normal form. Raises EnrollmentError if it is empty, too long or unprintable."""
    normal = unicodedata.normalize("NFC", name).strip()
    if not normal or len(normal) > LONGEST_NAME or not normal.isprintable():
        hint = f"use 1 to {LONGEST_NAME} printable characters"
        raise EnrollmentError(f"{name!r} is not a valid name", hint, code="bad_name", most=LONGEST_NAME)
    return normal
