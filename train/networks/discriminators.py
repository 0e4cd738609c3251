"""What judges the generator: a PatchGAN (P. Isola et al., 2017) for local texture, a global one for the whole face.

Both see the picture and the hole (NCHW, 4 channels) and give logits. `bounded` is by spectral norm (T. Miyato et al.,
2018).
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

Wrap = Callable[[nn.Module], nn.Module]


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
