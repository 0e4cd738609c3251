"""Figures of restorers and baselines on faces that were not trained on, with the same holes at each call.

For each kind of hole and each method: in the hole and over the whole picture, always inside the photograph
(`valid_quad`). A figure from a third party's network carries its name; see train/networks/backbones.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from engines.contract import Image
from train.data.face_set import FaceSet
from train.data.shipped_segmenter import ShippedSegmenter
from train.data.wide import TemplateFaces, WideSet
from train.evaluation.report import EvalReport, by_kind_tables, joined, sheet
from train.evaluation.restoration import peers, references, served
from train.evaluation.restoration.cases import AGES, EVAL_SHAPES, GRAINS, TONES, EvalCase, EvalFaces, eval_cases, spread
from train.evaluation.restoration.meter import AT_ONCE, OF_SETS, CaseFigures, RestorationMeter, chunks, means_of
from train.evaluation.restoration.methods import WITH_REFERENCE, methods_of
from train.occlusion.occluders import Occluders
from train.onnx_runner import Runner

#: Rows of a contact sheet.
SHEET_ROWS = 12
#: At most so many faces of each kind are measured as served and with references.
MORE_CASES = 80
#: `dev`: the faces that choices are made on. `eval`: the faces of final figures.
SPLITS = ("dev", "eval")


def evaluate(
    runners: Mapping[str, Runner],
    data: Path,
    out: Path | None = None,
    limit: int | None = None,
    threads: int = 2,
    console: Console | None = None,
    split: str = "eval",
) -> EvalReport:
    """All figures of the restorers in `runners` (the first is the one under test) and of the baselines."""
    torch.set_num_threads(threads)
    faces, meter, methods = FaceSet(data, split), RestorationMeter(data / "weights", threads), methods_of(runners)
    results: dict[str, dict[str, list[CaseFigures | None]]] = {}
    for kind, shape in EVAL_SHAPES.items():
        found: dict[str, list[CaseFigures | None]] = {name: [] for name in methods}
        rows: list[list[Image]] = []
        cases = list(eval_cases(faces, shape, limit))
        shown = spread(len(cases), SHEET_ROWS)
        parts = list(chunks(cases))
        for number, chunk in enumerate(track(parts, description=kind, console=console, disable=console is None)):
            made = {name: [method(case) for case in chunk] for name, method in methods.items()}
            for name, measured in meter(chunk, made).items():
                found[name] += measured
            rows += [
                _sheet_row(case, {name: pictures[place] for name, pictures in made.items()})
                for place, case in enumerate(chunk)
                if number * AT_ONCE + place in shown
            ]
        results[kind] = found
        if out is not None:
            sheet(out / f"restore_{kind}.png", rows, ["hidden", *list(methods)[1:], "reference", "truth"])
    report = joined(_report(results, next(iter(runners))), more_figures(runners, data, split, limit, threads, console))
    return joined(report, peer_report(runners, data, threads, out)) if split == "eval" else report


def peer_report(runners: Mapping[str, Runner], data: Path, threads: int, out: Path | None) -> EvalReport:
    """A peer's own examples, of which nothing is ever chosen; empty where the data folder has none."""
    if not (data / peers.FOLDER).is_dir():
        return EvalReport({}, "")
    found = peers.peer_figures(runners, data, threads, out)
    subject = next(iter(runners))
    figures = {
        f"peer_{whose}{name}": value
        for whose, method in (("", subject), ("own_", peers.PEER))
        for name, value in found[method].items()
    }
    return EvalReport(figures, by_kind_tables({"peer": found}, "In a peer's holes, beside its own results"), found)


def more_figures(
    runners: Mapping[str, Runner], data: Path, split: str, limit: int | None, threads: int, console: Console | None
) -> EvalReport:
    """As served and with references, also of the wide pictures; where the data folder has what that takes."""
    meter, count = RestorationMeter(data / "weights", threads, quick=True), min(limit or MORE_CASES, MORE_CASES)
    sets: dict[str, EvalFaces] = {"": FaceSet(data, split)}
    if (data / "wide").is_dir():
        sets["wide_"] = TemplateFaces(WideSet(data, split))
    subject, figures, in_use, aided = next(iter(runners)), dict[str, float](), dict[str, Any](), dict[str, Any]()
    for prefix, faces in sets.items():
        if console is not None:
            console.print(f"{prefix or 'aligned '}faces as served, and with references".replace("_", " "))
        aided[f"{prefix}mask"] = table = references.reference_figures(runners, faces, meter, count)
        figures |= {prefix + name: value for name, value in references.kept_figures(table, subject).items()}
        if (data / "occluders").is_dir():
            see = ShippedSegmenter(threads, "fp32").probability
            found = served.served_figures(runners, faces, Occluders(data, "eval"), see, meter, count)
            in_use |= {prefix + thing: rows for thing, rows in found.items()}
            figures |= {prefix + name: value for name, value in served.kept_figures(found, subject).items()}
    tables = by_kind_tables(in_use, "Clean surroundings and the exact mask, and as the product serves them")
    tables += by_kind_tables(aided, "Behind a mask, by the reference; of the same person, nearest pose, relit")
    return EvalReport(figures, tables, {"as_served": in_use, "references": aided})


