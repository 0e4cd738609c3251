"""The restorer: its exported form and its samples. Its figures are tested in test_evaluate.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from engines.contract import CROP_PX, TEMPLATE, similarity, transform_points
from train.config import RECIPES
from train.data.face_set import DataError, FaceSet, typology_angle, valid_mask
from train.evaluation.restoration.methods import restore as restore_picture
from train.evaluation.runners import torch_runner
from train.hardware import TrainingError
from train.networks.unet import (
    FIRST_GRAIN,
    MOST_APART,
    Attention,
    RestoreUNet,
    carried_on,
    gain,
    generator_input,
    halved,
    visible_grain,
)
from train.networks.unet_export import RestoreExport
from train.occlusion.masks import bare_skin
from train.onnx_runner import Runner
from train.schedule import ScheduleError
from train.task import ModelIO
from train.tasks import restore

CHANNELS = {"face": 3, "mask": 1, "reference": 3, "reference_mask": 1}


@pytest.fixture(scope="module")
def run() -> Runner:
    torch.manual_seed(0)
    inputs = {name: (1, CROP_PX, CROP_PX, channels) for name, channels in CHANNELS.items()}
    return torch_runner(ModelIO(RestoreExport(RestoreUNet()), inputs, {"restored": (1, CROP_PX, CROP_PX, 3)}, {}))


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (CROP_PX, CROP_PX, 3), dtype=np.uint8)


def test_known_pixels_come_out_bit_for_bit(run: Runner) -> None:
    face, hole = picture(1), np.zeros((CROP_PX, CROP_PX), np.uint8)
    hole[100:180, 80:170] = 255
    restored = restore_picture(run, face, hole)
    assert np.array_equal(restored[hole == 0], face[hole == 0])
    assert not np.array_equal(restored[hole > 0], face[hole > 0])


def test_what_is_hidden_does_not_matter(run: Runner) -> None:
    face, hole = picture(1), np.zeros((CROP_PX, CROP_PX), np.uint8)
    hole[60:200, 60:200] = 255
    other = np.where(hole[..., None] > 0, picture(2), face)
    assert np.array_equal(restore_picture(run, face, hole), restore_picture(run, other, hole))


def test_reference_counts_only_where_it_is_valid(run: Runner) -> None:
    face, hole, nowhere = picture(1), np.full((CROP_PX, CROP_PX), 255, np.uint8), np.zeros((CROP_PX, CROP_PX), np.uint8)
    alone = restore_picture(run, face, hole)
    assert np.array_equal(alone, restore_picture(run, face, hole, picture(3), nowhere))
    assert not np.array_equal(alone, restore_picture(run, face, hole, picture(3), hole))


@pytest.mark.parametrize("name", ["base", "vit", "attention"])
def test_generator_stays_within_its_budget(name: str, tmp_path: Path) -> None:
    recipe = RECIPES["restore", "base"].but(attention=True) if name == "attention" else RECIPES["restore", name]
    network = restore.RestoreTask(recipe, tmp_path).modules["network"].eval()
    picture_nchw, mask_nchw = torch.zeros(1, 3, CROP_PX, CROP_PX), torch.zeros(1, 1, CROP_PX, CROP_PX)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(picture_nchw, mask_nchw, picture_nchw, mask_nchw)
    assert 1e9 < counter.get_total_flops() / 2 <= 8e9
    assert sum(parameter.numel() for parameter in network.parameters()) <= 8e6


def test_a_window_lies_anywhere_in_a_large_picture_and_is_all_of_a_small_one() -> None:
    torch.manual_seed(0)
    assert torch.zeros(1, 1, 96, 96)[restore.window(96)].shape == (1, 1, 96, 96)
    windows = [restore.window(192) for _ in range(40)]
    assert all(
        torch.zeros(1, 1, 192, 192)[near].shape == (1, 1, restore.WINDOW_PX, restore.WINDOW_PX) for near in windows
    )
    assert len({near[1].start for near in windows}) > 10 and max(near[2].start for near in windows) <= 64


def test_attention_starts_as_adding_nothing_and_then_sees_far() -> None:
    x = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(1))
    attention = Attention(16)
    assert torch.equal(attention(x), x)
    torch.nn.init.eye_(attention.answer.weight)
    other = x.clone()
    other[0, :, 3, 3] += torch.arange(16.0)
    changed = (attention(x) - attention(other)).abs().amax(1)
    assert (changed[0] > 1e-4).all()  # each place sees the last one
    assert not changed[1].any()  # and none sees another picture


def test_inputs_and_outputs_say_what_the_network_says() -> None:
    """Their arithmetic is arranged otherwise; the numbers are the same, whatever the network has learned."""
    torch.manual_seed(3)
    network = RestoreUNet(widths=(8, 8, 16, 16, 16))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0.1, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    torch.nn.init.normal_(network.fine.head.weight, 0, 0.05)
    torch.nn.init.normal_(network.fine.head.bias, 0, 0.05)
    torch.nn.init.normal_(network.fine.sharpness, 0, 0.1)
    network.eval()
    face, reference = (torch.randint(0, 256, (2, CROP_PX, CROP_PX, 3), dtype=torch.uint8) for _ in range(2))
    face[1] = 100 + face[1] // 32  # with about the typical grain
    masks = [torch.zeros(2, CROP_PX, CROP_PX, 1, dtype=torch.uint8) for _ in range(2)]
    for mask in masks:
        mask[:, 53:160, 80:203] = 255
    planes = [picture.permute(0, 3, 1, 2).float() / 255 for picture in (face, masks[0], reference, masks[1])]
    with torch.no_grad():
        made = network(*planes).permute(0, 2, 3, 1) * 255
        restored = RestoreExport(network)(face, masks[0], reference, masks[1])
    expected = torch.where(masks[0] > 0, made.round().clamp(0, 255), face.float())
    assert (restored.float() - expected).abs().max() <= 1
    assert (restored.float() != expected).float().mean() < 0.001
    assert network.training is False and next(network.parameters()).requires_grad


def test_a_mask_that_is_half_there_counts_as_one_or_the_other(run: Runner) -> None:
    face, reference, hole = picture(1), picture(3), np.zeros((CROP_PX, CROP_PX), np.uint8)
    hole[100:180, 80:170] = 255
    soft = np.where(hole > 0, 128, 127).astype(np.uint8)
    expected = restore_picture(run, face, hole, reference, hole)
    assert np.array_equal(restore_picture(run, face, soft, reference, soft), expected)


def test_fine_half_starts_as_the_coarse_picture_with_a_little_grain() -> None:
    network = RestoreUNet().eval()
    generator = torch.Generator().manual_seed(2)
    face = torch.rand(1, 3, CROP_PX, CROP_PX, generator=generator)
    hole = torch.zeros(1, 1, CROP_PX, CROP_PX)
    hole[..., 80:161, 80:160] = 1.0
    with torch.no_grad():
        halves = (*halved(face, hole), *halved(face * 0, hole * 0, keep=True))
        coarse, features = network.coarse(generator_input(*halves))
        whole = network.fine(generator_input(face, hole, face * 0, hole * 0), coarse, features)
    grain = whole - coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(grain[:, :1].expand(-1, 3, -1, -1), grain, atol=1e-6)  # of light, not of colour
    strong = visible_grain(generator_input(face, hole, face * 0, hole * 0), network.fine.skin)
    assert grain.std().item() == pytest.approx(FIRST_GRAIN * strong.item(), rel=0.02)


def test_what_is_off_at_the_rim_is_carried_on_into_the_hole() -> None:
    known = torch.ones(1, 1, 64, 64)
    known[..., 24:40, 24:40] = 0.0
    slope = torch.linspace(-1, 1, 64).view(1, 1, 1, 64).expand(1, 3, 64, 64)
    carried = carried_on(slope * known, known)
    assert torch.allclose(carried[known.expand_as(carried) > 0], slope[known.expand_as(carried) > 0])
    assert (carried - slope).abs().max() < 0.2  # and goes on in the hole
    assert (carried.diff(dim=-1).abs() < 0.12).all() and (carried.diff(dim=-2).abs() < 0.12).all()
    nowhere = carried_on(slope * 0, known * 0)
    assert torch.equal(nowhere, torch.zeros_like(nowhere))


def test_a_hole_has_no_rim_even_where_the_network_knows_nothing() -> None:
    network = RestoreUNet().eval()  # it learned nothing: its picture is grey
    for parameter in (network.coarse.head.weight, network.coarse.head.bias, network.fine.strength):
        torch.nn.init.zeros_(parameter)
    face = torch.full((1, 3, CROP_PX, CROP_PX), 0.5 + MOST_APART)
    hole = torch.zeros(1, 1, CROP_PX, CROP_PX)
    hole[..., 80:160, 80:160] = 1.0
    with torch.no_grad():
        made = network(face, hole, face * 0, hole * 0)
        assert (made - face)[..., 80:82, 90:150].abs().max() < 0.005
        assert (network(face + 0.2, hole, face * 0, hole * 0) - made).abs().max() < 1e-5  # so far and no further


def test_grain_is_measured_on_visible_skin() -> None:
    stripes = torch.full((1, 3, CROP_PX, CROP_PX), 0.5)
    stripes[..., ::2] += 0.01
    stripes[..., :30, :] = 0.0  # no skin there
    x = torch.cat((stripes, torch.zeros(1, 5, CROP_PX, CROP_PX)), dim=1)
    skin = RestoreUNet().fine.skin
    assert visible_grain(x, skin).item() == pytest.approx(0.02, rel=1e-3)  # both neighbours are off by 0.01
    hole = torch.zeros(1, 1, CROP_PX, CROP_PX)
    hole[..., 100:, :] = 1.0
    hollow = torch.cat((stripes * (1 - hole), hole, x[:, 4:]), dim=1)
    assert visible_grain(hollow, skin).item() == pytest.approx(0.02, rel=1e-3)  # the hole's rim is no grain
    assert visible_grain(torch.cat((stripes * 0, hole * 0 + 1, x[:, 4:]), dim=1), skin).item() == 0.0


def test_a_sharp_photograph_is_painted_sharper_where_the_network_learned_that() -> None:
    sharpness = torch.tensor([0.0, 0.1, -0.1]).view(1, 3, 1, 1)
    soft, typical, sharp, noisy = gain(torch.tensor([0.5, 1.0, 2.0, 9.0]).view(4, 1, 1, 1), sharpness).flatten(1)
    assert torch.equal(typical, torch.ones(3))
    assert torch.allclose(soft, torch.tensor([1.0, 0.8, 1.2]))
    assert torch.allclose(sharp, torch.tensor([1.0, 1.4, 0.6]))
    assert torch.equal(noisy, sharp)


def test_halving_never_takes_a_hidden_pixel_for_known() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[0, 0, 1, 1] = 1.0
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    small, hidden = halved(picture, mask)
    assert hidden.flatten().tolist() == [1, 0, 0, 0]
    assert small.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    _, there = halved(picture, 1 - mask, keep=True)
    assert there.flatten().tolist() == [0, 1, 1, 1]


def test_samples_are_of_one_shape_and_repeat(data: Path) -> None:
    task = restore.RestoreTask(RECIPES["restore", "debug"], data)
    one, two = (task.sample(np.random.default_rng(5)) for _ in range(2))
    side = RECIPES["restore", "debug"].size_px
    assert one["face"].shape == one["reference"].shape == (3, side, side)
    for name in ("hole", "valid", "reference_mask"):
        assert one[name].shape == (1, side, side)
        assert set(np.unique(one[name])) <= {0, 1}
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_the_darker_of_two_faces_is_taken_if_the_draw_says_so(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = restore.RestoreTask(RECIPES["restore", "debug"], data)

    def dark_share(chance: float) -> float:
        monkeypatch.setattr(restore, "DARKER_CHANCE", chance)
        rng = np.random.default_rng(4)
        drawn = [task._draw(rng) for _ in range(150)]
        return float(np.mean([typology_angle(one.image, valid_mask(one.row) & bare_skin()) < 10 for one in drawn]))

    assert dark_share(1.0) > 1.4 * dark_share(0.0) > 0


def test_an_adversary_that_is_not_there_is_said(data: Path) -> None:
    with pytest.raises(TrainingError, match="no adversary `wgan`; there are: hinge, logistic"):
        restore.RestoreTask(RECIPES["restore", "debug"].but(adversary="wgan"), data)


class Waits(TorchDispatchMode):
    """Counts what makes a processor wait for its device: a tensor's value asked for as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += operation is torch.ops.aten._local_scalar_dense.default
        return operation(*args, **(kwargs or {}))


