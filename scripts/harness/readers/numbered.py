"""Frames with a number and known colours, with which a reader proves which frames arrived, and how.

A strip along the top holds 12 bits, each as two blocks, one the inverse of the other: an image not written by `stamp`
is not taken for a number. Four squares at the bottom left have flat colours. Both survive YUV, scaling and JPEG.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from engines.contract import Image

BITS = 12
#: Numbers range from 0 to MANY - 1.
MANY = 2**BITS
COLOURS_RGB = {"red": (190, 40, 40), "green": (40, 170, 40), "blue": (40, 40, 190), "white": (235, 235, 235)}


def stamp(image: Image, number: int) -> Image:
    """Copy of `image` with `number` and the colours drawn into it."""
    stamped = image.copy()
    height, width = image.shape[:2]
    for block, white in enumerate(_blocks(number)):
        left, right = (width * edge // (2 * BITS) for edge in (block, block + 1))
        stamped[: height // 10, left:right] = 235 if white else 20
    side = height // 6
    for place, rgb in enumerate(COLOURS_RGB.values()):
        stamped[height - side :, place * side : (place + 1) * side] = rgb[::-1]
    return stamped


def _blocks(number: int) -> list[bool]:
    bits = [bool(number >> bit & 1) for bit in range(BITS)]
    return [white for bit in bits for white in (bit, not bit)]


def read(grey: Image) -> int | None:
    """Number in a frame of grey levels (HxW); None if there is none."""
    height, width = grey.shape
    line = grey[height // 20]
    light = [int(line[int(width * (block + 0.5) / (2 * BITS))]) > 128 for block in range(2 * BITS)]
    number = sum(1 << bit for bit in range(BITS) if light[2 * bit])
    return number if light == _blocks(number) else None


def steps(numbers: Sequence[int], many: int = MANY) -> list[int]:
    """Difference of each number from the previous one, in a clip of `many` frames that loops."""
    ahead = [(after - before) % many for before, after in pairwise(numbers)]
    return [step - many if step > many // 2 else step for step in ahead]


def are_in_order(numbers: Sequence[int], many: int = MANY) -> bool:
    """Whether no frame is older than the one before."""
    return min(steps(numbers, many), default=0) >= 0


def grey_of(yuyv: Image) -> Image:
    """Grey levels of a YUY2 frame (HxWx2)."""
    return np.ascontiguousarray(yuyv[..., 0])
