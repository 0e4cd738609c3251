"""Restores one film: frame by frame, in its own time, with everything that it carries beside its picture."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from engines.contract import Image
from occlufix_vcam.core.errors import SinkUnavailable
from occlufix_vcam.core.files import NewFile
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.media.ffmpeg import av
from occlufix_vcam.core.media.film_companions import Companions, copier, take_facts
from occlufix_vcam.core.media.film_formats import (
    FORMATS,
    Quality,
    check_film_name,
    keeps_pixel_shape,
    part_of,
    quality_in,
    unused,
)
from occlufix_vcam.core.media.film_reader import FilmReader, in_square_pixels
from occlufix_vcam.core.media.film_writer import FilmWriter, open_film

#: Restores a frame; `frame.image` itself comes back if nothing changed.
Restore = Callable[[Frame], Image]
#: What browsers and phones play once it is in the right container.
_PLAYED_IN_WEBM = frozenset(("vp8", "vp9", "av1"))
_PLAYED = _PLAYED_IN_WEBM | {"h264", "hevc"}


@dataclass(frozen=True, slots=True)
class FilmOptions:
    quality: Quality = Quality.AUTO
    side_by_side: bool = False


@dataclass(frozen=True, slots=True)
class FilmResult:
    """Where the film is, how many frames could be read of how many, and what its new format cannot hold."""

    path: Path
    read: int
    expected: int
    is_cut_off: bool
    left_out: tuple[str, ...]

    @property
    def damage(self) -> str | None:
        """What is missing; None if the film is whole."""
        if self.is_cut_off:
            return f"the film is cut off: {self.read} of {self.expected} frames are in {self.path}"
        missing = self.expected - self.read
        return f"the film is damaged: {missing} of {self.expected} frames cannot be read" if missing > 0 else None


def restore_film(
    source: Path,
    target: Path,
    restorer: Callable[[Image], AbstractContextManager[Restore]],
    options: FilmOptions,
    progress: Callable[[int, int], None],
) -> FilmResult:
    """Writes `target` completely or not at all. `restorer` makes what restores, given the film's first image.

    A film of which nothing changes is copied. One that is cut off replaces no older film: its part goes beside it.
    Raises DeviceError, ConfigError, SinkUnavailable.
    """
    check_film_name(target)
    options = replace(options, quality=quality_in(target, options.quality))
    square = not keeps_pixel_shape(target, options.quality)
    with _open(source, square) as reader, _told(target), NewFile(target) as new:
        changed, left_out = _encode(reader, new.path, target.suffix, restorer, options, progress)
        cut_off = reader.is_cut_off
        whole = not (changed or options.side_by_side or reader.lost or cut_off or reader.was_interlaced)
        if whole and _can_be_copied(reader, source, target):
            left_out = _copy(reader, source, new.path, target.suffix)
        place = unused(part_of(target)) if cut_off and target.exists() else target
        new.move_to(place)
        expected = max(reader.expected, reader.read) if cut_off else reader.read + reader.lost
        return FilmResult(place, reader.read, expected, cut_off, tuple(left_out))


def _encode(
    reader: FilmReader,
    file: Path,
    suffix: str,
    restorer: Callable[[Image], AbstractContextManager[Restore]],
    options: FilmOptions,
    progress: Callable[[int, int], None],
) -> tuple[bool, list[str]]:
    """Whether anything was restored, and the streams that were left out."""
    width, height = reader.size
    size = (2 * width if options.side_by_side else width, height)
    changed, frame = False, reader.next()
    assert frame is not None, "a reader has at least one frame"
    with open_film(file, suffix) as output, restorer(in_square_pixels(frame.image, reader.pixel_shape)) as restore:
        writer = FilmWriter(
            output,
            size,
            reader.rate,
            reader.tags,
            time_base=reader.time_base,
            pixel_shape=reader.pixel_shape,
            quality=options.quality,
        )
        companions = Companions(reader.container, output, reader.stream)
        take_facts(reader.stream, writer.stream)
        reader.carry_to(companions.carry)
        index = 0
        while frame is not None:
            before = _fitted(frame.image, reader.size)
            shown_at = float(frame.pts * reader.time_base)
            after = _restored(Frame(before, index, shown_at), reader.pixel_shape, restore)
            changed |= after is not before
            image = np.hstack([before, after]) if options.side_by_side else after
            writer.write(image, frame.pts, frame.duration)
            index += 1
            progress(index, max(reader.expected, index))
            frame = reader.next()
        writer.finish()
        companions.finish()
    return changed, companions.left_out


def _restored(frame: Frame, pixel_shape: Fraction, restore: Restore) -> Image:
    """The frame with what `restore` changes in it, seen in square pixels; its own image if that is nothing."""
    if pixel_shape == 1:
        return restore(frame)
    square = replace(frame, image=in_square_pixels(frame.image, pixel_shape))
    result = restore(square)
    if result is square.image:
        return frame.image
    size = frame.image.shape[1::-1]
    changed = (result != square.image).any(axis=2).astype(np.uint8)
    weight = cv2.resize(changed, size, interpolation=cv2.INTER_NEAREST)[..., None]
    return np.where(weight > 0, cv2.resize(result, size, interpolation=cv2.INTER_AREA), frame.image).astype(np.uint8)


def _fitted(image: Image, size: tuple[int, int]) -> Image:
    """Scales the frames of a film that changes its size to that of the first."""
    return image if image.shape[1::-1] == size else np.asarray(cv2.resize(image, size), np.uint8)


def _can_be_copied(reader: FilmReader, source: Path, target: Path) -> bool:
    played = _PLAYED_IN_WEBM if target.suffix.lower() == ".webm" else _PLAYED
    return _is_same_format(reader, source, target.suffix) or reader.stream.codec_context.name in played


def _is_same_format(reader: FilmReader, source: Path, suffix: str) -> bool:
    is_right_name = FORMATS[suffix.lower()] in reader.container.format.name.split(",")
    return is_right_name and source.suffix.lower() == suffix.lower()


def _copy(reader: FilmReader, source: Path, file: Path, suffix: str) -> list[str]:
    """Writes the film into `file` as it is; the streams that were left out."""
    if _is_same_format(reader, source, suffix):
        shutil.copyfile(source, file)
        return []
    with _open(source) as again, open_film(file, suffix) as output:
        main = copier(again.stream, output)
        companions = Companions(again.container, output, again.stream)
        again.container.seek(0)
        for packet in again.container.demux():
            (main if packet.stream is again.stream else companions.carry)(packet)
        companions.finish()
    return companions.left_out


@contextmanager
def _open(path: Path, square: bool = False) -> Iterator[FilmReader]:
    reader = FilmReader(path, companions=True, square=square)
    try:
        yield reader
    finally:
        reader.close()


@contextmanager
def _told(target: Path) -> Iterator[None]:
    """Turns a failure to write into SinkUnavailable; the reader tells its own."""
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SinkUnavailable(f"{target} cannot be written: {reason}", "choose another place, or free space") from error
