"""Discriminators: a PatchGAN (P. Isola et al., 2017) for local texture, a global one for the whole face.

Both see the picture in -1..1 and the hole (NCHW, 4 channels) and give logits. `bounded` is by spectral norm (T. Miyato
et al., 2018). A third one sees what a frozen backbone sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

Wrap = Callable[[nn.Module], nn.Module]


class DiscriminatorOutput(NamedTuple):
    """What a discriminator makes of pictures: its own intermediate features, fine to coarse, and logits by level."""

    features: list[Tensor]
    logits: list[Tensor]


class PatchDiscriminator(nn.Module):
    """One logit for each patch of 46 px, 8 px apart."""

    def __init__(self, bounded: bool = True, widths: tuple[int, ...] = (64, 128, 192)) -> None:
        super().__init__()
        wrap = _wrap(bounded)
        self.layers = nn.Sequential(
            *_halving(4, widths, wrap),
            *_layer(widths[-1], widths[-1], 3, 1, wrap),
            wrap(nn.Conv2d(widths[-1], 1, 3, 1, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def look(self, x: Tensor) -> DiscriminatorOutput:
        features: list[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.LeakyReLU):
                features.append(x)
        return DiscriminatorOutput(features, [x])


class GlobalDiscriminator(nn.Module):
    """One logit (N111) for the whole picture, seen 96 px wide: texture is the other one's business."""

    SIDE_PX = 96

    def __init__(self, bounded: bool = True, widths: tuple[int, ...] = (32, 64, 96, 160)) -> None:
        super().__init__()
        wrap = _wrap(bounded)
        self.layers = nn.Sequential(*_halving(4, widths, wrap))
        self.verdict = wrap(nn.Conv2d(widths[-1], 1, 6))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.SIDE_PX:
            x = F.interpolate(x, (self.SIDE_PX, self.SIDE_PX), mode="area")
        return self.verdict(self.layers(x))

    def look(self, x: Tensor) -> DiscriminatorOutput:
        return DiscriminatorOutput([], [self(x)])


class ProjectedDiscriminator(nn.Module):
    """Logits for each place of a frozen backbone's features, at each of its levels. Always bounded.

    Fixed random projections mix the channels of each level and then carry the coarse levels into the finer ones, so
    that no head can rely on the few features that tell at once. Source: A. Sauer et al., "Projected GANs converge
    faster", 2021.
    """

    def __init__(self, channels: Sequence[int], width: int = 64) -> None:
        super().__init__()
        for level, inputs in enumerate(channels):
            self.register_buffer(f"project{level}", _random_projection(inputs, width))
            self.register_buffer(f"mix{level}", _random_projection(width, width))
        self.heads = nn.ModuleList(
            nn.Sequential(*_layer(width, 2 * width, 3, 1, spectral_norm), spectral_norm(nn.Conv2d(2 * width, 1, 1)))
            for _ in channels
        )

    def mixed(self, features: list[Tensor]) -> list[Tensor]:
        """The backbone's features, projected and mixed. Nothing here learns: gradients go through to the picture."""
        levels: list[Tensor] = []
        for level in reversed(range(len(features))):
            x = F.conv2d(_of_unit_energy(features[level]), getattr(self, f"project{level}"))
            if levels:
                coarse = F.interpolate(levels[0], x.shape[-2:], mode="bilinear")
                x = F.conv2d((x + coarse) * math.sqrt(0.5), getattr(self, f"mix{level}"))
            levels.insert(0, x)
        return levels

    def forward(self, *levels: Tensor) -> list[Tensor]:
        return self.look(*levels).logits

    def look(self, *levels: Tensor) -> DiscriminatorOutput:
        """Of levels that were mixed."""
        features = [head[:-1](level) for head, level in zip(self.heads, levels, strict=True)]
        return DiscriminatorOutput(features, [head[-1](seen) for head, seen in zip(self.heads, features, strict=True)])


def _random_projection(inputs: int, outputs: int) -> Tensor:
    return torch.randn(outputs, inputs, 1, 1) / math.sqrt(inputs)


def _of_unit_energy(features: Tensor) -> Tensor:
    """Each picture's features over their root mean square; in full precision, as half does not hold the squares."""
    features = features.float()
    return features / features.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)


def _wrap(bounded: bool) -> Wrap:
    return spectral_norm if bounded else lambda layer: layer


def _halving(inputs: int, widths: tuple[int, ...], wrap: Wrap) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in widths:
        layers += _layer(inputs, width, 4, 2, wrap)
        inputs = width
    return layers


def _layer(inputs: int, outputs: int, kernel: int, stride: int, wrap: Wrap) -> list[nn.Module]:
    return [wrap(nn.Conv2d(inputs, outputs, kernel, stride, 1)), nn.LeakyReLU(0.2, inplace=True)]
