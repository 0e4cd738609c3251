"""Reads clips and writes lossless films, a frame at a time: a film in full resolution does not fit into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from engines.contract import Image, Points
from train.data.face_set import DataError
from train.data.labels import YuNet

RATE = 30.0
#: Faces are looked for in a frame with this longer side.
_SEARCH_PX = 640


def clip_file(data: Path, clip: str) -> Path:
    """A clip of a person whom nothing hides. Raises DataError if there is none of this name."""
    places = [data / folder / f"{clip}.mp4" for folder in ("clips", "talk")]
    for place in places:
        if place.is_file():
            return place
    raise DataError(f"there is no {places[0]}; give the data folder with --data")


def frames_of(path: Path, start: int = 0) -> Iterator[Image]:
    """The film's frames from `start` on."""
    film = cv2.VideoCapture(str(path))
    film.set(cv2.CAP_PROP_POS_FRAMES, start)
    try:
        while (answer := film.read())[0]:
            yield np.asarray(answer[1], np.uint8)
    finally:
        film.release()


def read_clip(data: Path, clip: str, start: int, count: int) -> list[Image]:
    """`count` frames of a clip. Raises DataError where the clip is missing or too short."""
    path = clip_file(data, clip)
    frames = list(islice(frames_of(path, start), count))
    if len(frames) < count:
        raise DataError(f"{path} has no {count} frames from frame {start} on; give the data folder with --data")
    return frames


class FilmWriter:
    """Writes a film without loss (FFV1); opened by its first picture."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._film: cv2.VideoWriter | None = None

    def write(self, picture: Image) -> None:
        """`picture` is height x width (x 3) uint8."""
        if self._film is None:
            codec, size = cv2.VideoWriter.fourcc(*"FFV1"), picture.shape[1::-1]
            self._film = cv2.VideoWriter(str(self._path), cv2.CAP_FFMPEG, codec, RATE, size)
        self._film.write(picture if picture.ndim == 3 else cv2.merge([picture] * 3))

    def close(self) -> None:
        if self._film is not None:
            self._film.release()


def write_film(path: Path, pictures: Iterable[Image]) -> None:
    with closing(FilmWriter(path)) as film:
        for picture in pictures:
            film.write(picture)


def steady_landmarks(data: Path, frames: Iterable[Image]) -> list[Points]:
    """YuNet's landmarks in each frame, smoothed over time."""
    find, found = YuNet(data), list[Points]()
    for image in frames:
        scale = min(1.0, _SEARCH_PX / max(image.shape[:2]))
        faces = find(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        found.append(max(faces, key=lambda face: face.score).landmarks / scale if faces else found[-1])
    weights = cv2.getGaussianKernel(9, 2.0)[:, 0]
    padded = np.pad(np.stack(found), ((4, 4), (0, 0), (0, 0)), mode="edge")
    return [np.tensordot(weights, padded[at : at + 9], 1).astype(np.float32) for at in range(len(found))]
