"""Which films can be written, how well, and under which name. Imports no codec."""

from __future__ import annotations

import os
import shutil
import time
from enum import StrEnum
from importlib import import_module
from pathlib import Path

from occlufix_vcam.core.errors import ConfigError, SinkUnavailable

#: FFmpeg's name of each container.
FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
FILM_SUFFIXES = tuple(FORMATS)


class Quality(StrEnum):
    """How well a film is encoded; lossless is FFV1, which few players read, and `auto` is that in .mkv, else high."""

    AUTO = "auto"
    LOSSLESS = "lossless"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


def quality_in(path: Path, quality: Quality = Quality.AUTO) -> Quality:
    """What `auto` means for a film of this name. Raises ConfigError if it cannot be of this quality."""
    is_mkv = path.suffix.lower() == ".mkv"
    if quality is Quality.LOSSLESS and not is_mkv:
        raise ConfigError("a lossless film needs a name that ends in .mkv", "choose such a name, or another --quality")
    if quality is Quality.AUTO:
        return Quality.LOSSLESS if is_mkv else Quality.HIGH
    return quality


def keeps_pixel_shape(path: Path, quality: Quality) -> bool:
    """Whether such a film can have pixels that are not square: in WebM and with FFV1, the muxer is not told."""
    return quality is not Quality.LOSSLESS and path.suffix.lower() != ".webm"


def check_film_name(path: Path) -> None:
    """Raises ConfigError unless it names a film that can be written."""
    if path.suffix.lower() not in FORMATS:
        hint = "use a name that ends in .mp4, .mkv, .mov or .webm"
        raise ConfigError(f"{path} is not a video file name", hint, code="no_film_name", file=path)


def check_recording(path: Path) -> None:
    """Raises ConfigError or SinkUnavailable unless a recording can be started there."""
    check_codecs()
    path = path.expanduser()
    check_film_name(path)
    folder = path.parent
    if not folder.is_dir():
        message = f"there is no folder {folder} to record to"
        raise SinkUnavailable(message, "create it, or choose another", code="no_recording_folder", folder=folder)
    if path.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        hint = "choose another file for the recording"
        raise SinkUnavailable(f"{path} cannot be written", hint, code="recording_refused", file=path)


def check_codecs() -> None:
    """Raises ConfigError where PyAV, which reads and writes films, cannot be loaded."""
    import_module("occlufix_vcam.core.media.ffmpeg")


def free_bytes(path: Path) -> int:
    """On the disk that holds `path`."""
    return shutil.disk_usage(path.parent).free


def part_of(path: Path) -> Path:
    """Name of an unfinished film: it says so, and still plays."""
    return path.with_suffix(f".part{path.suffix}")


def unused(path: Path) -> Path:
    """`path`, or with a time stamp if that name or its part is taken: nothing is overwritten."""
    stamped, number = path, 0
    while os.path.lexists(stamped) or os.path.lexists(part_of(stamped)):
        number += 1
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S") + (f"_{number}" if number > 1 else "")
        stamped = path.with_name(f"{path.stem}_{stamp}{path.suffix}")
    return stamped
