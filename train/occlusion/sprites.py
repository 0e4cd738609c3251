"""Something cut out of a picture, to be put in front of another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from engines.contract import Image
from train.data.face_set import DataError

_LARGEST_PX = 256


@dataclass(frozen=True, slots=True)
class Sprite:
    """Something cut out: BGR uint8 whose colours go on beyond the edge, and alpha uint8."""

    image: Image
    alpha: Image


def load(path: Path) -> Sprite:
    """At most 256 px; colours continued outwards, so that no dark rim comes in when it is turned or scaled."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3:
        raise DataError(f"{path} is no colour picture")
    scale = _LARGEST_PX / max(picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if picture.shape[2] == 3:
        return Sprite(picture, np.full(picture.shape[:2], 255, np.uint8))
    image, alpha = np.ascontiguousarray(picture[..., :3]), np.ascontiguousarray(picture[..., 3])
    return Sprite(continued(image, alpha), cv2.copyMakeBorder(alpha, 1, 1, 1, 1, cv2.BORDER_CONSTANT)[1:-1, 1:-1])


def continued(image: Image, alpha: Image) -> Image:
    """`image` with the colours where it is opaque carried on beyond its edge."""
    weight = alpha.astype(np.float32)[..., None] / 255 + 1e-4
    near = cv2.GaussianBlur(image * weight, (0, 0), 4) / cv2.GaussianBlur(weight, (0, 0), 4)[..., None]
    return np.where(alpha[..., None] > 200, image, np.clip(near, 0, 255).astype(np.uint8))
