"""Each loss against a case computed manually, and its gradient."""

from __future__ import annotations

import math

import pytest
import torch

from engines.contract import CROP_PX, TEMPLATE
from train import losses
from train.networks.discriminators import GlobalDiscriminator, PatchDiscriminator, ProjectedDiscriminator
from train.schedule import RISE, LossSchedule, Ramp, ScheduleError, from_share, with_weights
from train.tasks.restore import RAMPS, frontality

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


def test_identity_is_how_far_two_faces_point_apart() -> None:
    truth = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    made = torch.tensor([[5.0, 0.0], [1.0, 0.0]], requires_grad=True)
    loss = losses.identity(made, truth)
    assert loss.item() == pytest.approx((0 + 1) / 2)
    loss.backward()
    # Length makes no difference; the second has to turn towards its owner: -1 by y, and half of that in the mean.
    assert torch.allclose(made.grad, torch.tensor([[0.0, 0.0], [0.0, -0.5]]))


def test_hinge_discriminator_is_zero_when_sure_and_right() -> None:
    hole = torch.ones(1, 1, 4, 4)
    right, wrong = torch.full((1, 1, 2, 2), 2.0), torch.full((1, 1, 2, 2), -3.0)
    assert losses.hinge_discriminator(right, wrong, hole).item() == 0.0
    assert losses.hinge_discriminator(right * 0, right * 0.25, hole).item() == pytest.approx(1 + 1.5)


def test_hinge_discriminator_learns_only_where_the_hole_is() -> None:
    fake = torch.tensor([[[[2.0, -5.0], [4.0, -7.0]]]], requires_grad=True)
    real = torch.tensor([[[[0.5, -1.0], [2.0, 0.5]]]], requires_grad=True)  # right of the hole it is wrong
    loss = losses.hinge_discriminator(real, fake, HALF)
    assert loss.item() == pytest.approx((0.5 + 0) / 2 + (3 + 5) / 2)
    loss.backward()
    assert fake.grad.tolist() == [[[[0.5, 0.0], [0.5, 0.0]]]]
    assert real.grad.tolist() == [[[[-0.5, 0.0], [0.0, 0.0]]]]


def test_hinge_generator_looks_only_where_the_hole_is() -> None:
    logits = torch.tensor([[[[2.0, -5.0], [4.0, -7.0]]]], requires_grad=True)
    loss = losses.hinge_generator(logits, HALF)
    assert loss.item() == pytest.approx(-3.0)
    loss.backward()
    assert logits.grad.tolist() == [[[[-0.5, 0.0], [-0.5, 0.0]]]]


def test_logistic_losses_are_cross_entropy_where_the_hole_is() -> None:
    fake = torch.tensor([[[[0.0, -5.0], [math.log(3), -7.0]]]], requires_grad=True)
    real = torch.tensor([[[[0.0, -5.0], [math.log(3), -7.0]]]])
    loss = losses.logistic_discriminator(real, fake, HALF)
    assert loss.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2 + (math.log(2) + math.log(4)) / 2)
    generator = losses.logistic_generator(fake, HALF)
    assert generator.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    generator.backward()
    assert fake.grad.flatten().tolist() == pytest.approx([-0.25, 0.0, -0.125, 0.0])  # -sigmoid(-logit) / 2


def test_r1_is_half_the_squared_gradient_of_each_logit() -> None:
    real = torch.rand(2, 3, 4, 4, requires_grad=True)
    slope = torch.tensor(0.5, requires_grad=True)
    loss = losses.r1((slope * real).sum((1, 2, 3)), real)
    assert loss.item() == pytest.approx(48 * 0.25 / 2)
    loss.backward()
    assert slope.grad.item() == pytest.approx(48 * 0.5)


@pytest.mark.parametrize("discriminator", [PatchDiscriminator, GlobalDiscriminator])
def test_spectral_norm_bounds_a_discriminator_only_if_asked_for(discriminator: type[torch.nn.Module]) -> None:
    bounded, free = ({name.rpartition(".")[2] for name in discriminator(asked).state_dict()} for asked in (True, False))
    assert "original" in bounded and free == {"weight", "bias"}


