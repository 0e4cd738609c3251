"""Records the output to a file: .mp4, .mov or .webm, which players play, or lossless .mkv."""

from __future__ import annotations

import io
import logging
import os
import queue
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import numpy as np

from engines.contract import Image
from occlufix_vcam.core.errors import SinkUnavailable
from occlufix_vcam.core.files import sync_folder
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.media.colours import HD
from occlufix_vcam.core.media.ffmpeg import av
from occlufix_vcam.core.media.film_formats import Quality, check_recording, free_bytes, part_of, quality_in, unused
from occlufix_vcam.core.media.film_writer import FilmWriter, open_recording
from occlufix_vcam.core.output_transform import OutputTransform, even_size
from occlufix_vcam.system.priority import lower_priority

log = logging.getLogger(__name__)

#: Stops while there is still room to finish the file and for other programs.
_RESERVE_BYTES = 64 * 2**20
_FRAMES_BETWEEN_CHECKS = 30
#: What was recorded until then survives a power cut, too.
_SYNC_S = 2.0
#: Frames that may wait for the encoder.
_MOST_WAITING = 8


class Recorder:
    """Records each frame sent, at a constant rate or when it came; odd sizes grow by one pixel, as codecs require.

    A thread of less priority than the camera's encodes. Writes FILE.part.mp4, which plays at any moment up to its last
    half second, and renames it on closing. Nothing is overwritten: if a file or a part of that name is there, the new
    one gets a time stamp. Only this user can read it.
    """

    def __init__(
        self,
        target: str,
        *,
        size: tuple[int, int],
        rate: float,
        beside: bool = False,
        live: bool = False,
        quality: Quality = Quality.AUTO,
        free_bytes: Callable[[Path], int] = free_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`beside`: the picture before restoring beside each frame, left of it. `live`: the film lasts as long as the
        recording, also where frames come slower than `rate`, and frames that the encoder has no time for are left out.

        Raises ConfigError, SinkUnavailable.
        """
        check_recording(Path(target))
        self._path = unused(Path(target).expanduser())
        self.name = self._path.name
        self._partial = part_of(self._path)
        self._free_bytes = free_bytes
        self._check_space()
        even = even_size(size)
        self._fit, self._beside = OutputTransform(even), beside
        self._sent = self._next = self._left_out = 0
        self._rate, self._clock, self._live = rate, clock, live
        self._began = self._synced = clock()
        try:
            self._file = _NewFile(self._partial)
        except OSError as error:
            raise SinkUnavailable(
                f"{self._partial} cannot be written: {error.strerror}",
                "choose another file for the recording",
                code="recording_refused",
                file=self._path,
            ) from error
        self._film = open_recording(self._file, self._path.suffix)
        width = 2 * even[0] if beside else size[0]
        quality = quality_in(self._path, quality)
        self._writer = FilmWriter(self._film, (width, size[1]), rate, HD, quality=quality, live=True)
        self.codec = self._writer.codec
        self._is_closed = False
        self._waiting: queue.Queue[tuple[Frame, int] | None] = queue.Queue(_MOST_WAITING)
        self._trouble: Exception | None = None
        self._encoding = Thread(target=self._encode, name="recording", daemon=True)
        self._encoding.start()

    def _check_space(self) -> None:
        if self._free_bytes(self._path) < _RESERVE_BYTES:
            raise SinkUnavailable(
                f"the disk that holds {self._path} is full",
                "free some space, or record to another disk",
                code="disk_full",
                file=self._path,
            )

    def send(self, frame: Frame) -> None:
        if self._is_closed:
            raise SinkUnavailable(f"the recording {self._path} is closed", "start another")
        if self._sent % _FRAMES_BETWEEN_CHECKS == 0:
            self._check_space()
        if self._trouble is None:
            try:
                self._waiting.put((frame, self._number()), block=not self._live)
                self._sent += 1
            except queue.Full:
                self._left_out += 1
        if self._trouble is not None:
            raise self._broken(self._trouble)

    def _number(self) -> int:
        """Number of the next frame in the film: the one after the last, or a later one if that much time has passed."""
        number = self._next
        if self._live:
            self._began = self._clock() if number == 0 else self._began
            number = max(number, round((self._clock() - self._began) * self._rate))
        self._next = number + 1
        return number

    def _encode(self) -> None:
        """Encodes what is sent, until None; after trouble nothing any more, so that nobody waits."""
        lower_priority()
        while (one := self._waiting.get()) is not None:
            if self._trouble is None:
                try:
                    self._writer.write(self._picture(one[0]), one[1], 1)
                    self._sync_now_and_then()
                except Exception as error:  # noqa: BLE001 - whatever it is, `send` and `close` raise it
                    self._trouble = error

    def _sync_now_and_then(self) -> None:
        if self._clock() - self._synced >= _SYNC_S:
            self._synced = self._clock()
            # In a thread: a slow disk must not hold up the film. It has a descriptor of its own.
            Thread(target=_sync, args=(os.dup(self._file.fileno()),), name="sync", daemon=True).start()

    def _picture(self, frame: Frame) -> Image:
        after = self._fit(frame.image)
        if not self._beside:
            return after
        before = self._fit(frame.restored_from.image) if frame.restored_from is not None else after
        return np.hstack([before, after])

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._waiting.put(None)
        self._encoding.join()
        if self._trouble is not None or not self._sent:
            self._give_up()
            if self._trouble is not None:
                raise self._broken(self._trouble)
            return
        try:
            self._writer.finish()
            self._film.close()
            os.fsync(self._file.fileno())
            self._file.close()
            _renamed(self._partial, self._path)
            sync_folder(self._path.parent)
            if self._left_out:
                log.warning("%d frames of %s are left out: the processor is too busy", self._left_out, self._path)
        except (OSError, ValueError, av.FFmpegError) as error:
            self._give_up()
            raise self._broken(error) from error

    def _give_up(self) -> None:
        """Leaves the part as it is: finishing it could spoil what plays."""
        self._file.close()
        with suppress(OSError, ValueError, av.FFmpegError):
            self._film.close()
        if not self._sent:
            self._partial.unlink(missing_ok=True)

    def _broken(self, error: Exception) -> SinkUnavailable:
        reason = getattr(error, "strerror", None) or str(error)
        return SinkUnavailable(
            f"the recording cannot be continued: the disk may be full ({reason}); what there is of it: {self._partial}",
            "free some space, or record to another disk",
            code="recording_broken",
            file=self._partial,
        )


def _sync(descriptor: int) -> None:
    """Waits until the file is on the disk. A failure shows at the next write."""
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _NewFile(io.FileIO):
    """A new file that only this user can read, unbuffered. Raises FileExistsError where anything, or a link, lies."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):
            flags |= getattr(os, name, 0)
        super().__init__(os.open(path, flags, 0o600), "r+b")

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Writes all of it, in as many steps as the system takes."""
        rest = memoryview(data)
        while rest:
            rest = rest[super().write(rest) or 0 :]
        return len(data)


def _renamed(part: Path, path: Path) -> Path:
    """Gives the finished `part` its name, or one with a time stamp if that was taken meanwhile."""
    if os.path.lexists(path):
        path = unused(path)
    _NewFile(path).close()
    part.replace(path)
    return path
