"""The game between the generator and its discriminators: what each one sees, its step, and the generator's losses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from train import losses
from train.config import Recipe
from train.hardware import ScaledOptimizer, TrainingError, autocast, bare, descend
from train.networks.discriminators import (
    DiscriminatorOutput,
    GlobalDiscriminator,
    PatchDiscriminator,
    ProjectedDiscriminator,
)
from train.schedule import ScheduleError

#: The discriminator of each adversarial loss; the last one is there only where the recipe gives its loss a weight.
DISCRIMINATORS = {"adv_patch": "patch", "adv_global": "global", "adv_projected": "projected"}
#: The losses whose discriminators' features `feature_matching` compares: those that say where in the picture they look.
MATCHED = ("adv_patch", "adv_projected")
#: R1 is applied in one of so many steps, and weighs so many times more (T. Karras et al., StyleGAN2, 2020).
R1_EVERY = 16


@dataclass(frozen=True)
class DiscriminatorInput:
    """What a discriminator sees of true and restored pictures: levels of NCHW. `hole` is N1HW, 1 = restored.

    Where it `shows_hole`, the levels are pictures in 0..1, and the hole is a further channel: the same one for both, so
    it does not tell which is which. Pictures are centred: next to a mean of 0.5, what tells true from restored is so
    little that a bounded discriminator hardly passes it on.
    """

    real: list[Tensor]
    fake: list[Tensor]
    hole: Tensor
    shows_hole: bool = False

    def inputs(self, levels: list[Tensor]) -> list[Tensor]:
        return [torch.cat((2 * level - 1, self.hole), dim=1) for level in levels] if self.shows_hole else levels


def make_discriminators(recipe: Recipe, backbone_widths: Iterable[int]) -> dict[str, nn.Module]:
    """The discriminators of a recipe by name. Raises TrainingError, ScheduleError for an impossible one."""
    if recipe.adversary not in losses.ADVERSARIES:
        known = ", ".join(losses.ADVERSARIES)
        raise TrainingError(f"there is no adversary `{recipe.adversary}`; there are: {known}")
    weights = {"adv_patch": 1.0, "adv_projected": 0.0, **recipe.weights}
    if recipe.weights.get("feature_matching") and not any(weights[name] for name in MATCHED):
        raise ScheduleError(
            "`feature_matching` needs a discriminator that learns: give adv_patch or adv_projected a weight"
        )
    bounded = losses.ADVERSARIES[recipe.adversary].spectral_norm
    modules: dict[str, nn.Module] = {"patch": PatchDiscriminator(bounded), "global": GlobalDiscriminator(bounded)}
    if weights["adv_projected"]:
        modules["projected"] = ProjectedDiscriminator(tuple(backbone_widths))
    return modules


class AdversarialGame:
    """The discriminators among a task's modules. They are looked up at each step, as the loop may wrap them."""

    def __init__(
        self,
        recipe: Recipe,
        modules: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer | ScaledOptimizer],
    ) -> None:
        self._recipe, self._modules, self._optimizers = recipe, modules, optimizers

    def learn(self, name: str, view: DiscriminatorInput) -> Tensor:
        """One step of a discriminator; its loss, detached."""
        module = self._modules[name]
        bare(module).requires_grad_(True)
        with autocast(self._recipe):
            both = [
                torch.cat((a.detach(), b.detach()))
                for a, b in zip(view.inputs(view.real), view.inputs(view.fake), strict=True)
            ]
            levels = module(*both)
        formulation = self._formulation(name)
        each = [formulation.discriminator(*level.float().chunk(2), view.hole) for level in _as_list(levels)]
        loss = torch.stack(each).mean()
        penalty = _penalty(formulation, module, view)
        descend(loss if penalty is None else loss + penalty, self._optimizers[name], module)
        return loss.detach()

    def terms(self, views: Mapping[str, DiscriminatorInput], weights: Mapping[str, float]) -> dict[str, Tensor]:
        """The generator's losses: of each discriminator that counts now, and `feature_matching`. Only it learns."""
        terms: dict[str, Tensor] = {}
        matched: list[Tensor] = []
        for loss, name in DISCRIMINATORS.items():
            if weights.get(loss, 0.0) > 0:
                view = views[name]
                look = self.look(name, view.inputs(view.fake))
                each = [self._formulation(name).generator(level.float(), view.hole) for level in look.logits]
                terms[loss] = torch.stack(each).mean()
                if loss in MATCHED and weights.get("feature_matching", 0.0) > 0:
                    with torch.no_grad():
                        truth = self.look(name, view.inputs(view.real))
                    matched.append(losses.feature_matching(look.features, truth.features, view.hole))
        return terms | ({"feature_matching": torch.stack(matched).mean()} if matched else {})

    def look(self, name: str, levels: list[Tensor]) -> DiscriminatorOutput:
        """What a discriminator says of pictures while it does not learn."""
        module = bare(self._modules[name]).requires_grad_(False)
        with autocast(self._recipe):
            return module.look(*levels)

    def _formulation(self, name: str) -> losses.Adversary:
        """The recipe's; R1 does not reach through a backbone, so the heads on one are always bounded."""
        return losses.ADVERSARIES["hinge" if name == "projected" else self._recipe.adversary]


def _penalty(formulation: losses.Adversary, module: nn.Module, view: DiscriminatorInput) -> Tensor | None:
    """R1 in the steps that apply it, in full precision: squares overflow half precision."""
    if formulation.r1 == 0 or torch.rand(()) >= 1 / R1_EVERY:
        return None
    real = view.real[0].detach().requires_grad_()
    return formulation.r1 * R1_EVERY * losses.r1(module(*view.inputs([real])), real)


def _as_list(levels: Tensor | list[Tensor]) -> list[Tensor]:
    return [levels] if isinstance(levels, Tensor) else levels
