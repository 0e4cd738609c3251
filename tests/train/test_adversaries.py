"""The game: discriminators that learn to tell true holes from restored ones, by what is in them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.config import RECIPES, Recipe
from train.losses import ADVERSARIES
from train.networks.discriminators import PatchDiscriminator
from train.tasks import adversaries
from train.tasks.adversaries import AdversarialGame, DiscriminatorInput, make_discriminators

SIDE, STEPS = 64, 40
RECIPE = RECIPES["restore", "debug"].but(autocast="off")


def make_game(recipe: Recipe, rate: float, **modules: nn.Module) -> tuple[AdversarialGame, list[str]]:
    modules = modules or make_discriminators(recipe, ())
    optimizers = {name: torch.optim.Adam(module.parameters(), rate, (0.5, 0.99)) for name, module in modules.items()}
    return AdversarialGame(recipe, modules, optimizers), list(modules)


@pytest.mark.parametrize("adversary", list(ADVERSARIES))
def test_discriminators_learn_to_tell_in_each_formulation(adversary: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversaries, "R1_EVERY", 2)  # at times it is asked for
    torch.manual_seed(5)
    game, names = make_game(RECIPE.but(adversary=adversary), 3e-4)  # at ten times that, R1 makes the losses leap
    view = view_of(torch.full((2, 3, 96, 96), 0.7), torch.rand(2, 3, 96, 96), torch.ones(2, 1, 96, 96))
    for name in names:
        losses = torch.stack([game.learn(name, view) for _ in range(40)])
        assert losses.isfinite().all() and losses[-4:].mean() < 0.8 * losses[0]
        assert (
            game.look(name, view.inputs(view.real)).logits[0].mean()
            > game.look(name, view.inputs(view.fake)).logits[0].mean()
        )


def toy(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Soft pictures with grain of some strength, the same without grain in a small hole, and the hole."""
    soft = F.interpolate(torch.rand(count, 3, 6, 6, generator=generator), (SIDE, SIDE), mode="bicubic")
    strength = torch.empty(count, 1, 1, 1).uniform_(0.3, 0.5, generator=generator)
    real = soft + strength * torch.randn(count, 1, SIDE, SIDE, generator=generator)
    hole = torch.zeros(count, 1, SIDE, SIDE)
    for number, (top, left) in enumerate(torch.randint(4, 36, (count, 2), generator=generator).tolist()):
        hole[number, :, top : top + 24, left : left + 24] = 1.0
    return real, torch.where(hole > 0, soft, real), hole


def view_of(real: Tensor, restored: Tensor, hole: Tensor) -> DiscriminatorInput:
    return DiscriminatorInput([real], [restored], hole, shows_hole=True)


def logits_of(game: AdversarialGame, pictures: Tensor, hole: Tensor) -> Tensor:
    """N: the mean logit of the patches that touch the hole."""
    (logits,) = game.look("patch", view_of(pictures, pictures, hole).inputs([pictures])).logits
    near = F.adaptive_max_pool2d(hole, logits.shape[-2:])
    return ((logits * near).sum((1, 2, 3)) / near.sum((1, 2, 3))).detach()


def faint(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """As faces are: bright or dark as a whole, with little contrast, and grain that is fainter still."""
    light = torch.empty(count, 1, 1, 1).uniform_(0.3, 0.7, generator=generator)
    real, restored, hole = toy(generator, count)
    return light + 0.25 * (real - 0.5), light + 0.25 * (restored - 0.5), hole


def test_a_bounded_patch_discriminator_sees_what_is_faint() -> None:
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(4)
    game, _ = make_game(RECIPE, 1e-3, patch=PatchDiscriminator(widths=(16, 32, 48)))
    for _ in range(STEPS + 20):
        game.learn("patch", view_of(*faint(generator, 4)))
    real, restored, hole = faint(generator, 48)
    true, fake = logits_of(game, real, hole), logits_of(game, restored, hole)
    assert (true[:, None] > fake).float().mean().item() > 0.9
    assert true.mean().item() - fake.mean().item() > 0.3  # of a hinge from -1 to 1


@pytest.mark.parametrize("adversary", list(ADVERSARIES))
def test_a_patch_discriminator_tells_what_is_in_the_hole_and_not_where_it_is(adversary: str) -> None:
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(4)
    small = PatchDiscriminator(bounded=False, widths=(16, 32, 48))  # a small one learns within the time of a test
    game, _ = make_game(RECIPE.but(adversary=adversary), 3e-3, patch=small)
    for _ in range(STEPS):
        game.learn("patch", view_of(*toy(generator, 4)))
    real, restored, hole = toy(generator, 48)
    true, fake = logits_of(game, real, hole), logits_of(game, restored, hole)
    auc = (true[:, None] > fake).float().mean().item()
    grey = logits_of(game, real * (1 - hole) + 0.5 * hole, hole).mean().item()
    assert auc > 0.6
    assert true.mean().item() - grey > 1.0
