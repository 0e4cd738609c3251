"""Video, image or folder of images in place of a camera."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from engines.contract import Image
from occlufix_vcam.core.errors import CameraNotFound, DeviceError
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.media.film_facts import is_film
from occlufix_vcam.core.media.picture_facts import is_picture
from occlufix_vcam.core.media.pictures import PICTURE_SUFFIXES, load_picture, picture_files
from occlufix_vcam.sources import EndOfClip, SourceOptions
from occlufix_vcam.sources.pace import Pace

log = logging.getLogger(__name__)

#: A clip that decodes more slowly than it plays may skip this long for one frame; beyond that it plays slower.
_LONGEST_SKIP = 0.15

#: By this part of a frame a frame may come early: times in files are rounded.
_EARLY = 0.4


class Reel(Protocol):
    """Sequence of images, played once."""

    rate: float

    def next(self) -> Image | None:
        """Next image; None at the end."""
        ...

    def skip(self) -> bool:
        """Skips one image as cheaply as possible; False at the end."""
        ...

    def rewind(self) -> None: ...

    def close(self) -> None: ...


class Clip:
    """Clip that skips late frames in real time; otherwise every frame comes exactly once, as fast as it is read.

    A frame's index counts all frames from the start, including skipped ones and earlier loops.
    """

    def __init__(
        self,
        target: str,
        options: SourceOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        path = Path(target).expanduser()
        self.description = f"clip {path.name}"
        self.identity = str(path)
        self._reel = _open_reel(path, options.rate)
        self._loop, self._clock = options.loop, clock
        self._next = self._reel.next()  # decoded before it is due, like a camera's frame
        if self._next is None:
            self._reel.close()
            raise DeviceError(f"{path} contains no readable frame", "check that it plays in a video player")
        self._index = 0
        self.size = (self._next.shape[1], self._next.shape[0])
        self.rate = self._reel.rate
        self._pace = Pace(self.rate, options.realtime, clock, sleep)

    def read(self, timeout: float) -> Frame | None:
        if self._next is None:
            self._next = self._advance()
        due = self._pace.wait(self._index, timeout)
        if due is None:
            return None
        if due > self._index:
            self._skip_to(due)
        frame = Frame(self._next, self._index, self._clock())
        self._next, self._index = None, self._index + 1
        return frame

    def _advance(self) -> Image:
        image = self._reel.next()
        if image is None and self._loop:
            self._reel.rewind()
            image = self._reel.next()
        if image is None:
            raise EndOfClip
        return image

    def _skip_to(self, due: int) -> None:
        """Advances to frame `due`, or to the last one before it at the end of the clip."""
        give_up_at = self._clock() + _LONGEST_SKIP
        while self._index + 1 < due and self._clock() < give_up_at:
            if not self._reel.skip():
                if not self._loop:
                    return
                self._reel.rewind()
                continue
            self._index += 1
        try:
            self._next = self._advance()
        except EndOfClip:
            return
        self._index += 1
        if self._index < due:
            self._pace.restart(self._index)

    def close(self) -> None:
        self._reel.close()


class _Film:
    """Film, through FFmpeg, in square pixels and at a constant rate: a film of an uneven rate repeats or skips frames.

    Each image is the one that a player shows at that time. Raises ConfigError without PyAV.
    """

    def __init__(self, path: Path, fallback_rate: float) -> None:
        self._path = path
        self._open()
        rate = self._reader.rate
        self.rate = rate if 1 <= rate <= 240 else fallback_rate

    def _open(self) -> None:
        from occlufix_vcam.core.media.film_reader import FilmReader

        self._reader = FilmReader(self._path, square=True)
        self._shown, self._following = self._reader.next(), self._reader.next()
        self._began = self._shown.pts if self._shown else 0
        self._position = 0
        self._image: Image | None = None

    def next(self) -> Image | None:
        if not self.skip() or self._shown is None:
            return None
        if self._image is None:
            self._image = self._shown.image
        return self._image

    def skip(self) -> bool:
        due = self._began + (self._position + _EARLY) / (self.rate * self._reader.time_base)
        self._position += 1
        while self._shown is not None and self._ends_at() <= due:
            self._shown, self._following = self._following, self._reader.next()
            self._image = None
        return self._shown is not None

    def _ends_at(self) -> int:
        """When the shown frame gives way to the next, or the film ends."""
        assert self._shown is not None
        return self._following.pts if self._following else self._shown.pts + self._shown.duration

    def rewind(self) -> None:
        # Reopened, because not every container can seek.
        self._reader.close()
        self._open()

    def close(self) -> None:
        self._reader.close()


class _Pictures:
    """Image files; unreadable ones are skipped with a warning."""

    def __init__(self, files: Sequence[Path], rate: float) -> None:
        self.rate = rate
        self._files, self._position = files, 0
        self._only = load_picture(files[0]) if len(files) == 1 else None

    def next(self) -> Image | None:
        while self._position < len(self._files):
            file = self._files[self._position]
            self._position += 1
            if self._only is not None:
                return self._only
            try:
                return load_picture(file)
            except DeviceError as error:
                log.warning("skipped: %s", error.message)
        return None

    def skip(self) -> bool:
        self._position += 1
        return self._position <= len(self._files)

    def rewind(self) -> None:
        self._position = 0

    def close(self) -> None:
        self._only = None


def _open_reel(path: Path, rate: float) -> Reel:
    try:
        if path.is_dir():
            return _Pictures(picture_files(path), rate)
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except FileNotFoundError:
        hint = "check the path, or use `--source demo`"
        raise CameraNotFound(f"there is no clip {path}", hint, code="no_clip", clip=path) from None
    except OSError as error:
        raise DeviceError(f"{path} cannot be read: {error.strerror}", "check the file's permissions") from error
    if is_empty:
        raise DeviceError(f"{path} is empty", "choose another clip")
    is_one = is_picture(path) or (path.suffix.lower() in PICTURE_SUFFIXES and not is_film(path))
    return _Pictures([path], rate) if is_one else _Film(path, rate)
