"""What a live wide field may show of a photograph: mirrored, misaligned, bent, with other colours, in any light."""

from __future__ import annotations

import cv2
import numpy as np

from engines.contract import HIDDEN, Affine, Image
from train.data.photographs import Photograph
from train.occlusion.camera import relight, webcam, wide_misalignment
from train.tasks.hidden_data import SegmentationSample

#: Standard deviation of the bending's displacements at its knots, as a share of the picture's side.
_BEND, _KNOTS = 0.018, 5
#: How often what hides the face gets other colours than it had, and how often the whole picture does.
_DYED_CHANCE, _TINTED_CHANCE = 0.4, 0.3


def live_view(photograph: Photograph, rng: np.random.Generator, size: int) -> SegmentationSample:
    """The photograph as a wide field of `size` pixels may show it, with its mask."""
    maps = _maps(wide_misalignment(rng, size), rng, size)
    image = cv2.remap(photograph.image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    soft = cv2.remap(photograph.mask, *maps, cv2.INTER_LINEAR)
    valid = cv2.remap(photograph.valid, *maps, cv2.INTER_NEAREST)
    if rng.random() < 0.5:
        image, soft, valid = (np.ascontiguousarray(plane[:, ::-1]) for plane in (image, soft, valid))
    if rng.random() < _DYED_CHANCE:
        image = _dyed(image, soft, rng)
    if rng.random() < _TINTED_CHANCE:
        image = _tinted(image, rng)
    return SegmentationSample(webcam(relight(image, rng), rng), cv2.compare(soft, HIDDEN // 2, cv2.CMP_GT), valid)


def _maps(matrix: Affine, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """For cv2.remap: where in the photograph each pixel comes from, smoothly bent."""
    bend = cv2.resize(
        rng.normal(0, _BEND * size, (_KNOTS, _KNOTS, 2)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
    )
    y, x = np.mgrid[:size, :size].astype(np.float32)
    x, y = x + bend[..., 0], y + bend[..., 1]
    back = cv2.invertAffineTransform(matrix)
    left, top = back[:, 2].astype(np.float32)
    return back[0, 0] * x + back[0, 1] * y + left, back[1, 0] * x + back[1, 1] * y + top


def _dyed(image: Image, soft: Image, rng: np.random.Generator) -> Image:
    """Only what hides the face in another light or another colour: a mask of other cloth, a hand of another skin."""
    weight = soft.astype(np.float32) * (1 / 255)
    return cv2.blendLinear(_tinted(image, rng), image, weight, 1 - weight)


def _tinted(image: Image, rng: np.random.Generator) -> Image:
    """Darker or lighter, with a colour cast, sometimes of another hue."""
    if rng.random() < 0.25:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(np.int32) + int(rng.integers(180))) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    gain = np.exp(rng.normal(-0.1, 0.3)) * np.exp(rng.normal(0, 0.1, 3))
    table = np.clip(np.arange(256, dtype=np.float32)[:, None] * gain, 0, 255).astype(np.uint8)
    return cv2.LUT(image, table[None])
