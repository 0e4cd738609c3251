"""Reads image files of every kind, upright, and converts them and camera frames to the common format: BGR, 8 bits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from engines.contract import Image
from occlufix_vcam.core.errors import CameraNotFound, DeviceError
from occlufix_vcam.core.media.picture_facts import READABLE, PictureFacts, picture_facts, quiet

PICTURE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".jp2", ".ppm", ".pgm")
    + (".pnm", ".avif", ".heic", ".heif", ".gif")
)
#: Kinds that not every OpenCV reads.
_ONLY_PILLOW = frozenset(("AVIF", "GIF"))

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
    return to_bgr(read_picture(path)[0])


def read_picture(path: Path) -> tuple[Pixels, PictureFacts]:
    """Upright image as its file stores it: grey, BGR or BGRA, of 8 or 16 bits or floats; and what the file says of it.

    Raises CameraNotFound, or DeviceError if it is unreadable, too large to decode or holds several images.
    """
    facts = picture_facts(path)
    if facts.frames > 1:
        raise DeviceError(
            f"{path} holds several images, and all but the first would be lost", "save the one that is meant by itself"
        )
    try:
        data = path.read_bytes()
        pixels = _decoded_by_pillow(path) if facts.kind in _ONLY_PILLOW else _decoded(data, facts)
    except Exception:  # noqa: BLE001 - OpenCV and Pillow raise anything on damaged files
        pixels = None
    if pixels is None:
        raise DeviceError(f"{path} is not a readable image", "convert it to PNG or JPEG")
    return facts.upright(pixels), facts


def _decoded(data: bytes, facts: PictureFacts) -> Pixels | None:
    """By OpenCV, which reads all depths; "unchanged" keeps alpha and applies no orientation, except of TIFF."""
    as_stored = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION if facts.kind == "JPEG" else cv2.IMREAD_UNCHANGED
    return cv2.imdecode(np.frombuffer(data, np.uint8), as_stored)


def _decoded_by_pillow(path: Path) -> Pixels:
    with quiet(), Pillow.open(path, formats=READABLE) as picture:
        return pixels_of(picture)


def pixels_of(picture: Pillow.Image) -> Pixels:
    """BGR, or BGRA if anything can be transparent."""
    has_alpha = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
    pixels = np.asarray(picture.convert("RGBA" if has_alpha else "RGB"))
    return cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA if has_alpha else cv2.COLOR_RGB2BGR)


def picture_files(folder: Path) -> list[Path]:
    """Images in `folder` by their suffix, in natural order: 2 before 10. Raises CameraNotFound if there is none."""
    files = [file for file in visible_files(folder) if file.suffix.lower() in PICTURE_SUFFIXES]
    if not files:
        raise CameraNotFound(f"the folder {folder} contains no images", "name a folder with PNG or JPEG files")
    return files


def visible_files(folder: Path) -> list[Path]:
    """Files in natural order, without those whose name starts with a dot: they are other programs' notes."""
    try:
        files = [file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file()]
    except OSError as error:
        raise DeviceError(f"the folder {folder} cannot be read: {error.strerror}", "check its permissions") from error
    return sorted(files, key=_natural_key)


def _natural_key(file: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", file.name.casefold())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts], file.name
