"""Each loss against a case computed by hand, and its gradient."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from train import losses
from train.schedule import LossSchedule, Ramp

HALF = torch.zeros(1, 1, 4, 4)
HALF[..., :2] = 1.0
EVERYWHERE = torch.ones(1, 1, 4, 4)


def test_l1_weighs_the_hole_against_the_rest() -> None:
    truth = torch.zeros(1, 3, 4, 4)
    made = HALF * 0.5 + (1 - HALF) * 0.2
    made = made.expand(1, 3, 4, 4).clone().requires_grad_()
    known = losses.KNOWN_SHARE
    expected = (8 * 0.5 + known * 8 * 0.2) / (8 + known * 8)
    loss = losses.l1(made, truth, HALF, EVERYWHERE)
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert (made.grad[0, 0, :, 0] > made.grad[0, 0, :, 3]).all()


def test_l1_ignores_what_was_never_photographed() -> None:
    made, truth = torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    truth[..., :2] = 1.0  # right where valid
    assert losses.l1(made, truth, EVERYWHERE, HALF).item() == 0.0


def test_hinge_discriminator_is_zero_when_sure_and_right() -> None:
    assert losses.hinge_discriminator(torch.tensor([2.0]), torch.tensor([-3.0])).item() == 0.0
    assert losses.hinge_discriminator(torch.tensor([0.0]), torch.tensor([0.5])).item() == pytest.approx(2.5)


def test_hinge_generator_looks_only_where_the_hole_is() -> None:
    logits = torch.tensor([[[[2.0, -5.0], [4.0, -7.0]]]], requires_grad=True)
    loss = losses.hinge_generator(logits, HALF)
    assert loss.item() == pytest.approx(-3.0)
    loss.backward()
    assert logits.grad.tolist() == [[[[-0.5, 0.0], [-0.5, 0.0]]]]


def test_perceptual_distance_of_features() -> None:
    same = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    right_angle = torch.tensor([0.0, 3.0]).view(1, 2, 1, 1)
    hole = torch.ones(1, 1, 4, 4)
    assert losses.perceptual([same], [same * 7], hole).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.perceptual([same, same], [same, right_angle], hole).item() == pytest.approx(1.0)


def test_squeezenet_features_know_a_picture_from_noise(data: Path) -> None:
    features = losses.SqueezeNetFeatures(data / "weights" / "squeezenet_v1.0_imagenet_fp16.onnx")
    picture = torch.linspace(0, 1, 64).expand(1, 3, 64, 64).clone()
    near, far = picture * 0.95, torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    hole = torch.ones(1, 1, 64, 64)
    truth = features(picture)
    assert losses.perceptual(features(near), truth, hole) < 0.3 * losses.perceptual(features(far), truth, hole)
    assert [feature.shape[1] for feature in truth] == [128, 256]


def test_missing_backbone_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--data"):
        losses.SqueezeNetFeatures(tmp_path / "none.onnx")


def test_a_loss_without_a_weight_is_an_error() -> None:
    with pytest.raises(KeyError):
        losses.weighted_sum({"l1": torch.ones(())}, {})
    total = losses.weighted_sum({"l1": torch.tensor(2.0), "adv_patch": torch.tensor(3.0)}, {"l1": 1, "adv_patch": 0.1})
    assert total.item() == pytest.approx(2.3)


def test_ramp_rises_between_its_ends() -> None:
    ramp = Ramp(0.0, 2.0, start=0.25, end=0.75)
    assert [ramp.at(p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.0, 0.0, 1.0, 2.0, 2.0]
    assert Ramp(1.0, 3.0, 0.5, 0.5).at(0.49) == 1.0


@pytest.mark.parametrize("names", [{"l1": Ramp(1, 1)}, {"l1": Ramp(1, 1), "adv_patch": Ramp(1, 1), "l2": Ramp(1, 1)}])
def test_schedule_names_what_does_not_fit(names: dict[str, Ramp]) -> None:
    with pytest.raises(ValueError, match=r"unknown \[.*\], missing \[.*\]"):
        LossSchedule(names, ("l1", "adv_patch"))
