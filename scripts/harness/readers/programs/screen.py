"""A display of its own for one program, whose picture Xvfb keeps in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from engines.contract import Image
from scripts.harness.desktop import display
from scripts.harness.readers import numbered

#: Share of a screen in the colour of each of the stamp's squares where it shows the film, however small.
_SHARE = 0.002
_NEAR = 30


@contextmanager
def screen(
    environment: Mapping[str, str], folder: Path, size: str
) -> Iterator[tuple[dict[str, str], Callable[[], Image]]]:
    """Environment of a program on that display, and a function that takes a screenshot (HxWx3, BGR)."""
    with display(size, "-fbdir", str(folder)) as shown:
        around = {**environment, **shown, "HOME": str(folder), "LIBGL_ALWAYS_SOFTWARE": "1"}
        yield around, lambda: _read(folder / "Xvfb_screen0")


def _read(path: Path) -> Image:
    """A file in the format of `xwd`, with 4 bytes a pixel."""
    raw = path.read_bytes()
    header = np.frombuffer(raw, ">u4", 25)
    start, width, height, row, colours = (int(header[field]) for field in (0, 4, 5, 12, 19))
    pixels = np.frombuffer(raw, np.uint8, height * row, start + 12 * colours)
    return cv2.cvtColor(pixels.reshape(height, row // 4, 4)[:, :width], cv2.COLOR_BGRA2BGR)


def may_show_film(shot: Image) -> bool:
    """Whether a screenshot has the stamp's colours: a quick look before `sight.find`."""
    shares = [
        (np.abs(shot.astype(np.int16) - np.array(rgb[::-1])).max(axis=2) < _NEAR).mean()
        for rgb in numbered.COLOURS_RGB.values()
    ]
    return bool(min(shares) > _SHARE)
