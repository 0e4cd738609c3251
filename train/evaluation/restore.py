"""How well the restorer restores, on faces that it never saw: the same holes at each call, beside the baselines.

For each kind of hole and each method: in the hole and over the whole picture, always inside the photograph
(`valid_quad`). Every figure made with somebody's network carries its name; see train/networks/backbones.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from engines.contract import CROP_PX, EYE_DISTANCE_PX, Image, Points
from train.data.face_set import FaceSet, typology_angle, valid_mask
from train.evaluation import metrics
from train.evaluation.report import Report, by_kind_tables, sheet
from train.evaluation.runners import Runner
from train.networks import backbones
from train.occlusion import masks

EVAL_SEED = 11
#: Rows of a contact sheet.
SHEET_ROWS = 12
#: Faces that are judged together: the backbones run on all of their pictures at once.
_AT_ONCE = 12
WITH_REFERENCE = " + reference"
#: Skin tones and above how many degrees of typology angle they begin, after A. Chardon et al., 1991 (whose six classes
#: are taken two by two). A photograph's light shifts it: groups compare, single faces don't.
TONES = {"light skin": 41.0, "medium skin": 10.0, "dark skin": -math.inf}
#: Kinds of photographs, and above how strong a grain of the face's skin they begin (uint8 steps): three in five of the
#: training faces have less, as they were enlarged or smoothed.
GRAINS = {"sharp photograph": 8.0, "soft photograph": -math.inf}

Method = Callable[["Case"], Image | None]
"""Fills the hole of a case; None where it can't, as there is no reference."""


_OTHERS = (masks.cup, masks.features, masks.rectangles, masks.strokes, masks.half_face)


def others(landmarks: Points, rng: np.random.Generator) -> Image:
    """Any of the shapes that have no column of their own; the list never grows, so that old figures compare."""
    return _OTHERS[int(rng.integers(len(_OTHERS)))](landmarks, rng)


EVAL_SHAPES: dict[str, masks.MaskShape] = {
    "mask": masks.medical_mask,
    "hand": masks.hand,
    "rectangle": masks.rectangle,
    "other": others,
}


@dataclass(frozen=True, eq=False)
class Case:
    """A face with a hole, where it is known what is behind it; a reference where the person has another picture."""

    face: Image
    hole: Image
    valid: Image
    landmarks: Points
    reference: Image | None = None
    reference_mask: Image | None = None

    @property
    def region(self) -> Image:
        """The hole, as far as the photograph reaches."""
        return self.hole & self.valid

    @property
    def hollow(self) -> Image:
        """The face with nothing in its hole."""
        return np.where(self.hole[:, :, None] > 0, 0, self.face).astype(np.uint8)

    @property
    def skin(self) -> Image:
        """What of the hole shows skin, away from its rim."""
        return self.bare & cv2.erode(self.region, np.ones((5, 5), np.uint8))

    @property
    def tone(self) -> str:
        """The skin tone as the photograph shows it: one of TONES, by its individual typology angle."""
        return _class_of(typology_angle(self.face, self.bare & self.valid), TONES)

    @property
    def grain(self) -> str:
        """One of GRAINS, by the root mean square of the Laplacian of the photograph's skin."""
        return _class_of(math.sqrt(metrics.laplacian_energy(self.face, self.bare & self.valid)), GRAINS)

    @property
    def bare(self) -> Image:
        """Where the face shows skin: inside its oval, away from eyes, nostrils and mouth."""
        area = np.zeros((CROP_PX, CROP_PX), np.uint8)
        cv2.ellipse(area, (128, 138), (70, 92), 0, 0, 360, 255, -1)
        middle = self.landmarks[3:].mean(axis=0)
        spots = ((self.landmarks[0], 0.34), (self.landmarks[1], 0.34), (self.landmarks[2], 0.22))
        for at, radius in spots:
            cv2.circle(area, _pixel(at), round(radius * EYE_DISTANCE_PX), 0, -1)
        cv2.ellipse(
            area, _pixel(middle), (round(0.55 * EYE_DISTANCE_PX), round(0.26 * EYE_DISTANCE_PX)), 0, 0, 360, 0, -1
        )
        return area


def _class_of(value: float, classes: Mapping[str, float]) -> str:
    return next(name for name, least in classes.items() if value > least)


