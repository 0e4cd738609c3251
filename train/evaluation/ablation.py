"""Ablation of the losses: the same network, data, steps and seed, trained on more and more groups of losses.

The last rung has two rivals: the other formulation of its adversaries, and discriminators on frozen features in place
of both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from train import loop
from train.config import Recipe
from train.evaluation.report import EvalReport
from train.evaluation.runners import open_runner
from train.hardware import TrainingError
from train.losses import LOSSES
from train.onnx_runner import Runner
from train.task import load_evaluation, load_task, split_option

#: Each rung has the losses of those before it, and these.
RUNGS = {
    "l1": ("l1",),
    "perceptual-style": ("perceptual", "style"),
    "tv-histogram-symmetry": ("tv", "histogram", "symmetry"),
    "patch": ("adv_patch",),
    "global": ("adv_global",),
}
FULL = "global"
#: What takes the place of the last rung's adversaries, with the weights that its gradients ask for.
PROJECTED = {"adv_patch": 0.0, "adv_global": 0.0, "adv_projected": 0.03, "feature_matching": 0.5}
RIVALS = ("logistic", "projected")


def rung_recipes(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe of each rung: it leaves out the losses of those above it. And those of the last one's rivals."""
    recipes: dict[str, Recipe] = {}
    kept: set[str] = set()
    for rung, added in RUNGS.items():
        kept |= set(added)
        without = {name: 0.0 for name in (*LOSSES, *recipe.weights) if name not in kept}
        recipes[rung] = recipe.but(weights={**recipe.weights, **without})
    full = recipes[FULL]
    rivals = (full.but(adversary="logistic"), full.but(weights={**full.weights, **PROJECTED}))
    return recipes | dict(zip(RIVALS, rivals, strict=True))


def chosen_rungs(recipe: Recipe, only: Sequence[str]) -> dict[str, Recipe]:
    """The recipes of the rungs named in `only`, or of all. Raises TrainingError for a name that no rung has."""
    recipes = rung_recipes(recipe)
    for rung in only:
        if rung not in recipes:
            raise TrainingError(f"there is no rung `{rung}`; there are: {', '.join(recipes)}")
    return {rung: chosen for rung, chosen in recipes.items() if not only or rung in only}


def train_rungs(
    rungs: Mapping[str, Recipe], data: Path, out: Path, minutes: float, console: Console, start_from: Path | None
) -> bool:
    """Trains each rung in a folder of its own, `minutes` for each at most; whether all have reached the last step.

    All begin with the network of `start_from` where that is given, with discriminators of their own, at step 0.
    """
    done = True
    for rung, chosen in rungs.items():
        counted = ", ".join(name for name in LOSSES if chosen.weights.get(name, 1.0))
        console.print(f"{rung}: {counted} ({chosen.adversary})")
        task = load_task(chosen, data)
        done &= loop.fit(task, chosen, out / rung, minutes, console, start_from=start_from, anew=True) >= chosen.steps
    return done


def compare_rungs(
    recipe: Recipe, rungs: Sequence[str], data: Path, out: Path, limit: int | None, console: Console
) -> EvalReport:
    """The figures of `rungs` on the dev set, the fullest loss first, beside the baselines; sheets into `out`."""
    ordered = [rung for rung in (*reversed(RUNGS), *RIVALS) if rung in rungs]
    runners: dict[str, Runner] = {rung: open_runner(recipe, data, out / rung, recipe.threads) for rung in ordered}
    evaluate = load_evaluation(recipe.network)
    return evaluate(runners, data, out, limit, recipe.threads, console, **split_option(recipe.network, "dev"))


def ablation(
    recipe: Recipe,
    data: Path,
    out: Path,
    minutes: float = math.inf,
    limit: int | None = None,
    console: Console | None = None,
    start_from: Path | None = None,
    only: Sequence[str] = (),
) -> EvalReport | None:
    """Trains and compares all rungs, or those in `only`; None where the time was over before the last step of each."""
    console = console or Console()
    rungs = chosen_rungs(recipe, only)
    if not train_rungs(rungs, data, out, minutes, console, start_from):
        return None
    report = compare_rungs(recipe, list(rungs), data, out, limit, console)
    report.write(out)
    return report
