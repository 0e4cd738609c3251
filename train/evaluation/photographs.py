"""How well a segmenter sees what hides faces in photographs of other people, by masks drawn by eye.

Over the whole wide field, and inside the template alone. No band along the outline counts: no hand draws that to the
pixel.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from engines.contract import CROP_PX, HIDDEN, Image
from train.data.photographs import Photograph, PhotographRow, Photographs, PhotographSet, valid_area
from train.data.portraits import surrounded
from train.data.wide import WideSet
from train.evaluation.mask_figures import See, iou, look, marked, overlay, write_sheet
from train.tasks.hidden_data import SegmentationSample

#: Width of the band along the true outline in which nothing counts, pixels of the template.
BAND_PX = 6
#: A photograph with less of its thing in what counts is one without.
_LEAST_PX = 50
#: A portrait of whose face more than this share is marked is counted.
_MARKED = 0.01
#: Portraits of `wide/eval` in which a hand, an arm, a microphone or a camera does hide the face: all that two
#: segmenters marked were looked at.
_HIDDEN_PORTRAITS = frozenset(
    {
        "celeba_wild/p007_051873.webp",
        "celeba_wild/p007_152869.webp",
        "celeba_wild/p073_188750.webp",
        "celeba_wild/p096_087228.webp",
        "celeba_wild/p128_101541.webp",
        "celeba_wild/p157_032301.webp",
        "celeba_wild/p157_126374.webp",
        "celeba_wild/p157_155154.webp",
        "celeba_wild/p188_031029.webp",
        "celeba_wild/p193_022884.webp",
        "celeba_wild/p221_110192.webp",
        "celeba_wild/p248_190872.webp",
        "celeba_wild/p252_185564.webp",
    }
)
_COLUMNS = 6
_TEMPLATE: Image = surrounded(np.full((CROP_PX, CROP_PX), HIDDEN, np.uint8), cv2.BORDER_CONSTANT)

Result = tuple[PhotographRow, SegmentationSample, Image]
"""A photograph, what counts of it, and what is seen in it."""


def photograph_figures(see: See, data: Path, out: Path | None = None, limit: int | None = None) -> dict[str, float]:
    """For each set that is there its `set_figures` with what the segmenter marks. Full-size sheets into `out`."""
    found: dict[str, float] = {}
    for name, photographs in Photographs(data, "dev").sets.items():
        seen = [
            look(see, photographs[index].image) for index in range(min(limit or len(photographs), len(photographs)))
        ]
        found |= set_figures(name, photographs, seen, None if out is None else out / f"hidden_{name}.png")
    return found


def set_figures(name: str, photographs: PhotographSet, seen: list[Image], sheet: Path | None) -> dict[str, float]:
    """`NAME_iou` inside the template and `NAME_wide_iou` over the whole field, both by skin tone too, with how many are
    below one half and below 0.6, and what is marked where nothing hides the face. Masks at the chin, which may stay,
    are `NAME_iou_chin` alone.

    `seen` is what is marked in the first photographs, 416x416 uint8 each; `sheet` is the file of a full-size sheet.
    """
    rows = photographs.rows[: len(seen)]
    results = [(row, _counted(photographs[index]), seen[index]) for index, row in enumerate(rows)]
    if sheet is not None:
        write_sheet(sheet, [_compared(*result[1:]) for result in results], _COLUMNS, side=416)
    inside = [(row, _inside_template(case), mask) for row, case, mask in results]
    return {
        f"{prefix}_{figure}": value
        for prefix, each in ((name, inside), (f"{name}_wide", results))
        for figure, value in _summary(each).items()
    }


def portrait_figures(see: See, data: Path, out: Path | None = None, limit: int | None = None) -> dict[str, float]:
    """What is marked on wide portraits of other people before which there is nothing, where the data folder has any.

    Those of whose face more than one percent is marked go into `out`, at full size.
    """
    if not (data / "wide" / "eval.jsonl").is_file():
        return {}
    portraits = WideSet(data, "eval")
    shares, sheet = [], []
    for index, row in enumerate(portraits.rows[:limit]):
        if row.file in _HIDDEN_PORTRAITS:
            continue
        image, valid = portraits.wide(index), valid_area(row.valid_quad)
        seen = look(see, image)
        shares.append(marked(seen, SegmentationSample(image, np.zeros_like(valid), valid)))
        if shares[-1] > _MARKED:
            sheet.append(overlay(image, seen))
    if out is not None and sheet:
        write_sheet(out / "hidden_portraits_marked.png", sheet, _COLUMNS, side=416)
    over = float(np.mean(np.array(shares) > _MARKED))
    return {"portraits_marked": float(np.mean(shares)), "portraits_over_1_percent": over}


def _counted(photograph: Photograph) -> SegmentationSample:
    """The photograph with its outline's band taken out of what counts."""
    # BAND_PX + 1: a gradient over one pixel more on either side of an edge is as wide as the band.
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (BAND_PX + 1, BAND_PX + 1))
    band = cv2.morphologyEx(photograph.mask, cv2.MORPH_GRADIENT, kernel)
    return SegmentationSample(photograph.image, photograph.mask, photograph.valid & cv2.bitwise_not(band))


def _inside_template(case: SegmentationSample) -> SegmentationSample:
    return SegmentationSample(case.face, case.mask, case.valid & _TEMPLATE)


def _summary(results: list[Result]) -> dict[str, float]:
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
    return found | {"below_half": float((every < 0.5).sum()), "below_0.6": float((every < 0.6).sum())}


def _compared(case: SegmentationSample, seen: Image) -> Image:
    """What is marked, in red, with the true outline in green."""
    shown = overlay(case.face, seen)
    outline, _ = cv2.findContours(case.mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(shown, outline, -1, (0, HIDDEN, 0), 1)
