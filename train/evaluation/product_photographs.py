"""What the product leaves of things and masks in photographs of other people, each picture alone."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engines.contract import WIDE_PX, Image
from train.data.photographs import PhotographRow, Photographs
from train.evaluation import product
from train.evaluation.photographs import set_figures

#: A pixel that changed by no more than so many levels of 255 counts as untouched.
LEVELS = 3

Report = Mapping[str, Any]


def product_figures(data: Path, out: Path | None = None, limit: int | None = None) -> dict[str, float]:
    """For each set that is there its `set_figures` with the pixels that `process` changed, and how many of the covered
    photographs show no change at all: `SET_untouched`, of which in `SET_not_found` there is no face for the finder, and
    in `SET_left_REASON` a hidden face is left alone. Sheets of what changed into `out`.
    """
    found: dict[str, float] = {}
    for name, photographs in Photographs(data, "dev").sets.items():
        rows = photographs.rows[:limit]
        made, reports = _processed(rows)
        changed = [cv2.compare(_change(row, image), LEVELS, cv2.CMP_GT) for row, image in zip(rows, made, strict=True)]
        sheet = None if out is None else out / f"product_{name}.png"
        found |= set_figures(name, photographs, changed, sheet)
        found |= {f"{name}_{reason}": count for reason, count in _untouched(rows, changed, reports).items()}
    return found


def _processed(rows: Sequence[PhotographRow]) -> tuple[list[Image], list[Report]]:
    """Each row's picture as the product leaves it, and what it reports."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        given, taken, report = home / "given", home / "taken", home / "report.json"
        given.mkdir()
        names = [f"{index:04}.png" for index in range(len(rows))]  # lossless, whatever the picture was
        for name, row in zip(names, rows, strict=True):
            cv2.imwrite(str(given / name), cv2.imread(str(row.picture)))
        product.restore(given, taken, home, report=report)
        told = {one["file"]: one for one in json.loads(report.read_text(encoding="utf-8"))["files"]}
        return [np.asarray(cv2.imread(str(taken / name)), np.uint8) for name in names], [told[name] for name in names]


def _change(row: PhotographRow, made: Image) -> Image:
    """Largest difference of a pixel's channels, in the wide field: 416x416 uint8."""
    change = cv2.absdiff(made, cv2.imread(str(row.picture))).max(axis=2)
    if row.matrix is None:
        return np.asarray(change, np.uint8)
    return np.asarray(cv2.warpAffine(change, row.matrix, (WIDE_PX, WIDE_PX)), np.uint8)


def _untouched(rows: Sequence[PhotographRow], changed: Sequence[Image], reports: Sequence[Report]) -> Counter[str]:
    """How many covered photographs are as they were: in all, and by reason where the product tells one."""
    found = Counter({"untouched": 0, "not_found": 0})
    for row, change, report in zip(rows, changed, reports, strict=True):
        if row.is_covered and not change.any():
            found["untouched"] += 1
            found["not_found"] += report["faces"] == 0
            found.update(f"left_{reason}" for reason in report["left"])
    return found
