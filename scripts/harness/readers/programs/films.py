"""Two films of the demo's masked face with the same numbers: as a camera takes it, and as the product restores it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2

from engines.contract import Image
from scripts.harness.readers import product


@dataclass(frozen=True, slots=True)
class Films:
    """Both films, and their frames by number (HxWx3, BGR)."""

    bare_path: Path
    restored_path: Path
    bare: list[Image]
    restored: list[Image]


def make(folder: Path, pictures: int, size: tuple[int, int] = (1280, 720), rate: float = product.RATE) -> Films:
    """Writes both films, the restored one with `occlufix-vcam process` and the real networks."""
    bare, restored = _paths(folder)
    product.make_clip(bare, pictures, size, rate)
    done = product.run(os.environ, "process", str(bare), str(restored))
    assert done.returncode == 0, done.stderr
    return load(folder)


def load(folder: Path) -> Films:
    """Films that `make` has written."""
    bare, restored = _paths(folder)
    return Films(bare, restored, _frames(bare), _frames(restored))


def _paths(folder: Path) -> tuple[Path, Path]:
    return folder / "bare.mp4", folder / "restored.mp4"


def _frames(path: Path) -> list[Image]:
    film, frames = cv2.VideoCapture(str(path)), []
    while (frame := film.read()[1]) is not None:
        frames.append(frame)
    film.release()
    return frames
