"""What the generator is judged by. Pictures are NCHW BGR in 0..1; `hole` and `valid` are N1HW, 1 = yes.

The total is one sum over LOSSES, weighted by train/schedule.py; the same dict of names is the log record.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

LOSSES = ("l1", "perceptual", "adv_patch")
#: What a pixel that is known weighs against one in the hole; it keeps the output continuous across the rim.
KNOWN_SHARE = 0.15


def l1(made: Tensor, truth: Tensor, hole: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute error in the hole, and a little outside it, where the photograph is real."""
    weight = (hole + KNOWN_SHARE * (1 - hole)) * valid
    return ((made - truth).abs().mean(dim=1, keepdim=True) * weight).sum() / weight.sum().clamp_min(1.0)


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the discriminator. Source: J. H. Lim and J. C. Ye, "Geometric GAN", 2017."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator(fake: Tensor, hole: Tensor) -> Tensor:
    """How little the discriminator believes in the patches that touch the hole."""
    weight = F.adaptive_max_pool2d(hole, fake.shape[-2:])
    return -(fake * weight).sum() / weight.sum().clamp_min(1.0)


class SqueezeNetFeatures(nn.Module):
    """SqueezeNet 1.0's ImageNet features (F. Iandola et al., 2016), read from the initialisers of an ONNX file.

    Frozen. Takes NCHW BGR in 0..1 and gives the features after each of LAYERS.
    """

    LAYERS = ("fire3", "fire5")
    _FIRES = (2, 3, 4, 5)
    _POOL_BEFORE = ("fire2", "fire5")

    def __init__(self, file: Path) -> None:
        super().__init__()
        if not file.is_file():
            raise FileNotFoundError(f"the perceptual loss needs {file}; give the data folder that holds it with --data")
        weights = {item.name: numpy_helper.to_array(item) for item in onnx.load(str(file)).graph.initializer}
        names = ["conv1", *(f"fire{n}_{part}" for n in self._FIRES for part in ("s", "e1", "e3"))]
        for name in names:
            self.register_buffer(f"{name}_w", torch.from_numpy(weights[f"{name}_w_h"].astype(np.float32)))
            self.register_buffer(f"{name}_b", torch.from_numpy(weights[f"{name}_b"].astype(np.float32)))
        self.register_buffer("mean_bgr", torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1))

    def _conv(self, x: Tensor, name: str, **options: int) -> Tensor:
        return F.relu(F.conv2d(x, getattr(self, f"{name}_w"), getattr(self, f"{name}_b"), **options))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self._conv(x * 255 - self.mean_bgr, "conv1", stride=2)
        features: list[Tensor] = []
        for number in self._FIRES:
            name = f"fire{number}"
            if name in self._POOL_BEFORE:
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            squeezed = self._conv(x, f"{name}_s")
            x = torch.cat((self._conv(squeezed, f"{name}_e1"), self._conv(squeezed, f"{name}_e3", padding=1)), dim=1)
            if name in self.LAYERS:
                features.append(x)
        return features


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


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The one total. A loss without a weight is a KeyError."""
    return torch.stack([losses[name].float() * weights[name] for name in losses]).sum()