def test_perceptual_distance_of_features() -> None:
    same = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    right_angle = torch.tensor([0.0, 3.0]).view(1, 2, 1, 1)
    hole = torch.ones(1, 1, 4, 4)
    assert losses.perceptual([same], [same * 7], hole).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.perceptual([same, same], [same, right_angle], hole).item() == pytest.approx(1.0)


def test_style_is_the_relative_difference_of_gram_matrices() -> None:
    one = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)  # gram 1 0 / 0 0
    two = torch.tensor([1.0, 1.0]).view(1, 2, 1, 1).requires_grad_()  # gram 1 1 / 1 1
    hole = torch.ones(1, 1, 4, 4)
    loss = losses.style([two], [one], hole)
    assert loss.item() == pytest.approx(3.0)
    loss.backward()
    assert two.grad.flatten().tolist() == pytest.approx([2.0, 4.0])  # of 2ab + bb + (aa - 1), with aa = 1 a corner
    assert losses.style([two], [one], hole * 0).item() == 0.0


def test_style_does_not_mind_where_a_texture_is() -> None:
    truth = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    assert losses.style([truth.flip(-1)], [truth], EVERYWHERE).item() == pytest.approx(0.0, abs=1e-5)


def test_grain_is_the_log_ratio_of_the_finest_texture() -> None:
    noise = torch.randn(1, 1, 16, 32, generator=torch.Generator().manual_seed(1)).expand(-1, 3, -1, -1)
    truth = 0.5 + 0.1 * noise
    hole, skin = torch.zeros(1, 1, 16, 32), torch.ones(1, 1, 16, 32)
    hole[..., :19] = 1.0
    skin[..., 17:] = 0.0
    made = (0.5 + 0.05 * noise).requires_grad_()
    loss = losses.grain(made, truth, hole, skin)
    assert loss.item() == pytest.approx(math.log(4), rel=1e-3)
    loss.backward()
    assert ((0.5 - made) * made.grad).sum() > 0  # more contrast makes it less
    assert not made.grad[..., 17:].any()  # what is no skin has no say
    assert losses.grain(truth.flip(-1), truth, skin * 0 + 1, skin * 0 + 1).item() < 1e-3  # where it is does not matter
    assert losses.grain(truth, 0 * truth, hole * 0, skin).item() == 0.0
    soft = 0.5 + 0.01 * (truth - 0.5)  # an enlarged photograph does not say how much there is to be
    both = losses.grain(torch.cat((made, made)), torch.cat((soft, truth)), hole, skin)
    assert both.item() == pytest.approx(math.log(4), rel=1e-3)


def test_tv_counts_the_hole_and_its_rim() -> None:
    made = torch.zeros(1, 3, 4, 4)
    made[..., 2:] = 0.5  # the step lies on the rim of HALF
    made[..., 3:] = 0.9  # this one outside of it
    made.requires_grad_()
    loss = losses.tv(made, HALF)
    # Across: 3 columns of pairs, 2 of them touch the hole, 4 rows each; down: 3 rows of pairs of 2 columns.
    assert loss.item() == pytest.approx(4 * 0.5 / (8 + 6))
    loss.backward()
    assert (made.grad[0, 0, :, 2] > 0).all()
    assert (made.grad[0, 0, :, 1] < 0).all()
    assert (made.grad[0, 0, :, 3] == 0).all()


def test_histogram_is_how_far_the_colours_have_to_move() -> None:
    side = 8
    hole = torch.zeros(1, 1, side, side)
    hole[..., :4] = 1.0
    everywhere = torch.ones_like(hole)
    truth = torch.full((1, 3, side, side), 0.5)
    made = (truth + 0.15 * hole).requires_grad_()  # between two levels
    loss = losses.histogram(made, truth, hole, everywhere, everywhere)
    assert loss.item() == pytest.approx(0.15)
    loss.backward()
    assert (made.grad[..., :4] > 0).all()
    assert (made.grad[..., 4:] == 0).all()
    assert made.grad[0].sum(dim=(1, 2)).tolist() == pytest.approx([1 / 3] * 3)  # brighter by x costs x more