def eval_cases(faces: FaceSet, shape: masks.MaskShape, limit: int | None = None) -> Iterator[Case]:
    """Each face with a hole of a shape, the same ones each time; at most `limit`, spread over all of them."""
    rng = np.random.default_rng(EVAL_SEED)
    chosen = _spread(len(faces), limit)
    for index, row in enumerate(faces.rows):
        hole, valid = shape(row.landmarks, rng), valid_mask(row)
        sibling = faces.sibling(index, rng)
        if index not in chosen or not (hole & valid).any():
            continue
        known = (None, None) if sibling is None else (faces.image(sibling), valid_mask(faces.rows[sibling]))
        yield Case(faces.image(index), hole, valid, row.landmarks, *known)


def evaluate(
    runners: Mapping[str, Runner],
    data: Path,
    out: Path | None = None,
    limit: int | None = None,
    threads: int = 2,
    console: Console | None = None,
) -> Report:
    """All figures of the restorers in `runners` (the first is the one that is asked about) and of the baselines."""
    torch.set_num_threads(threads)
    faces, judge, methods = FaceSet(data, "eval"), Judge(data / "weights", threads), methods_of(runners)
    results: dict[str, dict[str, list[Judged | None]]] = {}
    for kind, shape in EVAL_SHAPES.items():
        found: dict[str, list[Judged | None]] = {name: [] for name in methods}
        rows: list[list[Image]] = []
        cases = list(eval_cases(faces, shape, limit))
        shown = _spread(len(cases), SHEET_ROWS)
        chunks = [cases[start : start + _AT_ONCE] for start in range(0, len(cases), _AT_ONCE)]
        for number, chunk in enumerate(track(chunks, description=kind, console=console, disable=console is None)):
            made = {name: [method(case) for case in chunk] for name, method in methods.items()}
            for name, judged in judge(chunk, made).items():
                found[name] += judged
            rows += [
                _sheet_row(case, {name: pictures[place] for name, pictures in made.items()})
                for place, case in enumerate(chunk)
                if number * _AT_ONCE + place in shown
            ]
        results[kind] = found
        if out is not None:
            sheet(out / f"restore_{kind}.png", rows, ["hidden", *list(methods)[1:], "reference", "truth"])
    return _report(results, next(iter(runners)), judge)


def methods_of(runners: Mapping[str, Runner]) -> dict[str, Method]:
    """The baselines, then each restorer without and with a reference."""
    methods: dict[str, Method] = {
        "masked input": lambda case: case.hollow,
        "telea": lambda case: cv2.inpaint(case.hollow, case.hole, 5, cv2.INPAINT_TELEA),
        "ns": lambda case: cv2.inpaint(case.hollow, case.hole, 5, cv2.INPAINT_NS),
    }
    for name, run in runners.items():
        methods[name] = partial(_restored, run)
        methods[name + WITH_REFERENCE] = partial(_restored_with_reference, run)
    return methods


def restore(run: Runner, face: Image, hole: Image, reference: Image | None = None, there: Image | None = None) -> Image:
    """One picture through the uint8 doors."""
    if reference is None or there is None:
        reference, there = np.zeros_like(face), np.zeros_like(hole)
    feeds = {"face": face, "mask": hole[:, :, None], "reference": reference, "reference_mask": there[:, :, None]}
    return run({name: feed[None] for name, feed in feeds.items()})["restored"][0]


def _restored(run: Runner, case: Case) -> Image:
    return restore(run, case.face, case.hole)


def _restored_with_reference(run: Runner, case: Case) -> Image | None:
    if case.reference is None:
        return None
    return restore(run, case.face, case.hole, case.reference, case.reference_mask)


@dataclass(frozen=True, eq=False)
class Judged:
    """The figures of one picture, and its features (and the truth's) by backbone, for distances between sets."""

    figures: dict[str, float]
    features: dict[str, tuple[np.ndarray, np.ndarray]]
    has_reference: bool
    groups: tuple[str, ...]


