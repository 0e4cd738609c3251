"""Reads masks as people and programs write them: white, in alpha, as labels, or as a hole in a photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engines.contract import HIDDEN, Image
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.media.picture_writer import LEVEL
from occlufix_vcam.core.media.pictures import Pixels, picture_files, read_picture

#: Grey levels within which opaque pixels are one colour: a drawn mask.
_ONE_COLOUR = 16
#: With more grey levels than this it is a photograph.
_LABELS = 32


def read_mask(path: Path, source: Path, size: tuple[int, int]) -> Image:
    """Mask for `source` of `size` (width, height): height x width uint8, HIDDEN or 0.

    `path` may be a folder of masks that have the names of their images. Raises ConfigError, DeviceError.
    """
    if path.is_dir():
        path = _of_the_same_name(path, source)
    pixels, _ = read_picture(path)
    if pixels.shape[1::-1] != size:
        raise ConfigError(
            f"the mask {path.name} is {pixels.shape[1]}x{pixels.shape[0]}, "
            f"the image {source.name} is {size[0]}x{size[1]}",
            "use a mask of the same size, white where hidden and black elsewhere",
        )
    hidden = marked(pixels)
    if not hidden.any():
        raise ConfigError(f"the mask {path.name} marks nothing", "make it white where hidden and black elsewhere")
    return np.where(hidden, np.uint8(HIDDEN), np.uint8(0))


def marked(pixels: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Where a mask marks something. Alpha that varies counts before colours."""
    grey = pixels if pixels.ndim == 2 else pixels[:, :, :3].max(axis=2)
    levels = np.rint(grey / LEVEL[pixels.dtype.name]) if pixels.dtype != np.uint8 else grey
    if not levels.any():
        levels = (grey > 0) * HIDDEN  # labels of 16 bits
    if pixels.ndim == 3 and pixels.shape[2] == 4 and np.ptp(pixels[:, :, 3]):
        opaque = pixels[:, :, 3] / LEVEL[pixels.dtype.name] > HIDDEN / 2
        shown = levels[opaque]
        if not shown.size or np.ptp(shown) <= _ONE_COLOUR:
            return opaque
        if np.unique(shown).size > _LABELS:
            return ~opaque  # a hole in a photograph
        levels = np.where(opaque, levels, 0)
    if levels.max() > HIDDEN / 2:
        return np.asarray(levels > HIDDEN / 2)
    is_label = np.unique(levels).size <= _LABELS
    return np.asarray(levels > (0 if is_label else levels.max() / 2))


def _of_the_same_name(folder: Path, source: Path) -> Path:
    for file in picture_files(folder):
        if file.stem == source.stem:
            return file
    raise ConfigError(f"{folder} contains no mask for {source.name}", "give each mask the name of its image")
