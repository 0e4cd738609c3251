"""What judges the generator: a PatchGAN (P. Isola et al., 2017) with spectral norm (T. Miyato et al., 2018)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

WIDTHS = (32, 64, 128)


class PatchDiscriminator(nn.Module):
    """NCHW picture and hole (4 channels) to one logit for each patch of 46 px."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 4
        for width in widths:
            layers += [spectral_norm(nn.Conv2d(inputs, width, 4, 2, 1)), nn.LeakyReLU(0.2, inplace=True)]
            inputs = width
        layers += [spectral_norm(nn.Conv2d(inputs, inputs, 3, 1, 1)), nn.LeakyReLU(0.2, inplace=True)]
        layers += [spectral_norm(nn.Conv2d(inputs, 1, 3, 1, 1))]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