def _report(results: Mapping[str, Mapping[str, Sequence[CaseFigures | None]]], subject: str) -> EvalReport:
    every: dict[str, dict[str, dict[str, float]]] = {}
    paired: dict[str, dict[str, dict[str, float]]] = {}
    for kind, methods in results.items():
        every[kind] = {
            name: means_of([measured for measured in found if measured is not None])
            for name, found in methods.items()
            if not name.endswith(WITH_REFERENCE)
        }
        paired[kind] = {
            name: means_of([measured for measured in found if measured is not None and measured.has_reference])
            for name, found in methods.items()
        }
    tables = by_kind_tables(every, "All faces, without a reference")
    groups = {kind: _by_group(methods, subject) for kind, methods in results.items()}
    tables += by_kind_tables(
        groups, "By skin tone as the photographs show it, by grain, and by age where it is known; without a reference"
    )
    if any(values["cases"] for methods in paired.values() for values in methods.values()):
        tables += by_kind_tables(paired, "Faces of which there is another picture, without and with it as a reference")
    figures = _flat(every, paired, subject) | _flat_groups(groups)
    return EvalReport(figures, tables, {"all": every, "paired": paired, "groups": groups})


def _by_group(methods: Mapping[str, Sequence[CaseFigures | None]], subject: str) -> dict[str, dict[str, float]]:
    """The means of the restorer under test for each group that has cases, and its gain over Telea."""
    means: dict[str, dict[str, float]] = {}
    for group in (*TONES, *GRAINS, *AGES):
        own, telea = (
            [measured for measured in methods[name] if measured is not None and group in measured.groups]
            for name in (subject, "telea")
        )
        if own:
            # Distances between sets depend on how many faces there are: no figure to compare groups by.
            means[group] = {name: value for name, value in means_of(own).items() if not name.startswith(OF_SETS)}
            means[group]["psnr_gain_over_telea"] = means[group]["psnr"] - means_of(telea)["psnr"]
    return means


def _flat_groups(groups: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """What models.toml keeps of each group: of the kind of hole that hides the most skin."""
    kept = ("cases", "psnr", "psnr_gain_over_telea", "ssim", "pd_mobilenet", "skin_energy", "identity")
    return {
        f"mask_{group.replace(' ', '_')}_{name}": float(values[name])
        for group, values in groups["mask"].items()
        for name in kept
    }


def _flat(
    every: Mapping[str, Mapping[str, Mapping[str, float]]],
    paired: Mapping[str, Mapping[str, Mapping[str, float]]],
    subject: str,
) -> dict[str, float]:
    """The figures of the restorer under test by one name each: what models.toml keeps."""
    flat: dict[str, float] = {}
    for kind, methods in every.items():
        own, telea = methods[subject], methods["telea"]
        flat |= {f"{kind}_{name}": value for name, value in own.items() if name != "cases"}
        flat |= {f"{kind}_telea": telea["psnr"], f"{kind}_gain_over_telea": own["psnr"] - telea["psnr"]}
        pair = paired[kind]
        for name in ("psnr", "pd_mobilenet", "identity"):
            if pair[subject]["cases"]:
                flat[f"{kind}_{name}_without_reference"] = pair[subject][name]
                flat[f"{kind}_{name}_with_reference"] = pair[subject + WITH_REFERENCE][name]
    return flat


def _sheet_row(case: EvalCase, made: Mapping[str, Image | None]) -> list[Image]:
    nothing = np.zeros_like(case.face)
    pictures = [picture if picture is not None else nothing for picture in made.values()]
    return [*pictures, case.reference if case.reference is not None else nothing, case.face]