def batch_of(task: restore.RestoreTask, count: int) -> dict[str, torch.Tensor]:
    samples = [task.sample(np.random.default_rng(seed)) for seed in range(count)]
    return {name: torch.from_numpy(np.stack([sample[name] for sample in samples])) for name in samples[0]}


def test_a_step_leaves_its_losses_on_the_device(data: Path) -> None:
    task = restore.RestoreTask(RECIPES["restore", "debug"], data)
    batch = batch_of(task, 2)
    with Waits() as waits:
        record = task.train_step(batch, 0.9)
    assert waits.count == 0
    assert {"d_patch", "d_global", "adv_patch", "l1"} <= set(record)
    assert not any(value.requires_grad for value in record.values())


def test_heads_on_a_backbone_are_a_part_only_where_their_loss_has_a_weight(data: Path) -> None:
    debug = RECIPES["restore", "debug"]
    for weights, present in (({}, False), ({"adv_projected": 0.0}, False), ({"adv_projected": 0.5}, True)):
        task = restore.RestoreTask(debug.but(weights=weights), data)
        assert ("projected" in task.modules) == ("projected" in task.optimizers) == present
    with pytest.raises(ScheduleError, match="give adv_patch or adv_projected a weight"):
        restore.RestoreTask(debug.but(weights={"feature_matching": 1.0, "adv_patch": 0.0}), data)