class Judge:
    """Figures of many pictures at once; the networks of train/networks/backbones.py that are there."""

    def __init__(self, weights: Path, threads: int) -> None:
        self._maps: dict[str, Any] = {
            "pd_mobilenet": backbones.mobilenet(weights, threads),
            "pd_squeeze": backbones.squeezenet(weights, threads),
        }
        self._heads = None
        if (lpips := backbones.lpips(weights)) is not None:
            self._maps["lpips"], self._heads = lpips, lpips.heads
        self._inception = backbones.inception(weights)
        self._embedding = backbones.Embedding(weights, threads)

    def __call__(
        self, cases: Sequence[Case], made: Mapping[str, Sequence[Image | None]]
    ) -> dict[str, list[Judged | None]]:
        """The judgement of each method's picture of each case; None where there is no picture."""
        points = [case.landmarks for case in cases]
        truth = np.stack([case.face for case in cases])
        known = self._look(truth, points)
        judged: dict[str, list[Judged | None]] = {}
        for name, pictures in made.items():
            places = [place for place, picture in enumerate(pictures) if picture is not None]
            judged[name] = [None] * len(cases)
            if not places:
                continue
            chosen = [cases[place] for place in places]
            stack = np.stack([picture for picture in pictures if picture is not None])
            seen = self._look(stack, [points[place] for place in places])
            there = known
            if len(places) < len(cases):
                there = {key: [x[places] for x in value] for key, value in known.items()}
            for place, result in zip(places, self._compare(chosen, stack, seen, there), strict=True):
                judged[name][place] = result
        return judged

    def _look(self, pictures: Image, points: Sequence[Points]) -> dict[str, list[Any]]:
        """What each network sees in N pictures: a list of arrays or tensors with N first."""
        seen: dict[str, list[Any]] = {name: features(pictures) for name, features in self._maps.items()}
        seen["embedding"] = [self._embedding(pictures, points)]
        seen["mobilenet"] = [seen["pd_mobilenet"][-1].mean(dim=(2, 3)).numpy().astype(np.float64)]
        if self._inception is not None:
            seen["inception"] = [self._inception(pictures).astype(np.float64)]
        return seen

    def _compare(
        self, cases: Sequence[Case], made: Image, seen: Mapping[str, list[Any]], known: Mapping[str, list[Any]]
    ) -> list[Judged]:
        figures = [_pixel_figures(case, picture) for case, picture in zip(cases, made, strict=True)]
        regions = {
            "": torch.from_numpy(np.stack([case.region for case in cases])[:, None] > 0).float(),
            "_whole": torch.from_numpy(np.stack([case.valid for case in cases])[:, None] > 0).float(),
        }
        for name in self._maps:
            heads = self._heads if name == "lpips" else None
            measured = backbones.feature_distance(seen[name], known[name], list(regions.values()), heads)
            for suffix, distances in zip(regions, measured, strict=True):
                for values, distance in zip(figures, distances, strict=True):
                    values[name + suffix] = float(distance)
        alike = (seen["embedding"][0] * known["embedding"][0]).sum(axis=1)
        for values, cosine in zip(figures, alike, strict=True):
            values["identity"] = float(cosine)
        pooled = [name for name in ("mobilenet", "inception") if name in seen]
        return [
            Judged(
                figures[place],
                {name: (seen[name][0][place], known[name][0][place]) for name in pooled},
                case.reference is not None,
                (case.tone, case.grain),
            )
            for place, case in enumerate(cases)
        ]


def _pixel_figures(case: Case, made: Image) -> dict[str, float]:
    """The figures that need no network. Sharpness and energy are shares of the photograph's own."""
    similar, region, skin = metrics.ssim_map(made, case.face), case.region, case.skin
    sharp, energy = (
        [function(picture, inside) for picture in (made, case.face)]
        for function, inside in ((metrics.sharpness, region), (metrics.laplacian_energy, skin))
    )
    return {
        "psnr": metrics.psnr(made, case.face, region),
        "psnr_whole": metrics.psnr(made, case.face, case.valid),
        "ssim": metrics.mean_inside(similar, region),
        "ssim_whole": metrics.mean_inside(similar, case.valid),
        "seam": metrics.seam(made, case.face, case.hole, case.valid),
        "seam_strength": metrics.seam_strength(made, case.face, case.hole, case.valid),
        "sharpness": sharp[0] / max(sharp[1], 1e-3),
        "skin_energy": max(energy[0], 1e-3) / max(energy[1], 1e-3),
    }


