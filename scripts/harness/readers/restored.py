"""What a call's compression leaves of the restored part of a picture."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import Image
from scripts.harness.readers.call import End, pairs

#: Grey levels by which restoring changed a pixel, so that it belongs to the restored part.
CHANGED = 24
#: Pixels of a picture that must have changed for a part to count.
LEAST = 0.002
#: Numbers apart of pictures between which flicker is measured: where the machine is slow, not all come.
NEAR = 3
Part = NDArray[np.bool_]


def compared(film: Path, sent: End, arrived: End, folder: Path | None) -> list[str]:
    """PSNR in dB, and how much of sharpness and flicker is left, inside the part that restoring changed."""
    before = _pictures(film, {number for number, _, _ in pairs(sent, arrived)})
    parts = {number: (left, came, _part(before[number], left)) for number, left, came in pairs(sent, arrived)}
    kept = {number: each for number, each in parts.items() if each[2].mean() > LEAST}
    if not kept:
        return ["-"] * 3
    if folder is not None:
        _write(folder, before, kept)
    psnr = [_psnr(left[part], came[part]) for left, came, part in kept.values()]
    sharp = [_sharpness(came, part) / _sharpness(left, part) for left, came, part in kept.values()]
    near = [(one, two) for one, two in pairwise(kept) if two - one <= NEAR]
    neighbours = [(one, two) for one, two in near if kept[one][1].shape == kept[two][1].shape]
    flicker = [
        _change(kept[two][1], kept[one][1], kept[one][2]) / _change(kept[two][0], kept[one][0], kept[one][2])
        for one, two in neighbours
    ]
    return [f"{np.mean(psnr):.1f}", f"{np.mean(sharp):.2f}", f"{np.mean(flicker):.2f}" if flicker else "-"]


def _pictures(film: Path, numbers: set[int]) -> dict[int, Image]:
    """Pictures of the film, BGR, by their numbers."""
    with av.open(str(film)) as opened:
        frames = enumerate(opened.decode(video=0))
        return {number: np.asarray(frame.to_ndarray(format="bgr24")) for number, frame in frames if number in numbers}


def _part(before: Image, after: Image) -> Part:
    """HxW: where restoring changed the picture, without specks."""
    if before.shape != after.shape:
        before = np.asarray(cv2.resize(before, after.shape[1::-1], interpolation=cv2.INTER_AREA), np.uint8)
    changed = (cv2.absdiff(before, after).max(axis=2) > CHANGED).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(changed, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)) > 0)


def _psnr(left: Image, came: Image) -> float:
    error = np.mean((left.astype(np.float32) - came) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def _sharpness(image: Image, part: Part) -> float:
    """Mean absolute Laplacian of the luma."""
    return float(np.abs(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.CV_32F))[part].mean())


def _change(later: Image, earlier: Image, part: Part) -> float:
    """Mean difference of a picture from the one before, in grey levels."""
    return float(cv2.absdiff(later, earlier)[part].mean())


def _write(folder: Path, before: dict[int, Image], kept: dict[int, tuple[Image, Image, Part]]) -> None:
    """Camera, sent and decoded side by side, to be looked at."""
    folder.mkdir(parents=True, exist_ok=True)
    number, (left, came, _) = next(iter(kept.items()))
    camera = cv2.resize(before[number], left.shape[1::-1], interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(folder / f"call-{number}.png"), np.hstack([camera, left, came]))
