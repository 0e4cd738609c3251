"""Real things before other people's faces: what hides a face in a photograph, cut out along its mask by eye.

They sit on the face as real ones do, whose pose and light no drawing has. Source of the idea: G. Ghiasi et al., "Simple
Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR 2021.
"""

from __future__ import annotations

import cv2
import numpy as np

from engines.contract import CROP_PX, TEMPLATE_PART, WIDE_PX, Image, Points, similarity
from train.data.face_set import mirror_landmarks
from train.data.photographs import Photograph, Photographs
from train.occlusion.compositing import FaceGeometry, Layer, composite, scaled
from train.occlusion.sprites import continued

#: A photograph with less of the template marked has nothing worth cutting out.
_LEAST_SHARE = 0.01
#: The eye draws an outline this far outside: none of the face behind may be cut out with it.
_INSET_PX = 2
#: How much darker or lighter than it was a thing may become where the other face is.
_GAINS = (0.35, 2.0)


class Transplants:
    """Puts what hides a random photograph's face in front of another one; called as Occluders.occlude is."""

    def __init__(self, photographs: Photographs) -> None:
        self._photographs = photographs

    def __call__(self, image: Image, landmarks: Points, rng: np.random.Generator) -> tuple[Image, Image]:
        """`image` (square, BGR) with the thing, and the mask of what it hides (0 or 255)."""
        scene = FaceGeometry(image.shape[0], landmarks, image)
        mask = np.zeros(image.shape[:2], np.uint8)
        return composite(image, _layer(self._draw(rng), landmarks, scene, rng), scene, rng, mask), mask

    def _draw(self, rng: np.random.Generator) -> Photograph:
        while True:
            photograph = self._photographs.draw(rng)
            if np.count_nonzero(photograph.mask[TEMPLATE_PART]) > _LEAST_SHARE * CROP_PX**2:
                return _mirrored(photograph) if rng.random() < 0.5 else photograph


def _layer(photograph: Photograph, landmarks: Points, scene: FaceGeometry, rng: np.random.Generator) -> Layer:
    """The thing where it was on its own face, in the other face's tone or in its own."""
    alpha = cv2.erode(photograph.mask & photograph.valid, np.ones((2 * _INSET_PX + 1,) * 2, np.uint8))
    matrix = similarity(photograph.landmarks, landmarks)
    size = (scene.size, scene.size)
    image = cv2.warpAffine(continued(photograph.image, alpha), matrix, size, borderMode=cv2.BORDER_REPLICATE)
    own = FaceGeometry(WIDE_PX, photograph.landmarks, photograph.image)
    gain = (scene.skin / own.skin) ** rng.uniform(0.3, 1.1) * rng.uniform(0.85, 1.15)
    if rng.random() < 0.3:
        gain = np.full(3, scene.light / own.light) ** rng.uniform(0.3, 1.0)
    return Layer(scaled(image, np.clip(gain, *_GAINS)), cv2.warpAffine(alpha, matrix, size), relit=False)


def _mirrored(photograph: Photograph) -> Photograph:
    planes = (photograph.image, photograph.mask, photograph.valid)
    return Photograph(
        *(np.ascontiguousarray(plane[:, ::-1]) for plane in planes), mirror_landmarks(photograph.landmarks, WIDE_PX)
    )
