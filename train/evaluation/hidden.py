"""Figures of segmenters: on held-out people and occluders, on clean faces, and on people in real masks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console

from engines.contract import Image
from train.evaluation.mask_figures import See, boundary_f, iou, is_thin, look, marked, overlay, write_sheet
from train.evaluation.photographs import photograph_figures, portrait_figures
from train.evaluation.product_photographs import product_figures
from train.evaluation.report import EvalReport, column_report
from train.evaluation.runners import in_turn
from train.occlusion.occluders import OCCLUDERS, WORN
from train.onnx_runner import Runner
from train.tasks.hidden_data import EvalComposites, real_masks

#: Composites of each kind that are looked at.
_EACH_KIND = 40


def evaluate(
    runners: Mapping[str, Runner],
    data: Path,
    out: Path | None = None,
    limit: int | None = None,
    threads: int = 2,
    console: Console | None = None,
) -> EvalReport:
    """The figures of each segmenter in `runners`; the first is the one under test. A last column is the product's."""
    found: dict[str, dict[str, float]] = {}
    for number, (name, run) in enumerate(in_turn(runners, threads, console)):
        folder = out if out is None or number == 0 else out / name.replace("/", "_")
        found[name] = figures(_seer(run), data, folder, min(limit or _EACH_KIND, _EACH_KIND), limit)
    whole = product_figures(data, out, limit)
    return column_report("hidden", found | {"product": whole}, {f"product_{name}": of for name, of in whole.items()})


def _seer(run: Runner) -> See:
    return lambda face: run({"face": np.ascontiguousarray(face)[None]})["hidden"][0, :, :, 0]


def figures(
    see: See, data: Path, out: Path | None = None, each_kind: int = _EACH_KIND, limit: int | None = None
) -> dict[str, float]:
    """IoU and outline by occluder (and their mean, weighted as they are drawn), what is marked on clean faces and on
    what people wear, IoU with the rough masks of real photographs, and the figures of photographs with masks by eye and
    of wide portraits. Contact sheets into `out`. At most `each_kind` composites of each occluder and `limit` of other
    pictures.
    """
    examples = EvalComposites(data)

    found: dict[str, float] = {}
    sheet: list[Image] = []
    thin: list[float] = []
    for kind in OCCLUDERS:
        results = [(case, look(see, case.face)) for case in examples.fixed([kind], each_kind)]
        scores = [iou(seen, case) for case, seen in results]
        thin += [score for (case, _), score in zip(results, scores, strict=True) if is_thin(case.mask & case.valid)]
        found[f"iou_{kind}"] = float(np.mean(scores))
        found[f"below_0.6_{kind}"] = float((np.array(scores) < 0.6).sum())
        found[f"boundary_f_{kind}"] = float(np.mean([boundary_f(seen, case) for case, seen in results]))
        sheet += [overlay(case.face, seen) for case, seen in results[:12]]
    shares = np.array([share for _, share in OCCLUDERS.values()])
    for figure in ("iou", "boundary_f"):
        found[figure] = float(np.average([found[f"{figure}_{kind}"] for kind in OCCLUDERS], weights=shares))
    if thin:
        found["iou_thin"] = float(np.mean(thin))
    clean = [(case, look(see, case.face)) for case in islice(examples.clean(), limit)]
    found["clean_marked"] = float(np.mean([marked(seen, case) for case, seen in clean]))
    found["clean_faces_over_5_percent"] = float(np.mean([marked(seen, case) > 0.05 for case, seen in clean]))
    for kind in WORN:
        worn = [(case, look(see, case.face)) for case in examples.fixed([kind], each_kind)]
        found[f"{kind}_marked"] = float(np.mean([marked(seen, case) for case, seen in worn]))
    # All with a known mask are measured despite the limit: else there might be none.
    wanted = (pair for number, pair in enumerate(real_masks(data)) if limit is None or number < limit or pair[1])
    real = [(case, look(see, case.face), known) for case, known in wanted]
    found["iou_real_silver"] = float(np.mean([iou(seen, case) for case, seen, known in real if known]))
    if out is not None:
        worst = sorted(clean, key=lambda pair: marked(pair[1], pair[0]), reverse=True)[:48]
        write_sheet(out / "hidden_composites.png", sheet, columns=12)
        write_sheet(out / "hidden_real.png", [overlay(case.face, seen) for case, seen, _ in real], columns=16)
        write_sheet(out / "hidden_clean_worst.png", [overlay(case.face, seen) for case, seen in worst], columns=12)
    return found | photograph_figures(see, data, out, limit) | portrait_figures(see, data, out, limit)
