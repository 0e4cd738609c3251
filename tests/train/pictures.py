"""Drawn pictures for tests that hold training to the product."""

from __future__ import annotations

import cv2
import numpy as np

from engines.contract import CROP_PX, TEMPLATE, Image
from occlufix_vcam.core.frame import Crop, FaceTrack
from occlufix_vcam.stages.motion import IDENTITY


def smooth(seed: int, channels: int, sigma: float) -> Image:
    noise = np.random.default_rng(seed).normal(0, 1, (CROP_PX, CROP_PX, channels)).astype(np.float32)
    picture = cv2.GaussianBlur(noise, (0, 0), sigma).reshape(noise.shape)
    low, high = picture.min(), picture.max()
    return ((picture - low) * (255 / (high - low))).astype(np.uint8)


def crop_of(image: Image) -> Crop:
    return Crop.of_template(FaceTrack(1, TEMPLATE, 1.0), image, IDENTITY)
