"""What a live camera does to an aligned crop: misalignment, light, lens, noise and compression."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from engines.contract import CROP_PX, EYE_DISTANCE_PX, WIDE_OFFSET, WIDE_PX, Affine, Image

#: The camera, in so many pictures of all: softens, adds noise of so many levels, and JPEG of such quality.
SOFT_CHANCE, NOISE_CHANCE, JPEG_CHANCE = 0.2, 0.4, 0.4
SOFTEST, NOISE_LEVELS, JPEG_QUALITY = 0.5, (1.0, 5.0), (45, 95)
_NOISE_PX = 512


class CameraSetting:
    """One setting of a webcam for several pictures: what they share is the same to the pixel after it, noise included.

    So what is restored is to have the grain of the rest, and known pixels are what they are in the truth.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        soft, noisy, packed = rng.random(3) < (SOFT_CHANCE, NOISE_CHANCE, JPEG_CHANCE)
        self._side = round(CROP_PX * rng.uniform(SOFTEST, 0.95)) if soft else CROP_PX
        self._noise = sensor_noise(CROP_PX, rng) * np.float32(rng.uniform(*NOISE_LEVELS)) if noisy else None
        self._quality = int(rng.integers(*JPEG_QUALITY)) if packed else None

    def __call__(self, image: Image) -> Image:
        if self._side != CROP_PX:
            small = cv2.resize(image, (self._side, self._side), interpolation=cv2.INTER_AREA)
            image = cv2.resize(small, (CROP_PX, CROP_PX))
        if self._noise is not None:
            image = cv2.add(image, self._noise, dtype=cv2.CV_8U)
        if self._quality is not None:
            coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self._quality])[1]
            image = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        return image


def misalignment(rng: np.random.Generator, size: int) -> Affine:
    """Crop to picture of `size`, as wrong as the landmarks of a covered face are."""
    matrix = cv2.getRotationMatrix2D((CROP_PX / 2, CROP_PX / 2), rng.normal(0, 4), float(np.exp(rng.normal(0, 0.07))))
    matrix[:, 2] += np.clip(rng.normal(0, 0.06, 2), -0.15, 0.15) * EYE_DISTANCE_PX
    return (matrix * (size / CROP_PX)).astype(np.float32)


def wide_misalignment(rng: np.random.Generator, size: int) -> Affine:
    """The same for the wide field: wide pixels to a picture of `size`."""
    matrix = misalignment(rng, CROP_PX)
    matrix[:, 2] += WIDE_OFFSET - matrix[:, :2] @ WIDE_OFFSET
    return matrix * np.float32(size / WIDE_PX)


def relight(image: Image, rng: np.random.Generator) -> Image:
    """Exposure, contrast, colour cast, grey, and a slope of light over the picture."""
    ramp = np.arange(256, dtype=np.float32)[:, None] / 255
    gain = np.exp(rng.normal(0, 0.15)) * np.exp(rng.normal(0, 0.06, 3))
    table = (ramp * gain) ** np.exp(rng.normal(0, 0.25)) * rng.uniform(0.75, 1.0) + rng.uniform(0, 0.12)
    image = cv2.LUT(image, np.clip(table * 255, 0, 255).astype(np.uint8)[None])
    if rng.random() < 0.06:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if rng.random() < 0.35:
        slope = cv2.resize(rng.uniform(0.6, 1.3, (2, 2)).astype(np.float32), image.shape[1::-1])
        image = cv2.multiply(image, cv2.merge([slope] * 3), dtype=cv2.CV_8U)
    return image


def webcam(image: Image, rng: np.random.Generator) -> Image:
    """Fewer pixels, blur, noise and JPEG, each sometimes."""
    size = image.shape[0]
    if rng.random() < 0.45:
        side = max(16, int(size * rng.uniform(0.3, 0.9)))
        image = cv2.resize(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), (size, size))
    if rng.random() < 0.15:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.6) * size / CROP_PX)
    if rng.random() < 0.4:
        image = cv2.scaleAdd(sensor_noise(size, rng), rng.uniform(1, 10), image.astype(np.float32))
        image = cv2.convertScaleAbs(cv2.max(image, 0.0))
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 95))]
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    return image


def sensor_noise(size: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of about unit strength, size x size x 3, partly correlated as a camera leaves it."""
    x, y = rng.integers(0, _NOISE_PX - size, 2)
    return _noise()[y : y + size, x : x + size]


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    """Noise is cut from one sheet: drawing new noise for each picture costs more than all the rest."""
    rng = np.random.default_rng(5)
    fine = rng.normal(0, 1, (_NOISE_PX, _NOISE_PX, 3)).astype(np.float32)
    return fine * 0.7 + cv2.GaussianBlur(fine, (0, 0), 1.0) * 1.2
