"""Figures of faces as the product meets them: a thing in front, its shadow beside it, and the segmenter's mask; and of
the same holes with clean surroundings and the exact mask.

Left out are the product's smoothing over time, and the blend of the restored part into the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from engines.contract import Image
from train.data.face_set import valid_mask
from train.data.product_mask import FACE_REACH, face_area, hidden_mask
from train.evaluation.restoration.cases import EVAL_SEED, EvalCase, EvalFaces, spread
from train.evaluation.restoration.meter import CaseFigures, RestorationMeter, chosen_means, chunks
from train.evaluation.restoration.methods import restore
from train.occlusion.occluders import Occluders
from train.onnx_runner import Runner

#: What comes in front of faces, by the name in train/occlusion/occluders.py.
THINGS = {"hand": "hand", "scarf": "scarf", "cup": "cup", "phone": "phone", "mask": "medical_mask"}
AS_SERVED = " as served"
#: The figures that are shown, and those that are kept of the restorer under test.
SHOWN = ("cases", "psnr", "pd_mobilenet", "identity", "seam", "hole_seen", "critic_auc", "critic_auc_fine")
KEPT = ("psnr", "pd_mobilenet")
#: A smaller hole, in pixels, tells nothing.
SMALLEST_HOLE = 500

See = Callable[[Image], Image]
"""A 256x256x3 crop to the segmenter's probability x 255, 256x256."""
Table = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True, eq=False)
class ServedCase:
    """A case whose hole is what a thing hides; the face with the thing before it, and the mask that is seen."""

    case: EvalCase
    covered: Image
    seen: Image

    @property
    def hole_seen(self) -> float:
        """The share of the hole that the mask covers."""
        return np.count_nonzero(self.case.region & self.seen) / np.count_nonzero(self.case.region)


def served_cases(
    faces: EvalFaces, thing: str, occluders: Occluders, see: See, limit: int | None = None
) -> Iterator[ServedCase]:
    """Faces with a thing of THINGS in front, the same ones each time; as far as the product's mask may reach."""
    for index in sorted(spread(len(faces.rows), limit)):
        row, face = faces.rows[index], faces.image(index)
        rng = np.random.default_rng([EVAL_SEED, index, *thing.encode()])
        covered, hole = occluders.occlude(face, row.landmarks, rng, [THINGS[thing]])
        case = EvalCase(face, hole & face_area(FACE_REACH), valid_mask(row), row.landmarks)
        if np.count_nonzero(case.region) >= SMALLEST_HOLE:
            yield ServedCase(case, covered, hidden_mask(see(covered)))


def served_figures(
    runners: Mapping[str, Runner],
    faces: EvalFaces,
    occluders: Occluders,
    see: See,
    meter: RestorationMeter,
    limit: int | None = None,
) -> Table:
    """By thing and restorer the figures with clean surroundings, and as served."""
    table: Table = {}
    for thing in THINGS:
        cases = list(served_cases(faces, thing, occluders, see, limit))
        table[thing] = {}
        for name, run in runners.items():
            clean, served = _measured(run, cases, meter)
            table[thing] |= {name: clean, name + AS_SERVED: served}
    return table


def kept_figures(table: Table, subject: str) -> dict[str, float]:
    """What models.toml keeps of the restorer under test: `as_served_hand_psnr`, `as_served_hand_psnr_clean`, ..."""
    kept = {}
    for thing, rows in table.items():
        for figure in KEPT:
            kept[f"as_served_{thing}_{figure}"] = rows[subject + AS_SERVED].get(figure, float("nan"))
            kept[f"as_served_{thing}_{figure}_clean"] = rows[subject].get(figure, float("nan"))
    return kept


def _measured(
    run: Runner, cases: list[ServedCase], meter: RestorationMeter
) -> tuple[dict[str, float], dict[str, float]]:
    """The figures with clean surroundings, and as served."""
    found: dict[str, list[CaseFigures | None]] = {"clean": [], "served": []}
    for chunk in chunks(cases):
        made = {
            "clean": [restore(run, one.case.face, one.case.hole) for one in chunk],
            "served": [restore(run, one.covered, one.seen) for one in chunk],
        }
        for name, measured in meter([one.case for one in chunk], made).items():
            found[name] += measured
    clean, served = (chosen_means(measured, SHOWN) for measured in found.values())
    served["hole_seen"] = float(np.mean([one.hole_seen for one in cases])) if cases else float("nan")
    return clean, served
