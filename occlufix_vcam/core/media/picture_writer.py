"""Writes image files in their original depth, colours, profile and format, completely or not at all."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from engines.contract import Image
from occlufix_vcam.core.errors import SinkUnavailable
from occlufix_vcam.core.files import NewFile
from occlufix_vcam.core.media.picture_facts import PictureFacts

Pixels = NDArray[np.integer[Any] | np.floating[Any]]

NO_FACTS = PictureFacts("")
_PNG_HEADER = 33  # bytes of signature and first chunk

#: Kind (Pillow's name) by suffix, of the names that OUT may have.
KINDS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF",
    ".tiff": "TIFF", ".bmp": "BMP", ".dib": "DIB", ".avif": "AVIF", ".jp2": "JPEG2000", ".ppm": "PPM", ".pgm": "PPM",
    ".pnm": "PPM", ".gif": "GIF",
}  # fmt: skip
#: Kinds that Pillow writes with profile, EXIF and dpi, and its options: lossless where the format can be.
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"lossless": True, "exact": True, "method": 2},
    "TIFF": {"compression": "tiff_lzw"},
    "BMP": {},
    "AVIF": {"quality": 90},
    "GIF": {},
}
_SHALLOW = frozenset(("JPEG", "WEBP", "BMP", "DIB", "AVIF", "GIF"))
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


def encode(pixels: Pixels, suffix: str, facts: PictureFacts = NO_FACTS) -> bytes:
    """Encodes `pixels` in the format of `suffix`, lossless if the format can, with what `facts` hold beside pixels.

    Raises SinkUnavailable.
    """
    kind = KINDS.get(suffix.lower(), "")
    if kind in _SHALLOW and pixels.dtype.name != "uint8":
        pixels = (pixels / LEVEL[pixels.dtype.name]).clip(0, 255).astype(np.uint8)
    try:
        if pixels.dtype == np.uint8 and kind in _OPTIONS:
            return _by_pillow(pixels, kind, facts)
        done, data = cv2.imencode(suffix.lower(), pixels)
    except (cv2.error, OSError, ValueError):
        done = False
    if not done:
        raise SinkUnavailable(
            f"{suffix} cannot store such an image ({pixels.dtype})", "use an OUT that ends in .png or .tif"
        )
    add = {"PNG": _with_chunks, "TIFF": _with_tags}.get(kind)
    return add(data.tobytes(), facts) if add else data.tobytes()


def _by_pillow(pixels: Pixels, kind: str, facts: PictureFacts) -> bytes:
    if pixels.ndim == 3 and pixels.shape[2] == 4 and kind == "JPEG":
        pixels = pixels[:, :, :3]
    options = options_of(kind, facts)
    if kind == "JPEG" and facts.subsampling >= 0:
        options["subsampling"] = facts.subsampling
    data = io.BytesIO()
    to_pillow(pixels).save(data, kind, **options)
    return data.getvalue()


def to_pillow(pixels: Pixels) -> Pillow.Image:
    """Image of 8-bit grey, BGR or BGRA."""
    order = {2: None, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[pixels.shape[2] if pixels.ndim == 3 else 2]
    return Pillow.fromarray(pixels if order is None else cv2.cvtColor(np.ascontiguousarray(pixels), order))


def options_of(kind: str, facts: PictureFacts) -> dict[str, Any]:
    """With which Pillow writes this kind, without loss where it can be, with what `facts` hold."""
    options = dict(_OPTIONS[kind])
    if facts.profile:
        options["icc_profile"] = facts.profile
    if facts.exif and kind != "TIFF":
        options["exif"] = facts.exif
    if facts.dpi:
        options["dpi"] = facts.dpi
    return options


def _with_chunks(png: bytes, facts: PictureFacts) -> bytes:
    """A PNG of 16 bits, which Pillow cannot write, with profile, EXIF and dpi after its header."""
    chunks = b""
    if facts.profile:
        chunks += _chunk(b"iCCP", b"profile\0\0" + zlib.compress(facts.profile))
    if facts.dpi:
        chunks += _chunk(b"pHYs", struct.pack(">IIB", *(round(dpi / 0.0254) for dpi in facts.dpi), 1))
    if facts.exif:
        chunks += _chunk(b"eXIf", facts.exif.removeprefix(b"Exif\0\0"))
    return png[:_PNG_HEADER] + chunks + png[_PNG_HEADER:]


def _with_tags(tiff: bytes, facts: PictureFacts) -> bytes:
    """A TIFF of 16 bits or floats, which Pillow cannot write, with profile and dpi in a new directory at its end."""
    order = "<" if tiff.startswith(b"II") else ">"
    [place] = struct.unpack_from(f"{order}I", tiff, 4)
    [count] = struct.unpack_from(f"{order}H", tiff, place)
    tags = {tag: rest for tag, rest in struct.iter_unpack(f"{order}H10s", tiff[place + 2 : place + 2 + 12 * count])}
    data = bytearray(tiff) + b"\0" * (len(tiff) % 2)

    def add(tag: int, kind: int, count: int, value: bytes) -> None:
        at = value if len(value) <= 4 else struct.pack(f"{order}I", len(data))
        tags[tag] = struct.pack(f"{order}HI4s", kind, count, at)
        data.extend(value + b"\0" * (len(value) % 2) if len(value) > 4 else b"")

    if facts.profile:
        add(34675, 7, len(facts.profile), facts.profile)
    for tag, dpi in zip((282, 283), facts.dpi or (), strict=False):
        add(tag, 5, 1, struct.pack(f"{order}II", round(dpi * 1000), 1000))
    if facts.dpi:
        add(296, 3, 1, struct.pack(f"{order}HH", 2, 0))  # in inches
    struct.pack_into(f"{order}I", data, 4, len(data))
    directory = b"".join(struct.pack(f"{order}H10s", *tag) for tag in sorted(tags.items()))
    return bytes(data) + struct.pack(f"{order}H", len(tags)) + directory + bytes(4)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def write_file(path: Path, data: bytes) -> None:
    """Writes a file that only this user can read. Raises SinkUnavailable and then leaves the old one."""
    try:
        with NewFile(path) as new:
            new.file.write(data)
            new.move_to(path)
    except OSError as error:
        raise SinkUnavailable(f"{path} cannot be written: {error.strerror}", "choose another place") from error
