"""What the segmenter learns from: photographs of faces that really are hidden, and composites for the variety.

All in the wide field: a face with hair, neck and shoulders, and all that belongs to what is before it.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from engines.contract import HIDDEN, Image, Points
from train.data.photographs import Photographs
from train.data.portraits import Portraits
from train.data.shipped_segmenter import ShippedSegmenter
from train.occlusion.compositing import FaceGeometry
from train.occlusion.occluders import WORN, Occluders, random_names
from train.occlusion.transplants import Transplants
from train.tasks.hidden_data import SegmentationSample, composite_view
from train.tasks.live_view import live_view

#: How many samples are photographs as they are, where there are any: they are few, but nothing else is like them.
REAL_SHARE = 0.55
#: How many of the others have a real thing before another face, where there are any.
TRANSPLANTED_SHARE = 0.35
#: How many of the rest are faces with nothing before them, or with something beside them that hides nothing.
CLEAN_SHARE, BESIDE_SHARE = 0.35, 0.15
#: What may be near a face, and how far from it: in eye distances to a side, and in eye-to-mouth distances down.
_NEAR = ("hand", "hand", "cup", "phone", "microphone", "thing", "scarf")
_ASIDE, _BELOW = (1.4, 2.6), (0.9, 2.2)
#: A face's outline around the point halfway from the eyes to the mouth: half its width, and half its height.
_FACE = (0.98, 1.1)
#: What hides fewer pixels of a face than this hides nothing.
_LEAST_PX = 80


class SegmentationSamples:
    """Photographs, transplants and composites for training. Without photographs all are composites."""

    def __init__(self, data: Path) -> None:
        self._photographs = Photographs(data, "train")
        self._transplants = Transplants(self._photographs)
        self._portraits = Portraits(data, ShippedSegmenter().is_bare)
        self._occluders = Occluders(data, "train")

    def random(self, rng: np.random.Generator, size: int) -> SegmentationSample:
        """One sample, `size` pixels a side."""
        if self._photographs and rng.random() < REAL_SHARE:
            return live_view(self._photographs.draw(rng), rng, size)
        is_transplant = self._photographs and rng.random() < TRANSPLANTED_SHARE
        return composite_view(self._portraits.draw(rng), rng, size, self._transplants if is_transplant else self._hide)

    def _hide(self, image: Image, landmarks: Points, rng: np.random.Generator) -> tuple[Image, Image]:
        choice = rng.random()
        if choice < BESIDE_SHARE:
            return self._beside(image, landmarks, rng)
        if choice >= BESIDE_SHARE + CLEAN_SHARE:
            return self._occluders.occlude(image, landmarks, rng, random_names(rng))
        worn = [str(rng.choice(list(WORN)))] if rng.random() < 0.5 else []
        return self._occluders.occlude(image, landmarks, rng, worn)

    def _beside(self, image: Image, landmarks: Points, rng: np.random.Generator) -> tuple[Image, Image]:
        """Something near the face; what hides none of it is not marked."""
        face = FaceGeometry(image.shape[0], landmarks)
        name = str(rng.choice(list(_NEAR)))
        aside = 0.0 if name == "scarf" else rng.choice((-1, 1)) * rng.uniform(*_ASIDE) * (rng.random() < 0.7)
        below = rng.uniform(*_BELOW) if aside == 0.0 else rng.uniform(-0.3, 1.0)
        moved = landmarks + (aside * face.across + below * face.down).astype(np.float32)
        shown, mask = self._occluders.occlude(image, moved, rng, [name])
        hides = np.count_nonzero(mask & _face_area(face)) >= _LEAST_PX * face.unit**2
        return shown, mask if hides else np.zeros_like(mask)


def _face_area(face: FaceGeometry) -> Image:
    area = np.zeros((face.size, face.size), np.uint8)
    half = (round(_FACE[0] * float(np.hypot(*face.across))), round(_FACE[1] * float(np.hypot(*face.down))))
    middle = face.point(0, 0.5).round().astype(int)
    return np.asarray(cv2.ellipse(area, middle.tolist(), half, face.angle, 0, 360, HIDDEN, -1), np.uint8)
