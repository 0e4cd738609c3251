"""What the restorer may know of the person: the same face unhidden, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from engines.contract import CROP_PX, HIDDEN, Image, Points
from occlufix_vcam.errors import ConfigError
from occlufix_vcam.frame import Crop, FaceTrack, Frame, HiddenCrop
from occlufix_vcam.stages.geometry import align

#: What is left out around an occluder or the picture's end, where pixels are mixed: pixels of the crop.
MARGIN_PX = 3


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The person's own face in the template: `image` 256x256x3 uint8 BGR, `mask` 256x256 uint8, 255 = valid."""

    image: Image
    mask: Image


NO_REFERENCE = Reference(np.zeros((CROP_PX, CROP_PX, 3), np.uint8), np.zeros((CROP_PX, CROP_PX), np.uint8))


def no_memory(hidden: HiddenCrop) -> Reference:
    """Remembers nobody: the network restores from what it sees around the hole."""
    return NO_REFERENCE


class FixedReference:
    """One photograph of the person, for every face that is asked about."""

    def __init__(
        self, picture: Image, landmarks: Points, see_hidden: Callable[[Crop], HiddenCrop] | None = None
    ) -> None:
        """`picture` is BGR uint8 with the face's five `landmarks` in its pixels.

        What `see_hidden` says hides that face is not valid. Raises ConfigError where the landmarks span no face.
        """
        face = FaceTrack(track_id=-1, landmarks=landmarks, confidence=1.0)
        crop = align(Frame(picture, index=0, captured_at=0.0), face)
        if crop is None:
            raise ConfigError(
                "the reference picture shows no usable face", "choose a picture with one clear, frontal face"
            )
        valid = np.full(picture.shape[:2], HIDDEN, np.uint8)
        mask = np.empty((CROP_PX, CROP_PX), np.uint8)
        cv2.warpAffine(valid, crop.to_crop, (CROP_PX, CROP_PX), dst=mask, borderMode=cv2.BORDER_CONSTANT)
        cv2.threshold(mask, 254, HIDDEN, cv2.THRESH_BINARY, dst=mask)
        if see_hidden is not None:
            mask[see_hidden(crop).mask != 0] = 0
        side = 2 * MARGIN_PX + 1
        cv2.erode(mask, np.ones((side, side), np.uint8), dst=mask)
        image = crop.image.copy()
        image[mask == 0] = 0
        self._reference = Reference(image, mask)

    def __call__(self, hidden: HiddenCrop) -> Reference:
        return self._reference
