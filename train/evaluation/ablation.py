"""Ablation of the losses: the same network, data, steps and seed, trained on more and more groups of losses.

The last rung is trained once more with the other formulation of the adversaries.
"""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console

from train import loop
from train.config import Recipe
from train.evaluation.report import EvalReport
from train.evaluation.runners import open_runner
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
FULL, RIVAL = "global", "logistic"


def rung_recipes(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe of each rung: it leaves out the losses of those above it. And that of the last one's rival."""
    recipes: dict[str, Recipe] = {}
    kept: set[str] = set()
    for rung, added in RUNGS.items():
        kept |= set(added)
        without = {name: 0.0 for name in (*LOSSES, *recipe.weights) if name not in kept}
        recipes[rung] = recipe.but(weights={**recipe.weights, **without})
    return recipes | {RIVAL: recipes[FULL].but(adversary="logistic")}


def train_rungs(
    recipe: Recipe, data: Path, out: Path, minutes: float, console: Console, start_from: Path | None
) -> bool:
    """Trains each rung in a folder of its own, `minutes` for each at most; whether all have reached the last step.

    All begin with the network of `start_from` where that is given, with discriminators of their own, at step 0.
    """
    done = True
    for rung, chosen in rung_recipes(recipe).items():
        counted = ", ".join(name for name in LOSSES if chosen.weights.get(name, 1.0))
        console.print(f"{rung}: {counted} ({chosen.adversary})")
        task = load_task(chosen, data)
        done &= loop.fit(task, chosen, out / rung, minutes, console, start_from=start_from, anew=True) >= chosen.steps
    return done


def compare_rungs(recipe: Recipe, data: Path, out: Path, limit: int | None, console: Console) -> EvalReport:
    """The figures of all rungs on the dev set, the full loss first, beside the baselines; sheets into `out`."""
    runners: dict[str, Runner] = {
        rung: open_runner(recipe, data, out / rung, recipe.threads) for rung in (*reversed(RUNGS), RIVAL)
    }
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
) -> EvalReport | None:
    """Trains and compares; None where the time was over before the last step of every rung."""
    console = console or Console()
    if not train_rungs(recipe, data, out, minutes, console, start_from):
        return None
    report = compare_rungs(recipe, data, out, limit, console)
    report.write(out)
    return report
