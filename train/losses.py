"""Losses of the restorer and its discriminators. Pictures are NCHW BGR in 0..1; `hole` and `valid` N1HW, 1 = yes.

The total is one sum over LOSSES, weighted by train/schedule.py; the same dict of names is the log record. What counts
pixels divides by at least one, so a batch without a hole costs nothing instead of dividing by zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from train.networks.unet import luma_edges
from train.occlusion.masks import bare_skin

LOSSES = ("l1", "perceptual", "style", "tv", "histogram", "symmetry", "adv_patch", "adv_global")
#: What a pixel that is known weighs against one in the hole; it keeps the output continuous across the rim.
KNOWN_SHARE = 0.15
#: Levels at which a histogram is read; between them a pixel counts for both neighbours.
HISTOGRAM_LEVELS = 17
#: Least pixels of skin that a histogram is made of.
LEAST_SKIN = 24.0
#: Least grain of a photograph that says how much there is to be: root mean square of the luma's Laplacian. With less it
#: was smoothed or enlarged so far that its hidden part may well have had another measure than the visible one.
LEAST_GRAIN = 4 / 255
#: Pictures are compared with their mirror image in so many blocks across: faces are never symmetric to the pixel.
SYMMETRY_BLOCKS = 24


def l1(made: Tensor, truth: Tensor, hole: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute error in the hole, and a little outside it, where the photograph is real."""
    weight = (hole + KNOWN_SHARE * (1 - hole)) * valid
    return ((made - truth).abs().mean(dim=1, keepdim=True) * weight).sum() / weight.sum().clamp_min(1.0)


def perceptual(made: list[Tensor], truth: list[Tensor], hole: Tensor) -> Tensor:
    """Distance of unit-length features around the hole, mean over layers.

    The formula of LPIPS (R. Zhang et al., 2018) with unit weights, averaged where the hole is.
    """
    total = made[0].new_zeros((), dtype=torch.float32)
    for a, b in zip(made, truth, strict=True):
        near = F.adaptive_max_pool2d(hole, a.shape[-2:])
        # |a/|a| - b/|b||^2 = 2 - 2 cos(a, b), without the unit vectors themselves.
        apart = 2 - 2 * F.cosine_similarity(a.float(), b.float(), dim=1, eps=1e-6).unsqueeze(1)
        total = total + (apart * near).sum() / near.sum().clamp_min(1.0)
    return total / len(made)


def style(made: list[Tensor], truth: list[Tensor], hole: Tensor) -> Tensor:
    """How far the textures in the hole are from the true ones: difference of Gram matrices, relative to the truth's.

    Mean over layers and over pictures with a hole. Source: L. Gatys et al., 2016; J. Johnson et al., 2016.
    """
    total = made[0].new_zeros((), dtype=torch.float32)
    for a, b in zip(made, truth, strict=True):
        near = F.adaptive_max_pool2d(hole, a.shape[-2:])
        has_hole = (near.amax((1, 2, 3)) > 0).float()
        truly = _gram(b, near)
        apart = (_gram(a, near) - truly).abs().sum((1, 2)) / truly.abs().sum((1, 2)).clamp_min(1e-6)
        total = total + (apart * has_hole).sum() / has_hole.sum().clamp_min(1.0)
    return total / len(made)


def _gram(features: Tensor, near: Tensor) -> Tensor:
    """NxCxC: how often each two features are seen together where `near`."""
    with torch.autocast(features.device.type, enabled=False):  # squares leave what half precision can hold
        flat = (features.float() * near).flatten(2)
        return flat @ flat.transpose(1, 2) / flat.shape[-1]


def grain(made: Tensor, truth: Tensor, hole: Tensor, skin: Tensor) -> Tensor:
    """How far the finest texture of the restored skin is from the true one in strength: a part of `style`.

    Mean over pictures that have enough skin, and grain, of |log ratio| of the luma's mean square Laplacian: 0.7 where
    that is half or twice the true one. Which texture it is does not matter, so a network that has noise can meet it; a
    backbone hardly sees what is this fine. `skin` is 1 where the template shows skin.
    """
    inside = 1 - F.max_pool2d(1 - hole * skin, 3, 1, 1)  # what the Laplacian sees is restored skin too
    truly = _grain_energy(truth, inside)
    enough = ((inside.sum((1, 2, 3)) >= LEAST_SKIN) & (truly >= LEAST_GRAIN**2)).float()
    apart = (_grain_energy(made, inside).log() - truly.log()).abs()
    return (apart * enough).sum() / enough.sum().clamp_min(1.0)


