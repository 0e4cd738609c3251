"""How well a segmenter sees what hides faces in photographs of other people, by masks drawn by eye.

Only the template's part of the wide field counts, and of it no band along the outline: no hand draws that to the pixel.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from engines.contract import HIDDEN, TEMPLATE_PART, Image
from train.data.photographs import Photograph, PhotographRow, Photographs
from train.evaluation.mask_figures import See, iou, look, marked, overlay, write_sheet
from train.tasks.hidden_data import SegmentationSample

#: Width of the band along the true outline in which nothing counts, pixels of the crop.
BAND_PX = 6
#: A photograph with less of its thing inside the template, beside the band, counts as one without.
_LEAST_PX = 50
_COLUMNS = 6


def photograph_figures(see: See, data: Path, out: Path | None = None, limit: int | None = None) -> dict[str, float]:
    """For each set that is there: `SET_iou`, by skin tone too, how many are below one half, and what is marked where
    nothing hides the face. Masks at the chin, which may stay, are `SET_iou_chin` alone. Full-size sheets into `out`.
    """
    found: dict[str, float] = {}
    for name, photographs in Photographs(data, "dev").sets.items():
        count = min(limit or len(photographs), len(photographs))
        cases = [(photographs.rows[index], _template_part(photographs[index])) for index in range(count)]
        results = [(row, case, look(see, case.face)) for row, case in cases]
        found |= {f"{name}_{figure}": value for figure, value in _summary(results).items()}
        if out is not None:
            sheet = [_compared(case, seen) for _, case, seen in results]
            write_sheet(out / f"hidden_{name}.png", sheet, _COLUMNS, side=sheet[0].shape[0])
    return found


def _template_part(photograph: Photograph) -> SegmentationSample:
    """The template's part, its outline's band taken out of what counts."""
    mask = photograph.mask[TEMPLATE_PART]
    # BAND_PX + 1: a gradient over one pixel more on either side of an edge is as wide as the band.
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (BAND_PX + 1, BAND_PX + 1))
    band = cv2.morphologyEx(photograph.mask, cv2.MORPH_GRADIENT, kernel)[TEMPLATE_PART]
    valid = photograph.valid[TEMPLATE_PART] & cv2.bitwise_not(band)
    return SegmentationSample(photograph.image[TEMPLATE_PART], mask, valid)


def _summary(results: list[tuple[PhotographRow, SegmentationSample, Image]]) -> dict[str, float]:
    scores: dict[str, list[float]] = {}
    for row, case, seen in results:
        if np.count_nonzero(case.mask & case.valid) < _LEAST_PX:
            scores.setdefault("bare", []).append(marked(seen, case))
        else:
            scores.setdefault("chin" if row.is_at_chin else row.tone, []).append(iou(seen, case))
    bare, chin = scores.pop("bare", []), scores.pop("chin", [])
    every = np.array([score for each in scores.values() for score in each])
    groups = {"iou": every, **{f"iou_{tone}": scores[tone] for tone in sorted(scores)}, "iou_chin": chin}
    found = {name: float(np.mean(each)) for name, each in {**groups, "bare_marked": bare}.items() if len(each)}
    return found | {"below_half": float((every < 0.5).sum())}


def _compared(case: SegmentationSample, seen: Image) -> Image:
    """What is marked, in red, with the true outline in green."""
    shown = overlay(case.face, seen)
    outline, _ = cv2.findContours(case.mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(shown, outline, -1, (0, HIDDEN, 0), 1)
