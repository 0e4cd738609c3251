"""Pictures that carry their number, and colours that are known: so a reader proves which pictures came, and how.

A strip along the top holds 12 bits, each as two blocks, one the opposite of the other: what was not written by `stamp`
is not taken for a number. Four squares at the bottom left have flat colours. Both survive YUV, scaling and JPEG.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from engines.contract import Image

BITS = 12
#: Numbers go from 0 to MANY - 1.
MANY = 2**BITS
COLOURS_RGB = {"red": (190, 40, 40), "green": (40, 170, 40), "blue": (40, 40, 190), "white": (235, 235, 235)}


def stamp(image: Image, number: int) -> Image:
    """A copy of `image` with `number` and the colours drawn into it."""
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
    """The number in a picture of grey levels (HxW); None where there is none."""
    height, width = grey.shape
    line = grey[height // 20]
    light = [int(line[int(width * (block + 0.5) / (2 * BITS))]) > 128 for block in range(2 * BITS)]
    number = sum(1 << bit for bit in range(BITS) if light[2 * bit])
    return number if light == _blocks(number) else None


def steps(numbers: Sequence[int], many: int = MANY) -> list[int]:
    """By how much each number goes on from the one before, in a clip of `many` pictures that is played in a loop."""
    ahead = [(after - before) % many for before, after in pairwise(numbers)]
    return [step - many if step > many // 2 else step for step in ahead]


def are_in_order(numbers: Sequence[int], many: int = MANY) -> bool:
    """Whether none is older than the one before."""
    return min(steps(numbers, many), default=0) >= 0


def grey_of(yuyv: Image) -> Image:
    """The grey levels of a YUY2 picture (HxWx2)."""
    return np.ascontiguousarray(yuyv[..., 0])