def _grain_energy(picture: Tensor, inside: Tensor) -> Tensor:
    """N: mean square of the luma's Laplacian where `inside`, and what rounding to 8 bits leaves of it."""
    with torch.autocast(picture.device.type, enabled=False):
        energy = luma_edges(picture.float()).square() * inside
    return energy.sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp_min(1.0) + 20 * (0.29 / 255) ** 2


def tv(made: Tensor, hole: Tensor) -> Tensor:
    """Mean difference between neighbours of which at least one is in the hole: the hole and its rim."""
    total, count = made.new_zeros(()), hole.new_zeros(())
    for axis in (-1, -2):
        length = made.shape[axis] - 1
        apart = (made.narrow(axis, 1, length) - made.narrow(axis, 0, length)).abs().mean(dim=1, keepdim=True)
        weight = torch.maximum(hole.narrow(axis, 1, length), hole.narrow(axis, 0, length))
        total, count = total + (apart * weight).sum(), count + weight.sum()
    return total / count.clamp_min(1.0)


def histogram(made: Tensor, truth: Tensor, hole: Tensor, valid: Tensor, skin: Tensor) -> Tensor:
    """How far the restored skin's colours are beyond those of the visible skin and of the true one in the hole.

    Colours between the two cost nothing: hidden skin may be darker than the visible one, as a beard is. Earth mover's
    distance of soft histograms, mean over channels and over pictures that have enough of both: where the truth is like
    the visible skin, a hole that is brighter by 0.1 throughout costs 0.1. `skin` is 1 where the template shows skin.
    """
    restored, seen = hole * skin, (1 - hole) * valid * skin
    enough = ((restored.sum((1, 2, 3)) >= LEAST_SKIN) & (seen.sum((1, 2, 3)) >= LEAST_SKIN)).float()
    visible, hidden = _cumulated(truth, seen), _cumulated(truth, restored)
    ours, low, high = _cumulated(made, restored), torch.minimum(visible, hidden), torch.maximum(visible, hidden)
    apart = (F.relu(low - ours) + F.relu(ours - high)).sum(-1).mean(-1) / (HISTOGRAM_LEVELS - 1)
    return (apart * enough).sum() / enough.sum().clamp_min(1.0)


def _cumulated(picture: Tensor, weight: Tensor) -> Tensor:
    """NxCxLEVELS: share of the weight at or below each level. A pixel counts linearly for the two levels around it."""
    place = picture.flatten(2).clamp(0, 1) * (HISTOGRAM_LEVELS - 1)
    below = place.detach().floor().clamp_max(HISTOGRAM_LEVELS - 2)
    upper = place - below
    share = (weight / weight.sum((2, 3), keepdim=True).clamp_min(1.0)).flatten(2).expand_as(place)
    levels = place.new_zeros((*place.shape[:2], HISTOGRAM_LEVELS))
    levels = levels.scatter_add(2, below.long(), share * (1 - upper))
    levels = levels.scatter_add(2, below.long() + 1, share * upper)
    return levels.cumsum(-1)


@lru_cache(maxsize=8)
def skin_map(side: int, where: torch.device | str = "cpu") -> Tensor:
    """11HW: 1 where an aligned face of `side` pixels shows skin. Kept on its device: copying it there would wait."""
    skin = cv2.resize(bare_skin(), (side, side), interpolation=cv2.INTER_NEAREST) / np.float32(255)
    return torch.from_numpy(skin)[None, None].to(where)