def test_heads_on_a_backbone_and_feature_matching_teach_the_network(data: Path) -> None:
    nothing = dict.fromkeys(restore.RAMPS, 0.0)
    for alone in ("adv_projected", "feature_matching"):
        weights = {**nothing, "adv_projected": 1e-6, alone: 1.0}
        task = restore.RestoreTask(RECIPES["restore", "debug"].but(weights=weights), data)
        fixed = {name: value.clone() for name, value in task.modules["projected"].named_buffers() if "ject" in name}
        before = task.modules["network"].coarse.head.weight.clone()
        record = task.train_step(batch_of(task, 2), 1.0)
        assert {"d_projected", "adv_projected"} <= set(record)
        assert ("feature_matching" in record) == (alone == "feature_matching")
        assert not torch.equal(task.modules["network"].coarse.head.weight, before)
        now = dict(task.modules["projected"].named_buffers())
        assert all(torch.equal(now[name], value) for name, value in fixed.items())


def test_the_backbone_looks_once_at_each_picture(data: Path) -> None:
    weights = {"adv_projected": 1.0, "feature_matching": 1.0}
    task = restore.RestoreTask(RECIPES["restore", "debug"].but(weights=weights), data)
    looks: list[torch.Tensor] = []
    task._backbone.register_forward_hook(lambda module, inputs, output: looks.append(inputs[0]))
    record = task.train_step(batch_of(task, 2), 1.0)
    assert {"perceptual", "style", "adv_projected"} <= set(record)
    assert [look.requires_grad for look in looks] == [True, False]


