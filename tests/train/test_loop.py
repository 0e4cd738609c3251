"""The loop: a debug run ends and lowers its loss, a resumed run goes on, what goes wrong is named."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.harness.train_lines import RECIPE, Line
from train import checkpoint, hardware, loop, run_log
from train.config import RECIPES, Recipe
from train.losses import LOSSES
from train.task import load_task
from train.tasks.restore import RAMPS

ROOT = Path(__file__).resolve().parents[2]


def logged(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / run_log.LOG).read_text().splitlines()]


def test_fit_lowers_the_loss_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    assert loop.fit(Line(RECIPE), RECIPE, tmp_path) == 400
    run_log = logged(tmp_path)
    assert run_log[-1]["square"] < 0.2 * run_log[0]["square"]
    assert run_log[-1]["images"] == 3200
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


def test_a_stage_has_a_learning_rate_and_a_warm_up_of_its_own(tmp_path: Path) -> None:
    half = RECIPE.but(steps=200)
    loop.fit(Line(half), half, tmp_path)
    slower = RECIPE.but(learning_rate=0.01, warm_up=0)
    task = Line(slower)
    loop.fit(task, slower, tmp_path)  # the checkpoint's optimiser holds the rate of the stage before
    assert task.optimizers["network"].param_groups[0]["base_lr"] == 0.01
    for recipe, share in ((slower, 1.0), (slower.but(warm_up=4), 0.25)):
        loop.set_learning_rate(task, recipe, 0)
        assert task.optimizers["network"].param_groups[0]["lr"] == pytest.approx(0.01 * share)


class Normed(Line):
    """The same task with batch norm behind it."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.modules["network"] = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
        self.optimizers["network"] = torch.optim.Adam(self.modules["network"].parameters(), recipe.learning_rate)


def test_frozen_statistics_stay_as_they_are_while_the_network_learns(tmp_path: Path) -> None:
    first = RECIPE.but(steps=50)
    loop.fit(Normed(first), first, tmp_path)
    before = checkpoint.read(tmp_path / loop.CHECKPOINT)["modules"]["network"]
    frozen = RECIPE.but(steps=60, freeze_statistics=True)
    task = Normed(frozen)
    loop.fit(task, frozen, tmp_path)
    after = task.modules["network"].state_dict()
    assert torch.equal(after["1.running_mean"], before["1.running_mean"])
    assert torch.equal(after["1.running_var"], before["1.running_var"])
    assert not torch.equal(after["1.weight"], before["1.weight"])
    with pytest.raises(hardware.TrainingError, match="no statistics to freeze yet"):
        loop.fit(Normed(frozen), frozen, tmp_path / "new")


def test_losses_that_wait_on_their_device_are_read_in_order() -> None:
    pending = loop._PendingLosses({"l1": [1.0]})
    pending.add({"l1": torch.tensor(2.0), "tv": torch.tensor(0.5)})
    pending.add({"l1": torch.tensor(6.0)})
    assert pending.floats() == {"l1": [1.0, 2.0, 6.0], "tv": [0.5]}
    assert pending.means() == {"l1": 3.0, "tv": 0.5}


def test_a_loss_that_is_not_finite_is_named() -> None:
    with pytest.raises(hardware.TrainingError, match="`adv_patch`"):
        hardware.check_finite({"l1": torch.tensor(1.0), "adv_patch": torch.tensor(float("nan"))})


def test_debug_recipe_of_the_restorer_trains(data: Path, tmp_path: Path) -> None:
    recipe = RECIPES["restore", "debug"]
    assert loop.fit(load_task(recipe, data), recipe, tmp_path) == recipe.steps
    last = logged(tmp_path)[-1]
    assert {*LOSSES, "d_patch", "d_global"} <= set(last)


def test_the_identity_loss_counts_where_a_recipe_gives_it_a_weight(data: Path, tmp_path: Path) -> None:
    recipe = RECIPES["restore", "debug"].but(steps=2, weights={"identity": 0.5})
    loop.fit(load_task(recipe, data), recipe, tmp_path)
    last = logged(tmp_path)[-1]
    assert last["weights"]["identity"] == 0.5
    assert 0 < last["identity"] < 2


def test_ctrl_c_keeps_what_was_learned(tmp_path: Path) -> None:
    class Interrupted(Line):
        def train_step(self, batch: Mapping[str, Tensor], progress: float) -> dict[str, Tensor]:
            if progress >= 0.25:
                raise KeyboardInterrupt
            return super().train_step(batch, progress)

    assert loop.fit(Interrupted(RECIPE), RECIPE, tmp_path) == 100
    assert checkpoint.read(tmp_path / loop.CHECKPOINT)["step"] == 100


def losses_of(out: Path) -> list[tuple[float, float]]:
    return [(record["step"], record["square"]) for record in logged(out)]


def test_a_resumed_run_has_the_losses_of_one_that_never_stopped(tmp_path: Path) -> None:
    class Stopped(Line):
        def train_step(self, batch: Mapping[str, Tensor], progress: float) -> dict[str, Tensor]:
            if progress == 130 / 400:  # between two lines of the log
                raise KeyboardInterrupt
            return super().train_step(batch, progress)

    loop.fit(Line(RECIPE), RECIPE, tmp_path / "whole")
    assert loop.fit(Stopped(RECIPE), RECIPE, tmp_path / "parts") == 130
    assert loop.fit(Line(RECIPE), RECIPE, tmp_path / "parts") == 400
    assert losses_of(tmp_path / "parts") == losses_of(tmp_path / "whole")


