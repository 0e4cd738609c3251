"""Cuts a face out of the frame into the face template."""

from __future__ import annotations

import cv2
import numpy as np

from engines.contract import CROP_PX, similarity
from occlufix_vcam.core.frame import Crop, FaceTrack, Frame
from occlufix_vcam.stages.geometry import box_in_frame, compose, inverse, reduced, scale_of, translation

#: Crop pixels per frame pixel: eyes 3840 px apart to eyes 6 px apart; beyond that there is no face to be seen.
SCALE_RANGE = (0.02, 12.8)
CROP_CORNERS = np.array([[0, 0], [CROP_PX, 0], [CROP_PX, CROP_PX], [0, CROP_PX]], dtype=np.float32) - 0.5


def align(frame: Frame, face: FaceTrack) -> Crop | None:
    """`face` in the template; None where its landmarks span no face or lie outside the frame.

    What lies beyond the frame's edge repeats the edge.
    """
    if not np.isfinite(face.landmarks).all():
        return None
    try:
        to_crop = similarity(face.landmarks)
    except ValueError:
        return None
    scale = scale_of(to_crop)
    if not SCALE_RANGE[0] <= scale <= SCALE_RANGE[1]:
        return None
    x, y, width, height = box_in_frame(CROP_CORNERS, to_crop, frame.image)
    if width < 1 or height < 1:
        return None
    image, matrix = frame.image, to_crop
    if scale <= 0.5:
        # A plain warp would skip pixels of a face this large and alias.
        factor = round(1 / scale)
        # Whole multiples of the factor, where the frame reaches that far, are averaged several times faster.
        part = image[y : y + height + -height % factor, x : x + width + -width % factor]
        image, to_reduced = reduced(part, factor)
        matrix = compose(to_crop, compose(translation(x, y), inverse(to_reduced)))
    crop = np.empty((CROP_PX, CROP_PX, 3), np.uint8)
    cv2.warpAffine(image, matrix, (CROP_PX, CROP_PX), dst=crop, borderMode=cv2.BORDER_REPLICATE)
    return Crop(face, crop, to_crop)
