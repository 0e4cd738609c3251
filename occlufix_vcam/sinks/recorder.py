"""Writes the output to a file: .mp4, which every player plays, or lossless .mkv."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

import cv2
import numpy as np

from engines.contract import Image
from occlufix_vcam.core.errors import ConfigError, SinkUnavailable
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.output_transform import OutputTransform, even_size

#: Stops while there is still room to finish the file and for other programs.
_RESERVE_BYTES = 64 * 2**20
_FRAMES_BETWEEN_CHECKS = 30

#: (OpenCV's writer, codec) in order of preference: H.264 comes from the system if it has an encoder.
_H264 = {"win32": (cv2.CAP_MSMF, "H264"), "darwin": (cv2.CAP_AVFOUNDATION, "avc1")}
_CODECS = {
    ".mp4": (_H264.get(sys.platform, (cv2.CAP_FFMPEG, "avc1")), (cv2.CAP_FFMPEG, "mp4v")),
    ".mkv": ((cv2.CAP_FFMPEG, "FFV1"),),
}
FILM_SUFFIXES = tuple(_CODECS)


class Writer(Protocol):
    """The part of cv2.VideoWriter that is used here."""

    def isOpened(self) -> bool: ...  # noqa: N802 - OpenCV's name

    def write(self, image: Image) -> bool | None: ...

    def release(self) -> None: ...


def open_writer(path: Path, rate: float, size: tuple[int, int]) -> tuple[Writer, str]:
    """Writer and its codec. Raises SinkUnavailable."""
    for api, codec in _CODECS[path.suffix.lower()]:
        writer = cast(Writer, cv2.VideoWriter(str(path), api, cv2.VideoWriter.fourcc(*codec), rate, size))
        if writer.isOpened():
            return writer, codec
        writer.release()
    raise SinkUnavailable(f"no video encoder could open {path}", "reinstall opencv-python-headless")


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


class Recorder:
    """Records one video frame per frame sent, at a constant rate; odd sizes grow by one pixel, as codecs require.

    Writes FILE.part.mp4 and renames it on closing: FILE.mp4 is complete or is the previous one, even after a kill; the
    same for .mkv.
    """

    def __init__(
        self,
        target: str,
        *,
        size: tuple[int, int],
        rate: float,
        beside: bool = False,
        open_writer: Callable[[Path, float, tuple[int, int]], tuple[Writer, str]] = open_writer,
        free_bytes: Callable[[Path], int] = free_bytes,
    ) -> None:
        """`beside`: the picture before restoring beside each frame, left of it."""
        self._path = Path(target).expanduser()
        self.name = self._path.name
        self._partial = self._path.with_suffix(f".part{self._path.suffix}")
        self._free_bytes = free_bytes
        self._check_place()
        even = even_size(size)
        self._fit = OutputTransform(even)
        self._writer: Writer | None
        self._beside = beside
        self._writer, self.codec = open_writer(self._partial, rate, (2 * even[0], even[1]) if beside else even)
        self._sent = 0

    def _check_place(self) -> None:
        folder = self._path.parent
        if self._path.suffix.lower() not in FILM_SUFFIXES:
            raise ConfigError(f"{self._path} is not a video file name", "use a name that ends in .mp4 or .mkv")
        if not folder.is_dir():
            raise SinkUnavailable(f"there is no folder {folder} to record to", "create it, or choose another")
        if self._path.is_dir() or not os.access(folder, os.W_OK):
            raise SinkUnavailable(f"{self._path} cannot be written", "choose another file for the recording")
        self._check_space()

    def _check_space(self) -> None:
        if self._free_bytes(self._path.parent) < _RESERVE_BYTES:
            raise SinkUnavailable(
                f"the disk that holds {self._path} is full", "free some space, or record to another disk"
            )

    def send(self, frame: Frame) -> None:
        if self._writer is None:
            raise SinkUnavailable(f"the recording {self._path} is closed", "start another")
        if self._sent % _FRAMES_BETWEEN_CHECKS == 0:
            self._check_space()
        # OpenCV 5 returns False if it could not write, OpenCV 4 returns nothing.
        if self._writer.write(self._picture(frame)) is False:
            raise SinkUnavailable(
                f"the recording {self._path} cannot be continued: the disk may be full", "free some space"
            )
        self._sent += 1

    def _picture(self, frame: Frame) -> Image:
        after = self._fit(frame.image)
        if not self._beside:
            return after
        before = self._fit(frame.restored_from.image) if frame.restored_from is not None else after
        return np.hstack([before, after])

    def close(self) -> None:
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        if not self._sent:
            self._partial.unlink(missing_ok=True)
            return
        if not _plays(self._partial):
            raise SinkUnavailable(f"the recording {self._partial} is broken: the disk may be full", "free some space")
        self._partial.replace(self._path)


def _plays(path: Path) -> bool:
    film = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    plays = film.isOpened() and film.grab()
    film.release()
    return bool(plays)