def beard(depth: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A face whose hidden half is darker than the visible one: truth, hole and what is valid."""
    hole = torch.zeros(1, 1, 8, 8)
    hole[..., :4] = 1.0
    return (0.6 - depth * hole).expand(1, 3, 8, 8).clone(), hole, torch.ones_like(hole)


def test_histogram_shaves_no_beard() -> None:
    truth, hole, everywhere = beard(0.3)

    def cost(shade: float) -> float:
        return losses.histogram(truth * (1 - hole) + shade * hole, truth, hole, everywhere, everywhere).item()

    assert cost(0.3) == 0.0  # the truth itself
    assert cost(0.6) == cost(0.45) == 0.0  # the visible skin's colour, and one between the two
    assert cost(0.1) == pytest.approx(0.2, abs=1e-5)  # darker than either
    assert cost(0.9) == pytest.approx(0.3, abs=1e-5)  # as far from the visible skin as the beard is, but the other way


def test_histogram_does_not_pull_a_restored_beard() -> None:
    truth, hole, everywhere = beard(0.3)
    made = truth.clone().requires_grad_()
    losses.histogram(made, truth, hole, everywhere, everywhere).backward()
    assert not made.grad.any()


def test_feature_matching_is_the_difference_where_the_hole_is() -> None:
    truth = [torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 2, 2)]
    made = [(0.3 * HALF + 5 * (1 - HALF)).repeat(1, 2, 1, 1), torch.tensor([[[[0.1, 9.0], [0.1, 9.0]]]])]
    for layer in made:
        layer.requires_grad_()
    loss = losses.feature_matching(made, truth, HALF)
    assert loss.item() == pytest.approx((0.3 + 0.1) / 2)
    loss.backward()
    assert (made[0].grad[..., :2] > 0).all() and not made[0].grad[..., 2:].any()


def test_histogram_needs_skin_on_both_sides() -> None:
    made, truth = torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4)
    assert losses.histogram(made, truth, HALF, EVERYWHERE, EVERYWHERE).item() == 0.0  # 8 pixels are too few


def test_skin_map_is_of_the_template() -> None:
    skin = losses.skin_map(CROP_PX)[0, 0]
    for x, y in TEMPLATE[[0, 1, 3, 4]].round().astype(int):
        assert skin[y, x] == 0
    assert skin[148, 90] == skin[40, 128] == 1  # a cheek, the forehead
    assert skin[5, 5] == 0
    assert losses.skin_map(128).shape == (1, 1, 128, 128)


def test_symmetry_compares_the_hidden_half_with_the_visible_one() -> None:
    truth = torch.zeros(1, 3, 4, 4)
    truth[..., 2:] = 0.6
    made = torch.full((1, 3, 4, 4), 0.2).requires_grad_()
    frontal = torch.ones(1)
    loss = losses.symmetry(made, truth, HALF, EVERYWHERE, frontal)
    assert loss.item() == pytest.approx(0.4)
    loss.backward()
    assert (made.grad[..., :2] < 0).all()
    assert (made.grad[..., 2:] == 0).all()
    assert losses.symmetry(made, truth, EVERYWHERE, EVERYWHERE, frontal).item() == 0.0  # nothing is seen
    assert losses.symmetry(made, truth, HALF, 1 - HALF, frontal).item() == pytest.approx(0.4)
    assert losses.symmetry(made, truth, HALF, HALF, frontal).item() == 0.0  # the other half is no photograph


def test_symmetry_weighs_how_frontal_a_face_is() -> None:
    truth, made = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    made[0], made[1] = 0.1, 0.5
    holes, valid = HALF.repeat(2, 1, 1, 1), EVERYWHERE.repeat(2, 1, 1, 1)
    loss = losses.symmetry(made, truth, holes, valid, torch.tensor([1.0, 0.25]))
    assert loss.item() == pytest.approx((0.1 + 0.25 * 0.5) / 1.25)


def test_frontality_falls_as_the_nose_leaves_the_middle() -> None:
    assert frontality(TEMPLATE) > 0.95
    turned = TEMPLATE.copy()
    turned[2, 0] += 0.1 * (TEMPLATE[1, 0] - TEMPLATE[0, 0])
    assert frontality(turned) == pytest.approx(0.5, abs=0.05)
    turned[2, 0] += 40
    assert frontality(turned) == 0.0


def test_the_global_discriminator_gives_one_logit_and_patches_many() -> None:
    picture = torch.rand(2, 4, 192, 192)
    assert GlobalDiscriminator()(picture).shape == GlobalDiscriminator()(picture[..., ::2, ::2]).shape == (2, 1, 1, 1)
    assert PatchDiscriminator()(picture).shape == (2, 1, 24, 24)


def test_projected_heads_see_where_and_hand_gradients_on_to_the_features() -> None:
    torch.manual_seed(1)
    heads = ProjectedDiscriminator((4, 6))
    assert all(name.startswith("heads.") for name, _ in heads.named_parameters())  # the projections never learn
    features = [torch.rand(2, 4, 8, 8, requires_grad=True), torch.rand(2, 6, 4, 4, requires_grad=True)]
    levels = heads.mixed(features)
    look = heads.look(*levels)
    assert [level.shape for level in look.logits] == [(2, 1, 8, 8), (2, 1, 4, 4)]
    look.logits[0].sum().backward()
    assert features[0].grad.any() and features[1].grad.any()  # the fine level sees the coarse one, too
    stronger = heads.mixed([7 * level for level in features])  # how strong a backbone's layers are makes no difference
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(stronger, levels, strict=True))


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


def test_weights_scale_a_ramp_or_leave_a_loss_out() -> None:
    ramps = with_weights(RAMPS, {"perceptual": 1.0, "style": 0.0})
    mine = RAMPS["perceptual"]
    assert (ramps["perceptual"].low, ramps["perceptual"].high) == (mine.low / mine.high, 1.0)
    assert ramps["style"].at(0.1) == ramps["style"].at(1.0) == 0.0
    assert ramps["l1"] == RAMPS["l1"]
    with pytest.raises(ScheduleError, match="no loss called stile; there are: l1, perceptual"):
        with_weights(RAMPS, {"stile": 1.0})


def test_every_loss_has_a_ramp_and_structure_comes_first() -> None:
    schedule = LossSchedule(RAMPS, losses.LOSSES)
    assert len(losses.LOSSES) == 8
    assert {name for name, weight in schedule.at(0.0).items() if weight} == {"l1", "perceptual"}
    assert all(weight > 0 for weight in schedule.at(1.0).values())
    for name, ramp in RAMPS.items():
        weights = [schedule.at(progress / 20)[name] for progress in range(21)]
        assert weights == sorted(weights), name
        assert weights[-1] == ramp.high


def test_adversaries_count_from_a_share_of_the_run_that_is_chosen() -> None:
    moved = from_share(RAMPS, ("adv_patch", "adv_projected"), 0.05)
    assert set(moved) == {"adv_patch"}  # the other one has no weight here
    high = RAMPS["adv_patch"].high
    assert [moved["adv_patch"].at(share) for share in (0.05, 0.05 + RISE)] == [0.0, pytest.approx(high)]
    assert from_share(RAMPS, ("adv_global",), 0.95)["adv_global"].at(1.0) == RAMPS["adv_global"].high
    with pytest.raises(ScheduleError, match="from 0 to below 1, not at 1"):
        from_share(RAMPS, ("adv_patch",), 1.0)