def _report(results: Mapping[str, Mapping[str, Sequence[Judged | None]]], asked: str, judge: Judge) -> Report:
    every: dict[str, dict[str, dict[str, float]]] = {}
    paired: dict[str, dict[str, dict[str, float]]] = {}
    for kind, methods in results.items():
        every[kind] = {
            name: _means([judged for judged in found if judged is not None])
            for name, found in methods.items()
            if not name.endswith(WITH_REFERENCE)
        }
        paired[kind] = {
            name: _means([judged for judged in found if judged is not None and judged.has_reference])
            for name, found in methods.items()
        }
    tables = by_kind_tables(every, "All faces, without a reference")
    groups = {kind: _by_group(methods, asked) for kind, methods in results.items()}
    tables += by_kind_tables(groups, "By skin tone as the photographs show it, and by their grain; without a reference")
    if any(values["cases"] for methods in paired.values() for values in methods.values()):
        tables += by_kind_tables(paired, "Faces of which there is another picture, without and with it as a reference")
    figures = _flat(every, paired, asked) | _flat_groups(groups)
    return Report(figures, tables, {"all": every, "paired": paired, "groups": groups})


def _by_group(methods: Mapping[str, Sequence[Judged | None]], asked: str) -> dict[str, dict[str, float]]:
    """For each group that is there the means of the restorer that was asked about, and what it gains over Telea."""
    means: dict[str, dict[str, float]] = {}
    for group in (*TONES, *GRAINS):
        own, telea = (
            [judged for judged in methods[name] if judged is not None and group in judged.groups]
            for name in (asked, "telea")
        )
        if own:
            # Distances between sets depend on how many faces there are: no figure to compare groups by.
            means[group] = {name: value for name, value in _means(own).items() if name[:3] not in ("kid", "fid")}
            means[group]["psnr_gain_over_telea"] = means[group]["psnr"] - _means(telea)["psnr"]
    return means


def _flat_groups(groups: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """What models.toml keeps of each group: of the kind of hole that hides the most skin."""
    kept = ("cases", "psnr", "psnr_gain_over_telea", "ssim", "pd_mobilenet", "skin_energy", "identity")
    return {
        f"mask_{group.replace(' ', '_')}_{name}": float(values[name])
        for group, values in groups["mask"].items()
        for name in kept
    }


def _means(judged: Sequence[Judged]) -> dict[str, float]:
    """Mean figures of pictures (of ratios the geometric mean), and the distances between all of them and the truth."""
    means: dict[str, float] = {"cases": len(judged)}
    for name in judged[0].figures if judged else ():
        values = np.array([one.figures[name] for one in judged])
        values = values[np.isfinite(values)]
        if name == "skin_energy":
            means[name] = float(np.exp(np.log(values).mean())) if len(values) else float("nan")
        else:
            means[name] = float(values.mean()) if len(values) else float("nan")
    for name in judged[0].features if judged else ():
        made, real = (np.stack([one.features[name][side] for one in judged]) for side in (0, 1))
        means[f"kid_{name}"] = metrics.kernel_distance(made, real)
        means[f"fid_{name}"] = metrics.frechet_distance(made, real)
    return means


def _flat(
    every: Mapping[str, Mapping[str, Mapping[str, float]]],
    paired: Mapping[str, Mapping[str, Mapping[str, float]]],
    asked: str,
) -> dict[str, float]:
    """The figures of the restorer that was asked about, by one name each: what models.toml keeps."""
    flat: dict[str, float] = {}
    for kind, methods in every.items():
        own, telea = methods[asked], methods["telea"]
        flat |= {f"{kind}_{name}": value for name, value in own.items() if name != "cases"}
        flat |= {f"{kind}_telea": telea["psnr"], f"{kind}_gain_over_telea": own["psnr"] - telea["psnr"]}
        pair = paired[kind]
        for name in ("psnr", "pd_mobilenet", "identity"):
            if pair[asked]["cases"]:
                flat[f"{kind}_{name}_without_reference"] = pair[asked][name]
                flat[f"{kind}_{name}_with_reference"] = pair[asked + WITH_REFERENCE][name]
    return flat


def _sheet_row(case: Case, made: Mapping[str, Image | None]) -> list[Image]:
    nothing = np.zeros_like(case.face)
    pictures = [picture if picture is not None else nothing for picture in made.values()]
    return [*pictures, case.reference if case.reference is not None else nothing, case.face]


def _spread(count: int, limit: int | None) -> set[int]:
    """At most `limit` of `count` indices, evenly."""
    if limit is None or limit >= count:
        return set(range(count))
    return {index * count // limit for index in range(limit)}


def _pixel(point: Points) -> tuple[int, int]:
    x, y = np.round(point).astype(int).tolist()
    return x, y
