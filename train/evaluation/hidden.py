"""How well what hides a face is seen: on held-out people and occluders, on clean faces, on people in real masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console

from engines.contract import CROP_PX, HIDDEN, Image
from train.evaluation.report import Report, column_table
from train.evaluation.runners import Runner
from train.occlusion.occluders import OCCLUDERS, WORN
from train.tasks.hidden_data import Example, Examples, real_masks

#: Pixels on the crop by which an outline may be off and still count as met.
BOUNDARY_PX = 3
#: From this probability (x 255) on a pixel counts as hidden.
_THRESHOLD = 127

#: Composites of each kind that are looked at.
_EACH_KIND = 40

See = Callable[[Image], Image]
"""A 256x256x3 BGR crop to its 256x256 map of the probability x 255 that the face is hidden there."""


def evaluate(
    runners: Mapping[str, Runner],
    data: Path,
    out: Path | None = None,
    limit: int | None = None,
    threads: int = 2,
    console: Console | None = None,
) -> Report:
    """The figures of each segmenter in `runners`, the first of which is the one that is asked about."""
    torch.set_num_threads(threads)
    found = {}
    for number, (name, run) in enumerate(runners.items()):
        if console is not None:
            console.print(f"looking with {name}")
        folder = out if out is None or number == 0 else out / name.replace("/", "_")
        found[name] = figures(_seer(run), data, folder, min(limit or _EACH_KIND, _EACH_KIND), limit)
    return Report(next(iter(found.values())), column_table(found, "hidden"), {"hidden": found})


def _seer(run: Runner) -> See:
    return lambda face: run({"face": np.ascontiguousarray(face)[None]})["hidden"][0, :, :, 0]


def figures(
    see: See, data: Path, out: Path | None = None, each_kind: int = _EACH_KIND, limit: int | None = None
) -> dict[str, float]:
    """IoU and outline by occluder (and their mean, weighted as they are drawn), what is marked on clean faces and on
    what people wear, IoU with the rough masks of real photographs. Contact sheets into `out`. At most `each_kind`
    composites of each occluder and `limit` of the clean and of the real photographs.
    """
    examples = Examples(data, "eval")

    def look(case: Example) -> tuple[Example, Image]:
        return case, cv2.compare(see(case.face), _THRESHOLD, cv2.CMP_GT)

    found: dict[str, float] = {}
    sheet: list[Image] = []
    for kind in OCCLUDERS:
        results = [look(case) for case in examples.fixed([kind], each_kind)]
        found[f"iou_{kind}"] = float(np.mean([iou(seen, case) for case, seen in results]))
        found[f"boundary_f_{kind}"] = float(np.mean([boundary_f(seen, case) for case, seen in results]))
        sheet += [overlay(case.face, seen) for case, seen in results[:12]]
    shares = np.array([share for _, share in OCCLUDERS.values()])
    for figure in ("iou", "boundary_f"):
        found[figure] = float(np.average([found[f"{figure}_{kind}"] for kind in OCCLUDERS], weights=shares))
    clean = [look(case) for case in islice(examples.clean(), limit)]
    found["clean_marked"] = float(np.mean([marked(seen, case) for case, seen in clean]))
    found["clean_faces_over_5_percent"] = float(np.mean([marked(seen, case) > 0.05 for case, seen in clean]))
    for kind in WORN:
        worn = [look(case) for case in examples.fixed([kind], each_kind)]
        found[f"{kind}_marked"] = float(np.mean([marked(seen, case) for case, seen in worn]))
    # All whose mask is known are looked at, however few were asked for: else there might be none.
    wanted = (pair for number, pair in enumerate(real_masks(data)) if limit is None or number < limit or pair[1])
    real = [(*look(case), known) for case, known in wanted]
    found["iou_real_silver"] = float(np.mean([iou(seen, case) for case, seen, known in real if known]))
    if out is not None:
        worst = sorted(clean, key=lambda pair: marked(pair[1], pair[0]), reverse=True)[:48]
        write_sheet(out / "hidden_composites.png", sheet, columns=12)
        write_sheet(out / "hidden_real.png", [overlay(case.face, seen) for case, seen, _ in real], columns=16)
        write_sheet(out / "hidden_clean_worst.png", [overlay(case.face, seen) for case, seen in worst], columns=12)
    return found


def iou(seen: Image, case: Example) -> float:
    """Intersection over union inside the photograph; 1 where there is nothing and nothing is seen."""
    seen, truth = seen & case.valid, case.mask & case.valid
    union = np.count_nonzero(seen | truth)
    return np.count_nonzero(seen & truth) / union if union else 1.0


def boundary_f(seen: Image, case: Example) -> float:
    """F1 of outlines, met within BOUNDARY_PX. Source: F. Perazzi et al., DAVIS, CVPR 2016."""
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BOUNDARY_PX + 1, 2 * BOUNDARY_PX + 1))
    edges = [cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) for mask in (seen, case.mask)]
    edges = [edge & case.valid for edge in edges]
    met = [np.count_nonzero(a & cv2.dilate(b, around)) for a, b in (edges, edges[::-1])]
    count = sum(np.count_nonzero(edge) for edge in edges)
    return sum(met) / count if count else 1.0


def marked(seen: Image, case: Example) -> float:
    """Share of the face that is marked."""
    face = face_area() & case.valid
    return np.count_nonzero(seen & face) / max(np.count_nonzero(face), 1)


@lru_cache(maxsize=1)
def face_area() -> Image:
    """Where the face lies in the template: hairline to chin, 256x256."""
    area = np.zeros((CROP_PX, CROP_PX), np.uint8)
    cv2.ellipse(area, (128, 132), (78, 104), 0, 0, 360, HIDDEN, -1)
    return area


def overlay(face: Image, seen: Image) -> Image:
    """The crop with what is marked in red and outlined."""
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