def symmetry(made: Tensor, truth: Tensor, hole: Tensor, valid: Tensor, frontal: Tensor) -> Tensor:
    """How far the restored half is from the mirror image of the visible half, in coarse blocks.

    Counts blocks that are hidden while their mirror image is seen; each picture weighs as frontal (N values, 0..1) as
    its face is.
    """
    block = max(made.shape[-1] // SYMMETRY_BLOCKS, 1)
    seen = ((1 - hole) * valid).flip(-1)
    weight = 1 - F.max_pool2d(1 - hole * seen, block)  # whole blocks only
    weight = weight * frontal.view(-1, 1, 1, 1)
    apart = (F.avg_pool2d(made, block) - F.avg_pool2d(truth.flip(-1), block)).abs().mean(dim=1, keepdim=True)
    return (apart * weight).sum() / weight.sum().clamp_min(1.0)


def identity(made: Tensor, truth: Tensor) -> Tensor:
    """How far the restored face is from its owner: 1 - cosine of what a face-embedding network (NxC) sees in both."""
    return (1 - F.cosine_similarity(made.float(), truth.float(), dim=1)).mean()


def hinge_discriminator(real: Tensor, fake: Tensor, hole: Tensor) -> Tensor:
    """Hinge loss of a discriminator. Patches count where they touch the hole (N1HW), the real ones too.

    Real patches that were counted elsewhere would teach it to recognise holes, not restorations.
    Source: J. H. Lim and J. C. Ye, "Geometric GAN", 2017.
    """
    return _where_hidden(F.relu(1 - real), hole) + _where_hidden(F.relu(1 + fake), hole)


def hinge_generator(fake: Tensor, hole: Tensor) -> Tensor:
    """Hinge loss of the generator: minus the mean logit of the patches that touch the hole (N1HW)."""
    return -_where_hidden(fake, hole)


def logistic_discriminator(real: Tensor, fake: Tensor, hole: Tensor) -> Tensor:
    """Cross entropy of a discriminator, counted as `hinge_discriminator` counts.

    Source: I. Goodfellow et al., "Generative adversarial nets", 2014.
    """
    return _where_hidden(F.softplus(-real), hole) + _where_hidden(F.softplus(fake), hole)


def logistic_generator(fake: Tensor, hole: Tensor) -> Tensor:
    """The non-saturating loss of the same paper: cross entropy against the label `real`."""
    return _where_hidden(F.softplus(-fake), hole)


def copied(picture: Tensor, truth: Tensor, where: Tensor) -> Tensor:
    """Mean absolute error of what the reference shows of the face, in its place and light, where (N1HW) it is known."""
    return ((picture - truth).abs().mean(dim=1, keepdim=True) * where).sum() / where.sum().clamp_min(1.0)


def feature_matching(made: list[Tensor], truth: list[Tensor], hole: Tensor) -> Tensor:
    """Mean absolute difference of a discriminator's own features (NCHW) where they touch the hole; mean over layers.

    Source: T.-C. Wang et al., pix2pixHD, 2018.
    """
    apart = [(a.float() - b.float()).abs().mean(dim=1, keepdim=True) for a, b in zip(made, truth, strict=True)]
    return torch.stack([_where_hidden(layer, hole) for layer in apart]).mean()


def _where_hidden(values: Tensor, hole: Tensor) -> Tensor:
    """Mean of what a discriminator's patches give, of those that touch the hole."""
    weight = F.adaptive_max_pool2d(hole, values.shape[-2:])
    return (values * weight).sum() / weight.sum().clamp_min(1.0)


def r1(logits: Tensor, real: Tensor) -> Tensor:
    """Half the squared gradient of the logits by the real pictures, mean over logits; `real` must ask for gradients.

    Source: L. Mescheder et al., "Which training methods for GANs do actually converge?", 2018.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return gradient.square().sum() / (2 * logits.numel())


@dataclass(frozen=True)
class Adversary:
    """A formulation of the game between generator and discriminators, and what keeps that steady."""

    discriminator: Callable[[Tensor, Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    spectral_norm: bool
    r1: float


ADVERSARIES = {
    "hinge": Adversary(hinge_discriminator, hinge_generator, spectral_norm=True, r1=0.0),
    "logistic": Adversary(logistic_discriminator, logistic_generator, spectral_norm=False, r1=1.0),
}


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The one total. A loss without a weight is a KeyError; one that weighs nothing costs no way back either."""
    return torch.stack([losses[name].float() * weights[name] for name in losses if weights[name] != 0]).sum()
