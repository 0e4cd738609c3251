"""Figures of merit on uint8 pictures, always inside a region."""

from __future__ import annotations

import cv2
import numpy as np

from engines.contract import Image


def psnr(made: Image, truth: Image, region: Image) -> float:
    """Peak signal-to-noise ratio in dB over the pixels where `region` is not 0; NaN where there are none."""
    inside = region > 0
    if not inside.any():
        return float("nan")
    error = (made[inside].astype(np.float32) - truth[inside].astype(np.float32)) ** 2
    return float(10 * np.log10(255**2 / max(float(error.mean()), 1e-6)))


def sharpness(image: Image, region: Image) -> float:
    """Mean absolute Laplacian of the luma in `region`: low means blurred."""
    laplacian = cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.CV_32F)
    inside = region > 0
    return float(np.abs(laplacian[inside]).mean()) if inside.any() else float("nan")
