"""What a picture's file says of itself before its pixels are decoded: kind, size, orientation, colour profile."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import TiffImagePlugin

from occlufix_vcam.core.errors import CameraNotFound, DeviceError

#: More than the largest cameras take; beyond, a small file could fill the memory.
LARGEST_PX = 2**27
READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "GIF")
#: Kinds of which several images are an animation; those of a TIFF are pages.
ANIMATED = frozenset(("GIF", "WEBP", "PNG"))
Pillow.MAX_IMAGE_PIXELS = None  # our own limit says how large the image is
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_ORIENTATION = 0x0112
#: By the value in EXIF: whether to transpose, and what to flip after that (in OpenCV's codes).
_TURNS: dict[int, tuple[bool, int | None]] = {
    2: (False, 1), 3: (False, -1), 4: (False, 0), 5: (True, None), 6: (True, 1), 7: (True, -1), 8: (True, 0),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """Kind by content (Pillow's name), what goes into a new file of it, and how it is turned upright."""

    kind: str
    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    exif: bytes = b""  # of the upright picture
    profile: bytes = b""
    dpi: tuple[float, float] | None = None
    subsampling: int = -1
    frames: int = 1

    @property
    def is_animation(self) -> bool:
        return self.frames > 1 and self.kind in ANIMATED

    def upright(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        transpose, flip = _TURNS.get(self.orientation, (False, None))
        pixels = cv2.transpose(pixels) if transpose else pixels
        return pixels if flip is None else cv2.flip(pixels, flip)


def picture_facts(path: Path) -> PictureFacts:
    """Reads the header alone. Raises CameraNotFound, or DeviceError if this is no picture that can be read."""
    try:
        with path.open("rb") as file, quiet():
            return _read(path, file)
    except FileNotFoundError:
        raise CameraNotFound(f"there is no image {path}", "check the path") from None
    except OSError as error:
        raise DeviceError(f"{path} cannot be read: {error.strerror}", "check the file's permissions") from error


def is_picture(path: Path) -> bool:
    """Whether it is a picture by its content, if only of a kind that cannot be read."""
    try:
        with path.open("rb") as file, quiet():
            start = file.read(16)
            file.seek(0)
            return _is_heic(start) or _header(file) is not None
    except OSError:
        return False


@contextmanager
def quiet() -> Iterator[None]:
    """Silences Pillow's warnings of damaged tags."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read(path: Path, file: BinaryIO) -> PictureFacts:
    start = file.read(16)
    file.seek(0)
    if _is_heic(start):
        raise DeviceError(f"{path} is a HEIC image, which cannot be read here", "convert it to PNG or JPEG")
    header = _header(file)
    if header is None:
        return PictureFacts("TIFF", _checked(path, _tiff_size(path, file)))
    try:
        return _facts(header, file, _checked(path, header.size))
    except DeviceError:
        raise
    except Exception as error:
        raise _unreadable(path) from error


def _header(file: BinaryIO) -> Pillow.Image | None:
    try:
        return Pillow.open(file, formats=READABLE)
    except Exception:  # noqa: BLE001 - Pillow raises anything on damaged files
        return None


def _facts(header: Pillow.Image, file: BinaryIO, size: tuple[int, int]) -> PictureFacts:
    exif = header.getexif() if _has_exif(header, file) else Pillow.Exif()
    orientation = exif.get(_ORIENTATION, 1)
    exif[_ORIENTATION] = 1
    is_tiff = header.format == "TIFF"  # its EXIF is the file's own structure, and OpenCV turns it upright
    dpi = header.info.get("dpi")
    return PictureFacts(
        kind="JPEG" if header.format == "MPO" else header.format or "",
        size=size,
        orientation=1 if is_tiff or not isinstance(orientation, int) else orientation,
        exif=exif.tobytes() if len(exif) > 1 and not is_tiff else b"",
        profile=b"" if header.mode == "CMYK" else header.info.get("icc_profile") or b"",
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and all(0 < float(value) < 1e6 for value in dpi) else None,
        subsampling=_subsampling(header),
        frames=1 if header.format == "MPO" else getattr(header, "n_frames", 1),
    )


def _has_exif(header: Pillow.Image, file: BinaryIO) -> bool:
    """Whether to ask for EXIF: of a PNG, the answer takes decoding all of it, as it may come after the pixels."""
    if header.format != "PNG" or "exif" in header.info or "Raw profile type exif" in header.info:
        return True
    where = file.tell()
    try:
        return b"eXIf" in _chunk_names(file)
    finally:
        file.seek(where)


def _chunk_names(file: BinaryIO) -> set[bytes]:
    names, place, ends_at = set(), len(b"\x89PNG\r\n\x1a\n"), file.seek(0, os.SEEK_END)
    while place + 8 <= ends_at:
        file.seek(place)
        length, name = struct.unpack(">I4s", file.read(8))
        names.add(name)
        place += length + 12
    return names


def _subsampling(header: Pillow.Image) -> int:
    if header.format not in ("JPEG", "MPO"):
        return -1
    from PIL import JpegImagePlugin

    return int(JpegImagePlugin.get_sampling(header))


def _tiff_size(path: Path, file: BinaryIO) -> tuple[int, int]:
    """Size of a TIFF whose pixels only OpenCV reads, such as colours of 32 bits."""
    file.seek(0)
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(tags.next)
        tags.load(file)
        return int(tags[TiffImagePlugin.IMAGEWIDTH]), int(tags[TiffImagePlugin.IMAGELENGTH])
    except Exception as error:
        raise _unreadable(path) from error


def _checked(path: Path, size: tuple[int, int]) -> tuple[int, int]:
    if size[0] * size[1] > LARGEST_PX:
        raise DeviceError(
            f"{path} is an image of {size[0]}x{size[1]} pixels, more than can be read ({LARGEST_PX / 1e6:.0f} million)",
            "scale it down first",
        )
    return size


def _unreadable(path: Path) -> DeviceError:
    return DeviceError(f"{path} is not a readable image", "convert it to PNG or JPEG")


def _is_heic(start: bytes) -> bool:
    return start[4:8] == b"ftyp" and start[8:12] in _HEIC