def test_workers_do_not_change_the_samples(tmp_path: Path) -> None:
    short = RECIPE.but(steps=50)
    loop.fit(Line(short), short, tmp_path / "none")
    loop.fit(Line(short), short.but(workers=2), tmp_path / "two")
    assert losses_of(tmp_path / "none") == losses_of(tmp_path / "two")


def test_a_killed_run_goes_on_with_the_same_losses(tmp_path: Path) -> None:
    recipe = RECIPE.but(steps=1000)
    command = [sys.executable, "-u", "-m", "tests.harness.train_lines", str(tmp_path / "killed"), "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        for line in process.stdout:
            if line.startswith("step 250 "):
                process.kill()  # SIGKILL: nothing can be tidied up
                break
    assert process.returncode == -signal.SIGKILL
    assert 0 < checkpoint.read(tmp_path / "killed" / loop.CHECKPOINT)["step"] < 1000
    with (tmp_path / "killed" / run_log.LOG).open("a") as log:
        log.write('{"step": 950, "squ')  # a line that the kill cut off
    assert loop.fit(Line(recipe), recipe, tmp_path / "killed") == 1000
    loop.fit(Line(recipe), recipe, tmp_path / "whole")
    assert losses_of(tmp_path / "killed") == losses_of(tmp_path / "whole")


def test_two_processes_have_the_loss_of_one_with_the_joined_batch(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*torchrun, "-m", "tests.harness.train_lines", str(tmp_path / "two"), "100"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    one = RECIPE.but(steps=100)
    loop.fit(Line(one), one, tmp_path / "one")
    assert [step for step, _ in losses_of(tmp_path / "two")] == [50, 100]  # written once, not by each
    for (_, two), (_, alone) in zip(losses_of(tmp_path / "two"), losses_of(tmp_path / "one"), strict=True):
        assert two == pytest.approx(alone, rel=1e-5)
    weights = [checkpoint.read(tmp_path / name / loop.CHECKPOINT)["modules"]["network"] for name in ("one", "two")]
    assert torch.allclose(weights[0]["weight"], weights[1]["weight"], atol=1e-5)


def test_half_precision_scales_the_gradients_and_keeps_the_scale(tmp_path: Path) -> None:
    recipe = RECIPE.but(autocast="fp16", steps=200)
    task = Line(recipe)
    loop.fit(task, recipe, tmp_path)
    assert isinstance(task.optimizers["network"], hardware.ScaledOptimizer)
    assert logged(tmp_path)[-1]["square"] < 0.5 * logged(tmp_path)[0]["square"]
    state = checkpoint.read(tmp_path / loop.CHECKPOINT)["optimizers"]["network"]
    assert state["scaler"]["scale"] == task.optimizers["network"].scaler.get_scale() > 1
    longer = recipe.but(steps=250, autocast="off")  # a run may go on without it
    assert loop.fit(Line(longer), longer, tmp_path) == 250


def test_a_step_whose_scaled_gradients_overflow_is_left_out() -> None:
    network = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    scaled = hardware.ScaledOptimizer(optimizer, torch.amp.GradScaler("cpu", init_scale=4.0))
    before = network.weight.detach().clone()
    hardware.descend(network(torch.full((1, 1), torch.inf)).sum(), scaled, network)
    assert torch.equal(network.weight, before)
    assert scaled.scaler.get_scale() == 2.0
    hardware.descend(network(torch.ones(1, 1)).sum(), scaled, network)
    assert float((before - network.weight).detach()) == pytest.approx(0.1)


def test_cuda_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = RECIPE.but(device="cuda")
    with pytest.raises(hardware.TrainingError, match=r"no CUDA .* leave out --device"):
        loop.fit(Line(asked), asked, tmp_path)
    with pytest.raises(hardware.TrainingError, match="there are: auto, cpu, cuda"):
        hardware.device(RECIPE.but(device="gpu"))
    assert hardware.device(RECIPE).type == "cpu"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_too_little_memory_names_a_batch_that_may_fit(tmp_path: Path, error: Exception) -> None:
    class Greedy(Line):
        def train_step(self, batch: Mapping[str, Tensor], progress: float) -> dict[str, Tensor]:
            raise error

    with pytest.raises(hardware.TrainingError, match=r"out of memory with 8 pictures .* try --batch 4"):
        loop.fit(Greedy(RECIPE), RECIPE, tmp_path)


def test_pictures_and_weights_are_recorded(data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = RECIPES["restore", "debug"].but(steps=1, save_every_s=0.0)
    loop.fit(load_task(recipe, data), recipe, tmp_path)
    assert logged(tmp_path)[-1]["weights"]["adv_patch"] == RAMPS["adv_patch"].high
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert {"loss/l1", "loss/style", "weight/adv_global"} <= set(board.Tags()["scalars"])
    (picture,) = board.Images("pictures")
    assert (picture.width, picture.height) == (5 * recipe.size_px, recipe.batch * recipe.size_px)
