"""What a reference is worth to a restorer: none, the very same photograph, and another one as the product recalls it.

The other photograph is the same person's with the nearest pose, in the light of the visible face; where the product
follows the head of a film and warps, photographs of two days have nothing to follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from engines.contract import Image
from train.evaluation.restoration.cases import EVAL_SHAPES, EvalCase, EvalFaces, eval_cases
from train.evaluation.restoration.meter import CaseFigures, RestorationMeter, chosen_means, chunks
from train.evaluation.restoration.methods import Method, restore
from train.evaluation.restoration.relighting import relit, without_rim
from train.onnx_runner import Runner

KIND = "mask"
PASTED = "reference pasted"
#: Rows of a restorer by what it is given, and the name of that in a kept figure.
GIVEN = {"": "unaided", " + the same photograph": "self", " + recalled": "recalled"}
SHOWN = ("cases", "psnr", "pd_mobilenet", "identity", "seam", "critic_auc", "critic_auc_fine")
KEPT = ("psnr", "pd_mobilenet", "identity", "critic_auc")


def nearest_pose(faces: EvalFaces, index: int, rng: np.random.Generator) -> int | None:
    """The other picture of the same person whose head is turned most alike, or None where there is none."""
    del rng  # nothing is drawn
    rows = faces.rows
    others = [other for other in faces.people.get(rows[index].identity or "", []) if other != index]
    return min(others, key=lambda other: abs(rows[other].yaw - rows[index].yaw), default=None)


def reference_figures(
    runners: Mapping[str, Runner], faces: EvalFaces, meter: RestorationMeter, limit: int | None = None
) -> dict[str, dict[str, float]]:
    """Figures behind a mask of faces of which there is another picture, by what the restorer is given."""
    every = eval_cases(faces, EVAL_SHAPES[KIND], limit, pick=partial(nearest_pose, faces))
    cases, methods = [case for case in every if case.reference is not None], _methods(runners)
    found: dict[str, list[CaseFigures | None]] = {name: [] for name in methods}
    for chunk in chunks(cases):
        made = {name: [method(case) for case in chunk] for name, method in methods.items()}
        for name, measured in meter(chunk, made).items():
            found[name] += measured
    return {name: chosen_means(measured, SHOWN) for name, measured in found.items()}


def kept_figures(table: Mapping[str, Mapping[str, float]], subject: str) -> dict[str, float]:
    """The figures of the restorer under test that models.toml keeps: `mask_self_psnr`, `mask_recalled_identity`, ..."""
    rows = {given: table[subject + addition] for addition, given in GIVEN.items()} | {"pasted": table[PASTED]}
    return {
        f"{KIND}_{given}_{figure}": values.get(figure, float("nan"))
        for given, values in rows.items()
        for figure in KEPT
    }


def recalled(case: EvalCase) -> tuple[Image, Image] | None:
    """The reference in the case's light, and where it is valid."""
    if case.reference is None or case.reference_mask is None:
        return None
    valid = without_rim(case.reference_mask)
    return relit(case.reference, valid, case.face, case.hole), valid


def _methods(runners: Mapping[str, Runner]) -> dict[str, Method]:
    methods: dict[str, Method] = {PASTED: _pasted}
    for name, run in runners.items():
        ways = (partial(_unaided, run), partial(_with_itself, run), partial(_with_recalled, run))
        methods |= {name + addition: way for addition, way in zip(GIVEN, ways, strict=True)}
    return methods


def _unaided(run: Runner, case: EvalCase) -> Image:
    return restore(run, case.face, case.hole)


def _with_itself(run: Runner, case: EvalCase) -> Image:
    return restore(run, case.face, case.hole, case.face, case.valid)


def _with_recalled(run: Runner, case: EvalCase) -> Image | None:
    known = recalled(case)
    return None if known is None else restore(run, case.face, case.hole, *known)


def _pasted(case: EvalCase) -> Image | None:
    known = recalled(case)
    return None if known is None else np.where(case.hole[:, :, None] > 0, known[0], case.face)
