"""Rotates the frames of a source: a camera is mounted on its side, or a driver delivers them upside down.

The face finder needs upright faces, so this comes before the pipeline.
"""

from __future__ import annotations

from dataclasses import replace

import cv2

from engines.contract import Image
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.sources import CameraSource

_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


class RotatedSource:
    """`source` with its frames flipped upside down if `flip` is set, then rotated by `rotate` degrees clockwise."""

    def __init__(self, source: CameraSource, rotate: int, flip: bool) -> None:
        self._source = source
        self._rotation = _ROTATIONS.get(rotate)
        self._flip = flip

    @property
    def size(self) -> tuple[int, int]:
        width, height = self._source.size
        return (height, width) if self._rotation in (_ROTATIONS[90], _ROTATIONS[270]) else (width, height)

    @property
    def rate(self) -> float:
        return self._source.rate

    @property
    def description(self) -> str:
        return self._source.description

    @property
    def identity(self) -> str:
        return self._source.identity

    def read(self, timeout: float) -> Frame | None:
        frame = self._source.read(timeout)
        return None if frame is None else replace(frame, image=self._rotated(frame.image))

    def close(self) -> None:
        self._source.close()

    def _rotated(self, image: Image) -> Image:
        if self._flip:
            image = cv2.flip(image, 0)  # type: ignore[assignment]
        if self._rotation is not None:
            image = cv2.rotate(image, self._rotation)  # type: ignore[assignment]
        image.flags.writeable = False
        return image
