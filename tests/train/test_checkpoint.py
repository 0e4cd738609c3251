"""Checkpoints and weights: what a run may go on from, what it takes of it, and what is refused."""

from __future__ import annotations

import errno
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.harness.train_lines import RECIPE, Line
from train import checkpoint, hardware, loop, run_log
from train.config import RECIPES, Recipe
from train.task import load_task


def logged(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / run_log.LOG).read_text().splitlines()]


def test_a_checkpoint_from_before_the_heads_goes_on_with_grow(data: Path, tmp_path: Path) -> None:
    debug = RECIPES["restore", "debug"]
    loop.fit(load_task(debug, data), debug.but(steps=1), tmp_path)
    adversarial = debug.but(steps=2, weights={"adv_projected": 0.5, "feature_matching": 0.5})
    with pytest.raises(checkpoint.CheckpointError, match=r"has no `projected` .* --grow"):
        loop.fit(load_task(adversarial, data), adversarial, tmp_path)
    assert loop.fit(load_task(adversarial, data), adversarial, tmp_path, grow=True) == 2
    assert {"d_projected", "adv_projected", "feature_matching"} <= set(logged(tmp_path)[-1])


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
    with pytest.raises(checkpoint.CheckpointError, match="not a checkpoint"):
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


class Adversarial(Line):
    """The same task with a discriminator that was added since."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.modules["discriminator"] = nn.Linear(2, 1)
        self.optimizers["discriminator"] = torch.optim.Adam(self.modules["discriminator"].parameters())


def test_a_module_that_was_added_starts_anew_only_if_asked_for(tmp_path: Path) -> None:
    half = RECIPE.but(steps=200)
    loop.fit(Line(half), half, tmp_path)
    before = checkpoint.read(tmp_path / loop.CHECKPOINT)
    with pytest.raises(checkpoint.CheckpointError, match=r"has no `discriminator` .* --grow"):
        loop.fit(Adversarial(RECIPE), RECIPE, tmp_path)
    task, averaged = Adversarial(RECIPE), checkpoint.AveragedWeights(nn.Linear(1, 1), 0.9)
    resumed = checkpoint.restore(before, task, averaged, RECIPE, grow=True)
    assert (resumed.step, resumed.fresh) == (200, ["discriminator"])
    assert torch.equal(task.modules["network"].weight, before["modules"]["network"]["weight"])
    assert task.optimizers["network"].state_dict()["state"][0]["step"] == 200
    assert loop.fit(Adversarial(RECIPE), RECIPE, tmp_path, grow=True) == 400


def test_a_run_can_start_from_exported_weights(tmp_path: Path) -> None:
    half = RECIPE.but(steps=200)
    loop.fit(Adversarial(half), half, tmp_path / "before")
    content = checkpoint.read(tmp_path / "before" / loop.CHECKPOINT)
    file = tmp_path / "weights" / "restore.safetensors"
    checkpoint.write_weights(file, content)
    task, averaged = Adversarial(RECIPE), checkpoint.AveragedWeights(nn.Linear(1, 1), 0.9)
    started = checkpoint.start(file, task, averaged, RECIPE)
    assert (started.step, started.images) == (200, 1600)
    for name, wanted in (("network", content["averaged"]), ("discriminator", content["modules"]["discriminator"])):
        for key, value in task.modules[name].state_dict().items():
            assert torch.allclose(value, wanted[key], rtol=1e-3)
    assert torch.equal(averaged.state["weight"], task.modules["network"].weight)
    assert loop.fit(Adversarial(RECIPE), RECIPE, tmp_path / "after", start_from=file) == 400
    assert logged(tmp_path / "after")[0]["step"] == 250
    # A run that has a checkpoint goes on with that.
    assert loop.fit(Adversarial(RECIPE), RECIPE, tmp_path / "after", start_from=tmp_path / "none") == 400


def test_a_run_can_take_the_network_alone_and_count_anew(tmp_path: Path) -> None:
    loop.fit(Line(RECIPE), RECIPE, tmp_path / "before")
    content = checkpoint.read(tmp_path / "before" / loop.CHECKPOINT)
    file = tmp_path / "restore.safetensors"
    checkpoint.write_weights(file, content)
    task, averaged = Adversarial(RECIPE), checkpoint.AveragedWeights(nn.Linear(1, 1), 0.9)
    discriminator = task.modules["discriminator"].weight.clone()
    started = checkpoint.start(
        file, task, averaged, RECIPE, anew=True
    )  # which holds no discriminator, and is at its last step
    assert (started.step, started.images, started.fresh) == (0, 3200, ["optimisers", "discriminator"])
    assert torch.allclose(task.modules["network"].weight, content["averaged"]["weight"], rtol=1e-3)
    assert torch.equal(task.modules["discriminator"].weight, discriminator)
    few = RECIPE.but(steps=50)
    assert loop.fit(Adversarial(few), few, tmp_path / "after", start_from=file, anew=True) == 50
    assert logged(tmp_path / "after")[0]["images"] == 3200 + 50 * RECIPE.batch


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    half = RECIPE.but(steps=200)
    loop.fit(Line(half), half, tmp_path)
    file, broken = tmp_path / "weights.safetensors", tmp_path / "broken.safetensors"
    checkpoint.write_weights(file, checkpoint.read(tmp_path / loop.CHECKPOINT))
    broken.write_bytes(file.read_bytes()[:-3])
    for given, recipe, says in (
        (tmp_path / "none", RECIPE, "no weights that can be read"),
        (broken, RECIPE, "no weights that can be read"),
        (file, Recipe("hidden", "line", steps=400, batch=1, size_px=1), "of `restore`, not of `hidden`"),
        (file, half, "is at step 200 already; give a larger total"),
    ):
        with pytest.raises(checkpoint.CheckpointError, match=says):
            loop.fit(Line(recipe), recipe, tmp_path / "out", start_from=given)
    with pytest.raises(checkpoint.CheckpointError, match="`discriminator` has another shape"):
        loop.fit(Adversarial(RECIPE), RECIPE, tmp_path / "out", start_from=file)
    assert not (tmp_path / "out" / loop.CHECKPOINT).exists()


def test_growing_never_replaces_the_network(tmp_path: Path) -> None:
    loop.fit(Line(RECIPE), RECIPE, tmp_path, minutes=0)
    task = Line(RECIPE)
    task.modules["network"] = nn.Linear(2, 1)
    with pytest.raises(checkpoint.CheckpointError, match="another shape"):
        loop.fit(task, RECIPE, tmp_path, grow=True)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")]
)
def test_a_full_disk_loses_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    half = RECIPE.but(steps=200)
    loop.fit(Line(half), half, tmp_path)
    before = (tmp_path / loop.CHECKPOINT).read_bytes()

    def full(content: object, file: Any) -> None:
        file.write(b"the first half of a checkpoint")
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(hardware.TrainingError, match=r"can't write to .* is untouched, make room"):
        loop.fit(Line(RECIPE), RECIPE, tmp_path)
    assert (tmp_path / loop.CHECKPOINT).read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))