def test_half_of_the_samples_have_no_reference(data: Path) -> None:
    task = restore.RestoreTask(RECIPES["restore", "debug"], data)
    rng = np.random.default_rng(1)
    without = sum(not task.sample(rng)["reference_mask"].any() for _ in range(80))
    assert 25 <= without <= 55


def test_a_person_with_another_photograph_is_looked_for(data: Path) -> None:
    task = restore.RestoreTask(RECIPES["restore", "debug"], data)
    named = {
        paired: np.mean([task._draw(rng, paired).row.identity is not None for _ in range(60)])
        for paired in (False, True)
        for rng in [np.random.default_rng(6)]
    }
    assert named[True] > 1.5 * named[False] > 0


def test_jitter_moves_landmarks_with_the_picture() -> None:
    image = np.zeros((CROP_PX, CROP_PX, 3), np.uint8)
    for x, y in np.round(TEMPLATE).astype(int):
        image[y - 2 : y + 3, x - 2 : x + 3] = 255
    valid = np.full((CROP_PX, CROP_PX), 255, np.uint8)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        moved, _, landmarks = restore.jitter(image, valid, TEMPLATE, rng, mirror=seed % 2 == 0)
        for x, y in np.round(landmarks).astype(int):
            assert moved[y, x].min() > 100
        assert landmarks[0, 0] < landmarks[1, 0]  # image left stays first


def test_a_reference_is_mirrored_together_with_its_face(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrored: list[bool] = []
    jitter = restore.jitter

    def noting(*arguments: Any) -> Any:
        mirrored.append(arguments[4])
        return jitter(*arguments)

    monkeypatch.setattr(restore, "jitter", noting)
    task = restore.RestoreTask(RECIPES["restore", "debug"], data)
    rng = np.random.default_rng(2)
    pairs = 0
    for _ in range(60):
        mirrored.clear()
        task.sample(rng)
        pairs += len(mirrored) == 2
        assert len(set(mirrored)) == 1
    assert pairs > 0


def test_similarity_recovers_a_known_transform() -> None:
    matrix = np.array([[0.8, -0.3, 12.0], [0.3, 0.8, -5.0]], np.float32)
    assert np.allclose(similarity(TEMPLATE, transform_points(TEMPLATE, matrix)), matrix, atol=1e-4)
    with pytest.raises(ValueError, match="coincide"):
        similarity(np.zeros((5, 2), np.float32))


def test_valid_mask_follows_the_photograph(data: Path) -> None:
    faces = FaceSet(data, "eval")
    shares = [float((valid_mask(row) > 0).mean()) for row in faces.rows]
    assert min(shares) > 0.5
    assert max(shares) == 1.0


def test_faces_that_are_not_there_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data"):
        FaceSet(tmp_path, "train")


def test_a_trained_network_begins_with_the_full_weight_of_all_but_the_adversaries(data: Path) -> None:
    debug = RECIPES["restore", "debug"]
    full, rising = (restore.RestoreTask(debug.but(full_weights=chosen), data) for chosen in (True, False))
    begun = full.schedule.at(0.0)
    assert begun == {**full.schedule.at(1.0), **dict.fromkeys(("adv_patch", "adv_global"), 0.0)}
    assert rising.schedule.at(0.0)["perceptual"] < begun["perceptual"]
    assert full.schedule.at(1.0) == rising.schedule.at(1.0)
