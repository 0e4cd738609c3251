"""Figures of restored pictures: by pixels, and by networks that were made by others.

Always inside the photograph (`valid_quad`). A figure from a third party's network carries its name; see
train/networks/backbones.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from engines.contract import Image, Points
from train.evaluation import metrics
from train.evaluation.restoration import critic
from train.evaluation.restoration.cases import EvalCase
from train.networks import backbones

T = TypeVar("T")

#: Faces that are measured together: the backbones run on all of their pictures at once.
AT_ONCE = 12
#: How the names of figures begin that are of a set of pictures, and depend on how many there are.
OF_SETS = ("kid", "fid", "critic")


@dataclass(frozen=True, eq=False)
class CaseFigures:
    """The figures of one picture, and its features (and the truth's) for figures of whole sets.

    `features` are of the picture, by backbone; `hole_features` of the hole alone, by the critic that looks at them.
    """

    figures: dict[str, float]
    features: dict[str, tuple[np.ndarray, np.ndarray]]
    hole_features: dict[str, tuple[np.ndarray, np.ndarray]]
    has_reference: bool
    groups: tuple[str, ...]


class RestorationMeter:
    """Figures of many pictures at once; the networks of train/networks/backbones.py that are there."""

    def __init__(self, weights: Path, threads: int, quick: bool = False) -> None:
        """With `quick` it has the backbones alone that no restorer was trained with: half of the time."""
        self._maps: dict[str, Any] = {"pd_mobilenet": backbones.mobilenet(weights, threads)}
        self._heads, self._inception = None, None
        if not quick:
            self._maps["pd_squeeze"] = backbones.squeezenet(weights, threads)
            if (lpips := backbones.lpips(weights)) is not None:
                self._maps["lpips"], self._heads = lpips, lpips.heads
            self._inception = backbones.inception(weights)
        self._embedding = backbones.Embedding(weights, threads)

    def __call__(
        self, cases: Sequence[EvalCase], made: Mapping[str, Sequence[Image | None]]
    ) -> dict[str, list[CaseFigures | None]]:
        """The figures of each method's picture of each case; None where there is no picture."""
        points = [case.landmarks for case in cases]
        truth = np.stack([case.face for case in cases])
        known = self._look(truth, points)
        measured: dict[str, list[CaseFigures | None]] = {}
        for name, pictures in made.items():
            places = [place for place, picture in enumerate(pictures) if picture is not None]
            measured[name] = [None] * len(cases)
            if not places:
                continue
            chosen = [cases[place] for place in places]
            stack = np.stack([picture for picture in pictures if picture is not None])
            seen = self._look(stack, [points[place] for place in places])
            truth_seen = known
            if len(places) < len(cases):
                truth_seen = {key: [x[places] for x in value] for key, value in known.items()}
            for place, result in zip(places, self._compare(chosen, stack, seen, truth_seen), strict=True):
                measured[name][place] = result
        return measured

    def _look(self, pictures: Image, points: Sequence[Points]) -> dict[str, list[Any]]:
        """What each network sees in N pictures: a list of arrays or tensors with N first."""
        seen: dict[str, list[Any]] = {name: features(pictures) for name, features in self._maps.items()}
        seen["embedding"] = [self._embedding(pictures, points)]
        seen["mobilenet"] = [seen["pd_mobilenet"][-1].mean(dim=(2, 3)).numpy().astype(np.float64)]
        if self._inception is not None:
            seen["inception"] = [self._inception(pictures).astype(np.float64)]
        return seen

    def _compare(
        self, cases: Sequence[EvalCase], made: Image, seen: Mapping[str, list[Any]], known: Mapping[str, list[Any]]
    ) -> list[CaseFigures]:
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
        holes = [critic.pooled(looked["pd_mobilenet"], regions[""]) for looked in (seen, known)]
        deepest = seen["pd_mobilenet"][-1].shape[1]
        return [
            CaseFigures(
                figures[place],
                {name: (seen[name][0][place], known[name][0][place]) for name in pooled},
                {
                    "critic_auc": (holes[0][place, -deepest:], holes[1][place, -deepest:]),
                    "critic_auc_fine": (holes[0][place], holes[1][place]),
                },
                case.reference is not None,
                case.groups,
            )
            for place, case in enumerate(cases)
        ]


def chunks(cases: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many cases at once as are measured together."""
    return (cases[start : start + AT_ONCE] for start in range(0, len(cases), AT_ONCE))


def _pixel_figures(case: EvalCase, made: Image) -> dict[str, float]:
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


def chosen_means(measured: Sequence[CaseFigures | None], names: Sequence[str]) -> dict[str, float]:
    """Of `means_of` those with these names."""
    return {
        name: value for name, value in means_of([one for one in measured if one is not None]).items() if name in names
    }


def means_of(measured: Sequence[CaseFigures]) -> dict[str, float]:
    """Mean figures of pictures (of ratios the geometric mean), and the distances between all of them and the truth."""
    means: dict[str, float] = {"cases": len(measured)}
    for name in measured[0].figures if measured else ():
        values = np.array([one.figures[name] for one in measured])
        values = values[np.isfinite(values)]
        if name == "skin_energy":
            means[name] = float(np.exp(np.log(values).mean())) if len(values) else float("nan")
        else:
            means[name] = float(values.mean()) if len(values) else float("nan")
    for name in measured[0].features if measured else ():
        made, real = (np.stack([one.features[name][side] for one in measured]) for side in (0, 1))
        means[f"kid_{name}"] = metrics.kernel_distance(made, real)
        means[f"fid_{name}"] = metrics.frechet_distance(made, real)
    for name in measured[0].hole_features if measured else ():
        made, real = (np.stack([one.hole_features[name][side] for one in measured]) for side in (0, 1))
        means[name] = critic.critic_auc(made, real)
    return means
