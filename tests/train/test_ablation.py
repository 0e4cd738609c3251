"""The ablation: rungs that differ in their losses only, each resumed in its own folder, compared in one go."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from train import checkpoint, loop
from train.config import RECIPES
from train.evaluation import ablation
from train.evaluation.report import EvalReport
from train.hardware import TrainingError
from train.losses import LOSSES
from train.task import load_task
from train.tasks.restore import ADVERSARIAL

TINY = RECIPES["restore", "debug"].but(steps=2)


def test_each_rung_adds_losses_to_the_one_before() -> None:
    recipes = [recipe for rung, recipe in ablation.rung_recipes(TINY).items() if rung in ablation.RUNGS]
    kept = [{name for name in LOSSES if recipe.weights.get(name) != 0} for recipe in recipes]
    assert kept[0] == {"l1"} and kept[-1] == set(LOSSES) and len(kept) == 5
    assert all(lower < upper for lower, upper in pairwise(kept))
    assert all(recipe.but(weights={}) == TINY for recipe in recipes)


def test_an_optional_loss_is_on_no_rung() -> None:
    recipes = ablation.rung_recipes(TINY.but(weights={"identity": 0.5, "l1": 3.0}))
    assert all(recipe.weights["identity"] == 0.0 and recipe.weights["l1"] == 3.0 for recipe in recipes.values())


def test_the_rivals_differ_from_the_full_loss_in_their_adversaries_only() -> None:
    recipes = ablation.rung_recipes(TINY.but(weights={"l1": 3.0}))
    full = recipes[ablation.FULL]
    assert recipes["logistic"].adversary == "logistic" and recipes["logistic"].but(adversary="hinge") == full
    projected = recipes["projected"].weights
    assert {name for name in projected if projected[name] != full.weights.get(name, 1.0)} == set(ablation.PROJECTED)
    assert set(ablation.PROJECTED) == set(ADVERSARIAL)


def test_some_rungs_can_be_chosen_and_an_unknown_one_is_told() -> None:
    chosen = ablation.chosen_rungs(TINY, ["projected", "l1"])
    assert list(chosen) == ["l1", "projected"] and chosen["l1"] == ablation.rung_recipes(TINY)["l1"]
    with pytest.raises(TrainingError, match=r"no rung `l2`; there are: l1, perceptual-style"):
        ablation.chosen_rungs(TINY, ["l2"])


def test_rungs_begin_with_the_same_weights(tmp_path: Path) -> None:
    first, other = (load_task(TINY, tmp_path).modules["network"].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], other[name]) for name in first)


def test_all_rungs_can_begin_with_weights_that_were_trained(data: Path, tmp_path: Path) -> None:
    task = load_task(TINY, data)
    loop.fit(task, TINY, tmp_path / "before", minutes=0)
    file = tmp_path / "start.safetensors"
    content = checkpoint.read(tmp_path / "before" / loop.CHECKPOINT)
    content["averaged"]["coarse.head.bias"] += 0.5
    checkpoint.write_weights(file, content)
    rungs = ablation.rung_recipes(TINY)
    ablation.train_rungs(rungs, data, tmp_path / "rungs", 0, Console(quiet=True), file)
    for rung in rungs:  # the rival's discriminators have no spectral norm: they are its own
        begun = checkpoint.read(tmp_path / "rungs" / rung / loop.CHECKPOINT)
        assert begun["step"] == 0
        assert torch.allclose(
            begun["modules"]["network"]["coarse.head.bias"], content["averaged"]["coarse.head.bias"], rtol=1e-3
        )


def test_all_rungs_are_trained_and_compared(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def evaluate(runners: Any, *_: Any, split: str) -> EvalReport:
        assert split == "dev", "choices are made on people kept from training"
        compared.extend(runners)
        return EvalReport({"mask_psnr": 20.0}, "| a table |")

    monkeypatch.setattr(ablation, "load_evaluation", lambda network: evaluate)
    console = Console(quiet=True)
    assert ablation.ablation(TINY, data, tmp_path, minutes=0, console=console) is None  # the time is over at once
    assert not compared
    ablation.ablation(TINY, data, tmp_path, console=console)
    assert compared == ["global", "patch", "tv-histogram-symmetry", "perceptual-style", "l1", *ablation.RIVALS]
    assert (tmp_path / "report.md").read_text() == "| a table |"
    for rung in compared:
        assert checkpoint.read(tmp_path / rung / loop.CHECKPOINT)["step"] == TINY.steps
