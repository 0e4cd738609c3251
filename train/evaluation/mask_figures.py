"""How near a mask of what hides a face is to the true one, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from engines.contract import CROP_PX, HIDDEN, Image
from train.data.portraits import surrounded
from train.tasks.hidden_data import SegmentationSample

#: Pixels by which an outline may be off and still count as met.
BOUNDARY_PX = 3
#: A thing is thin if most of it is thinner than this: a boom, a pen, a strap.
THIN_PX = 19
#: From this probability (x 255) on a pixel counts as hidden.
_THRESHOLD = 127


See = Callable[[Image], Image]
"""A wide field, 416x416x3 BGR, to its map of the probability x 255 that a pixel belongs to what hides the face."""


def look(see: See, face: Image) -> Image:
    """The mask of what counts as hidden: 255 where the probability is more than one half."""
    return cv2.compare(see(face), _THRESHOLD, cv2.CMP_GT)


def iou(seen: Image, case: SegmentationSample) -> float:
    """Intersection over union inside the photograph; 1 where there is nothing and nothing is seen."""
    seen, truth = seen & case.valid, case.mask & case.valid
    union = np.count_nonzero(seen | truth)
    return np.count_nonzero(seen & truth) / union if union else 1.0


def boundary_f(seen: Image, case: SegmentationSample) -> float:
    """F1 of outlines, met within BOUNDARY_PX. Source: F. Perazzi et al., DAVIS, CVPR 2016."""
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BOUNDARY_PX + 1, 2 * BOUNDARY_PX + 1))
    edges = [cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) for mask in (seen, case.mask)]
    edges = [edge & case.valid for edge in edges]
    met = [np.count_nonzero(a & cv2.dilate(b, around)) for a, b in (edges, edges[::-1])]
    count = sum(np.count_nonzero(edge) for edge in edges)
    return sum(met) / count if count else 1.0


def is_thin(mask: Image) -> bool:
    """Whether most of a mask is thinner than THIN_PX."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (THIN_PX, THIN_PX))
    return 0 < np.count_nonzero(mask) > 2 * np.count_nonzero(cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc))


def marked(seen: Image, case: SegmentationSample) -> float:
    """Share of the face that is marked."""
    face = face_area() & case.valid
    return np.count_nonzero(seen & face) / max(np.count_nonzero(face), 1)


@lru_cache(maxsize=1)
def face_area() -> Image:
    """Where the face lies in the wide field: hairline to chin, 416x416."""
    area = np.zeros((CROP_PX, CROP_PX), np.uint8)
    cv2.ellipse(area, (128, 132), (78, 104), 0, 0, 360, HIDDEN, -1)
    return surrounded(area, cv2.BORDER_CONSTANT)


def overlay(face: Image, seen: Image) -> Image:
    """The picture with what is marked in red and outlined."""
    shown = face.copy()
    shown[seen > 0] = shown[seen > 0] // 2 + np.array([0, 0, 127], np.uint8)
    outline, _ = cv2.findContours(seen, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(shown, outline, -1, (0, 255, 255), 1)


def write_sheet(path: Path, pictures: list[Image], columns: int, side: int = 128) -> None:
    """A contact sheet as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA) for picture in pictures]
    cells += [np.zeros((side, side, 3), np.uint8)] * (-len(cells) % columns)
    rows = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    cv2.imwrite(str(path), np.vstack(rows))
