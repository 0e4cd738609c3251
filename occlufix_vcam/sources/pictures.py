"""Reads image files of every kind, and converts them and camera frames to the common format: BGR, 8 bits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import Image
from occlufix_vcam.core.errors import CameraNotFound, DeviceError

PICTURE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".jp2", ".ppm", ".pgm", ".pnm")
)


#: An image of any kind, as OpenCV returns it.
Pixels: TypeAlias = NDArray[np.integer[Any] | np.floating[Any]]


def to_bgr(image: Pixels) -> Image:
    """HxWx3 uint8 BGR, C-contiguous, read-only; `image` itself if it is already.

    Grey (HxW or HxWx1) is repeated, 16 bits are cut to the upper 8, floats are taken as 0..1. Transparent pixels become
    black, like the bars around an image of another shape. Raises DeviceError for any other kind.
    """
    if image.ndim == 2:
        image = image[:, :, None]
    if image.dtype == np.uint16:
        image = (cast(NDArray[np.uint16], image) >> 8).astype(np.uint8)
    elif image.dtype in (np.float32, np.float64):
        image = (np.nan_to_num(image).clip(0, 1) * 255).astype(np.uint8)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
        raise DeviceError(
            f"an image of shape {image.shape} and type {image.dtype} cannot be shown",
            "use 8- or 16-bit grey, colour or colour with alpha",
        )
    if image.shape[2] == 1:
        image = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2BGR)
    elif image.shape[2] == 4:
        opacity = cv2.cvtColor(np.ascontiguousarray(image[:, :, 3]), cv2.COLOR_GRAY2BGR)
        image = cv2.multiply(image[:, :, :3], opacity, scale=1 / 255)
    bgr: Image = np.ascontiguousarray(image, dtype=np.uint8)
    bgr.flags.writeable = False
    return bgr


def load_picture(path: Path) -> Image:
    """Image file in the format of `to_bgr`, turned upright. Raises CameraNotFound, or DeviceError if unreadable."""
    return to_bgr(read_pixels(path))


def read_pixels(path: Path) -> Pixels:
    """Image as its file stores it: grey, BGR or BGRA, of 8 or 16 bits or floats; only a JPEG is turned upright."""
    try:
        stored = path.read_bytes()  # not cv2.imread: no umlauts on Windows
    except FileNotFoundError:
        raise CameraNotFound(f"there is no image {path}", "check the path") from None
    except OSError as error:
        raise DeviceError(f"{path} cannot be read: {error.strerror}", "check the file's permissions") from error
    return decode_pixels(stored, str(path))


def decode_pixels(stored: bytes, name: str) -> Pixels:
    """The same for a file's content; `name` is for the error. Raises DeviceError."""
    data = np.frombuffer(stored, np.uint8)
    # Only a JPEG has an orientation, and "unchanged", which keeps alpha, does not apply it.
    is_jpeg = data[:2].tobytes() == b"\xff\xd8"
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR if is_jpeg else cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        raise DeviceError(f"{name} is not a readable image", "use PNG, JPEG, WebP, TIFF or BMP")
    return image


def picture_files(folder: Path) -> list[Path]:
    """Images in `folder` in natural order: 2 before 10. Raises CameraNotFound if there is none."""
    try:
        files = [file for file in folder.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file()]
    except OSError as error:
        raise DeviceError(f"the folder {folder} cannot be read: {error.strerror}", "check its permissions") from error
    if not files:
        raise CameraNotFound(f"the folder {folder} contains no images", "name a folder with PNG or JPEG files")
    return sorted(files, key=_natural_key)


def _natural_key(file: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", file.name.casefold())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts], file.name
