"""The loop: a debug run ends and lowers its loss, a resumed run goes on, a broken checkpoint is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from train import checkpoint, loop
from train.config import Recipe
from train.losses import LOSSES
from train.task import load_task


class Line:
    """The smallest task: learn y = 3x."""

    name = "restore"

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.modules = {"network": nn.Linear(1, 1)}
        self.optimizers = {"network": torch.optim.Adam(self.modules["network"].parameters(), recipe.learning_rate)}

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        x = rng.normal(0, 1, (1,)).astype(np.float32)
        return {"x": x, "y": 3 * x}

    def train_step(self, batch: Mapping[str, Tensor], progress: float) -> dict[str, float]:
        loss = (self.modules["network"](batch["x"]) - batch["y"]).square().mean()
        loop.check_finite({"square": loss})
        loop.descend(loss, self.optimizers["network"], self.modules["network"])
        return {"square": float(loss.detach())}


RECIPE = Recipe("restore", "line", steps=400, batch=8, size_px=1, learning_rate=0.1, workers=0, autocast="off")


def logged(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / loop.LOG).read_text().splitlines()]


def test_fit_lowers_the_loss_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    assert loop.fit(Line(RECIPE), RECIPE, tmp_path) == 400
    records = logged(tmp_path)
    assert records[-1]["square"] < 0.2 * records[0]["square"]
    assert records[-1]["images"] == 3200
    assert checkpoint.read(tmp_path / loop.CHECKPOINT)["step"] == 400
    assert not list(tmp_path.glob("*.tmp"))


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    assert loop.fit(Line(RECIPE), RECIPE, tmp_path, minutes=0) == 0
    half = RECIPE.but(steps=200)
    loop.fit(Line(half), half, tmp_path)
    task = Line(RECIPE)
    assert loop.fit(task, RECIPE, tmp_path) == 400
    assert [record["step"] for record in logged(tmp_path)] == list(range(50, 401, 50))
    assert float(task.modules["network"].weight.detach()) == pytest.approx(3, abs=0.5)


def test_the_same_seed_gives_the_same_losses(tmp_path: Path) -> None:
    for name in ("one", "two"):
        loop.fit(Line(RECIPE), RECIPE, tmp_path / name)
    one, two = ([record["square"] for record in logged(tmp_path / name)] for name in ("one", "two"))
    assert one == two


def test_a_loss_that_is_not_finite_is_named() -> None:
    with pytest.raises(loop.TrainingError, match="`adv_patch`"):
        loop.check_finite({"l1": torch.tensor(1.0), "adv_patch": torch.tensor(float("nan"))})


def test_average_follows_the_weights() -> None:
    network = nn.Linear(1, 1, bias=False)
    averaged = checkpoint.AveragedWeights(network, 0.9)
    with torch.no_grad():
        network.weight.fill_(float(averaged.state["weight"]) + 1.0)
    before = float(averaged.state["weight"])
    averaged.update(network, step=10_000)
    assert float(averaged.state["weight"]) == pytest.approx(before + 0.1, abs=1e-6)


def test_a_hostile_pickle_is_not_executed(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "executed",)

    file = tmp_path / loop.CHECKPOINT
    file.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint"):
        checkpoint.read(file)
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    loop.fit(Line(RECIPE), RECIPE, tmp_path, minutes=0)
    other = Recipe("hidden", "line", steps=1, batch=1, size_px=1)
    with pytest.raises(checkpoint.CheckpointError, match="of `restore`, not of `hidden`"):
        loop.fit(Line(RECIPE), other, tmp_path)
    with pytest.raises(checkpoint.CheckpointError, match="another shape"):
        checkpoint.load_averaged(tmp_path / loop.CHECKPOINT, nn.Linear(2, 1))
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint"):
        checkpoint.read(tmp_path / "none.pt")


class Judged(Line):
    """The same task with a discriminator that was added since."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.modules["judge"] = nn.Linear(2, 1)
        self.optimizers["judge"] = torch.optim.Adam(self.modules["judge"].parameters())


def test_a_module_that_was_added_starts_anew_only_if_asked_for(tmp_path: Path) -> None:
    half = RECIPE.but(steps=200)
    loop.fit(Line(half), half, tmp_path)
    before = checkpoint.read(tmp_path / loop.CHECKPOINT)
    with pytest.raises(checkpoint.CheckpointError, match=r"has no `judge` .* --grow"):
        loop.fit(Judged(RECIPE), RECIPE, tmp_path)
    task, averaged = Judged(RECIPE), checkpoint.AveragedWeights(nn.Linear(1, 1), 0.9)
    resumed = checkpoint.restore(before, task, averaged, RECIPE, grow=True)
    assert (resumed.step, resumed.fresh) == (200, ["judge"])
    assert torch.equal(task.modules["network"].weight, before["modules"]["network"]["weight"])
    assert task.optimizers["network"].state_dict()["state"][0]["step"] == 200
    assert loop.fit(Judged(RECIPE), RECIPE, tmp_path, grow=True) == 400


def test_growing_never_replaces_the_network(tmp_path: Path) -> None:
    loop.fit(Line(RECIPE), RECIPE, tmp_path, minutes=0)
    task = Line(RECIPE)
    task.modules["network"] = nn.Linear(2, 1)
    with pytest.raises(checkpoint.CheckpointError, match="another shape"):
        loop.fit(task, RECIPE, tmp_path, grow=True)


def test_debug_recipe_of_the_restorer_trains(data: Path, tmp_path: Path) -> None:
    from train.config import RECIPES

    recipe = RECIPES["restore", "debug"]
    assert loop.fit(load_task(recipe, data), recipe, tmp_path) == recipe.steps
    last = logged(tmp_path)[-1]
    assert {*LOSSES, "d_patch", "d_global"} <= set(last)


def test_ctrl_c_keeps_what_was_learned(tmp_path: Path) -> None:
    class Interrupted(Line):
        def train_step(self, batch: Mapping[str, Tensor], progress: float) -> dict[str, float]:
            if progress >= 0.25:
                raise KeyboardInterrupt
            return super().train_step(batch, progress)

    assert loop.fit(Interrupted(RECIPE), RECIPE, tmp_path) == 100
    assert checkpoint.read(tmp_path / loop.CHECKPOINT)["step"] == 100
