"""Writes image files in their original depth, colours and format, completely or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import Image
from occlufix_vcam.core.errors import SinkUnavailable
from occlufix_vcam.core.files import write_atomically

Pixels = NDArray[np.integer[Any] | np.floating[Any]]

#: 101 is WebP's code for lossless.
QUALITY = {
    ".jpg": (cv2.IMWRITE_JPEG_QUALITY, 95),
    ".jpeg": (cv2.IMWRITE_JPEG_QUALITY, 95),
    ".webp": (cv2.IMWRITE_WEBP_QUALITY, 101),
}
SHALLOW = frozenset((".jpg", ".jpeg", ".jpe", ".webp", ".bmp", ".dib"))
#: One level of 8 bits in another type.
LEVEL = {"uint8": 1.0, "uint16": 257.0, "float32": 1 / 255, "float64": 1 / 255}


def put_into(pixels: Pixels, before: Image, after: Image) -> Pixels:
    """`pixels` (any depth, grey or colour, alpha) with what changed from `before` to `after`, both 8-bit BGR."""
    result = pixels.copy()
    changed = (before != after).any(axis=2)
    colours = after[changed].astype(np.float64)
    level = LEVEL[pixels.dtype.name]
    if pixels.ndim == 2:
        result[changed] = np.rint(colours @ (0.114, 0.587, 0.299)) * level
    else:
        result[changed, :3] = colours * level
    return result


def encode(pixels: Pixels, suffix: str) -> bytes:
    """Encodes `pixels` in the format of `suffix`, lossless if the format can. Raises SinkUnavailable."""
    suffix = suffix.lower()
    if suffix in SHALLOW and pixels.dtype.name != "uint8":
        pixels = (pixels / LEVEL[pixels.dtype.name]).clip(0, 255).astype(np.uint8)
    try:
        done, data = cv2.imencode(suffix, pixels, QUALITY.get(suffix, ()))
    except cv2.error:
        done = False
    if not done:
        raise SinkUnavailable(
            f"{suffix} cannot store such an image ({pixels.dtype})", "use an OUT that ends in .png or .tif"
        )
    return data.tobytes()


def write_file(path: Path, data: bytes) -> None:
    """Writes a file. Raises SinkUnavailable and then leaves the old one."""
    try:
        write_atomically(path, data)
    except OSError as error:
        raise SinkUnavailable(f"{path} cannot be written: {error.strerror}", "choose another place") from error
