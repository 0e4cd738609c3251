"""Training of `hidden`: a small U-Net that marks what hides a face and leaves the face's own things alone.

It sees the wide field: what hides a face is marked with all that belongs to it, straps, arm and holder. It learns from
photographs of faces that really are hidden, with masks drawn by eye, and from faces with occluders put in front, whose
place is known to the pixel. Figures come from other people, other occluders and other photographs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.contract import TEMPLATE_PART, WIDE_PX
from train.config import Recipe
from train.hardware import autocast, check_finite, descend, detached
from train.networks.imagenet_encoder import GIVEN_WIDTHS, ImageNetEncoder
from train.networks.unet import Residual, conv
from train.networks.unet_export import doubled, fixed_conv
from train.task import ModelIO, Sample
from train.tasks.hidden_samples import SegmentationSamples

#: Width at each halving of the picture: 1/2, 1/4, 1/8, 1/16, 1/32.
WIDTHS = (16, 32, 64, 96, 128)


class HiddenUNet(nn.Module):
    """BGR in 0..1, any side / 32, to the logit of "hidden" on a grid of half that side.

    At 1/8, 1/16 and 1/32 of the side it also has what an ImageNet network sees in the picture at half its size.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.stem = conv(3, a, stride=2)
        self.down1 = nn.Sequential(conv(a, b, stride=2), conv(b, b))
        self.down2 = nn.Sequential(conv(b, c, stride=2), Residual(c))
        self.down3 = nn.Sequential(conv(c, d, stride=2), Residual(d))
        self.down4 = nn.Sequential(conv(d, e, stride=2), Residual(e))
        self.up3, self.up2, self.up1, self.up0 = Join(e, d), Join(d, c), Join(c, b), Join(b, a)
        self.head = nn.Conv2d(a, 1, 3, padding=1)
        self.encoder = ImageNetEncoder()
        self.known2, self.known3, self.known4 = (
            _silent(given, width) for given, width in zip(GIVEN_WIDTHS, (c, d, e), strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        k2, k3, k4 = self.encoder(F.avg_pool2d(x, 2))
        s0 = self.stem(x * 2 - 1)
        s1 = self.down1(s0)
        s2 = self.down2(s1) + self.known2(k2)
        s3 = self.down3(s2) + self.known3(k3)
        y = self.up3(self.down4(s3) + self.known4(k4), s3)
        return self.head(self.up0(self.up1(self.up2(y, s2), s1), s0))


def _silent(inputs: int, outputs: int) -> nn.Conv2d:
    """A convolution that gives nothing before it has learned anything."""
    made = nn.Conv2d(inputs, outputs, 1)
    nn.init.zeros_(made.weight)
    nn.init.zeros_(made.bias)  # type: ignore[arg-type]
    return made


class Join(nn.Module):
    """Doubles the picture and adds the skip connection."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = conv(inputs, outputs, kernel=1)
        self.mix = conv(outputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.mix(F.interpolate(self.reduce(x), scale_factor=2.0, mode="nearest") + skip)


class HiddenExport(nn.Module):
    """The segmenter with the contract's input and output: `face` uint8 BGR in, probability x 255 out, NHWC."""

    def __init__(self, network: HiddenUNet) -> None:
        super().__init__()
        self.network = network
        self.between = _between()

    def forward(self, face: Tensor) -> Tensor:
        dtype = self.between.weight.dtype
        x = face.to(dtype).permute(0, 3, 1, 2) * (1 / 255)
        logits = self.between(F.pad(self.network(x), (1, 1, 1, 1), mode="replicate"))
        return doubled(torch.sigmoid(logits) * 255 + 0.5).to(torch.uint8)


def _between() -> nn.Conv2d:
    """Bilinear doubling as a convolution from a padded map to each of the four pixels.

    The same numbers as `F.interpolate` gives, which takes some engines as long as the whole network.
    """
    near = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]])
    return fixed_conv(torch.einsum("ay,bx->abyx", near, near).reshape(4, 1, 3, 3))


class HiddenTask:
    """Binary cross-entropy and soft Dice, inside the photographs only."""

    name = "hidden"

    def __init__(self, recipe: Recipe, data: Path) -> None:
        self._recipe = recipe
        self._data = data
        self._maker: SegmentationSamples | None = None
        network = HiddenUNet()
        network.encoder.read(data)
        self.modules: dict[str, nn.Module] = {"network": network}
        learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizers = {"network": torch.optim.AdamW(learning, recipe.learning_rate, weight_decay=1e-3)}

    def sample(self, rng: np.random.Generator) -> Sample:
        """HWC uint8 BGR `face` and HW uint8 `hidden` and `valid`, of the wide field."""
        if self._maker is None:
            self._maker = SegmentationSamples(self._data)
        example = self._maker.random(rng, self._recipe.size_px)
        return {"face": example.face, "hidden": example.mask, "valid": example.valid}

    def train_step(self, batch: Mapping[str, Tensor], progress: float) -> dict[str, Tensor]:
        network = self.modules["network"]
        face = (batch["face"].permute(0, 3, 1, 2).float() / 255).contiguous(memory_format=torch.channels_last)
        valid = F.avg_pool2d(batch["valid"][:, None].float() / 255, 2)
        truth = F.avg_pool2d(batch["hidden"][:, None].float() / 255, 2)
        with autocast(self._recipe):
            logits = network(face)
        weight = valid * importance(truth)
        terms = {"bce": masked_bce(logits.float(), truth, weight), "dice": dice(logits.float(), truth, weight)}
        check_finite(terms)
        descend(terms["bce"] + 0.5 * terms["dice"], self.optimizers["network"], network)
        return detached(terms)

    def model_io(self, network: nn.Module) -> ModelIO:
        shape = (1, WIDE_PX, WIDE_PX)
        return ModelIO(HiddenExport(network), {"face": (*shape, 3)}, {"hidden": (*shape, 1)}, {"face": {0: "n"}})


def importance(truth: Tensor) -> Tensor:
    """What each pixel of a wide mask (N1HW) counts: more inside the template, near outlines and on thin things.

    A boom, a strap or a cigarette is so few pixels that a network that never sees one would lose little.
    """
    scale = truth.shape[-1] / WIDE_PX
    rows, columns = (slice(round(part.start * scale), round(part.stop * scale)) for part in TEMPLATE_PART)
    weight = torch.ones_like(truth)
    weight[..., rows, columns] += 1
    outline = _grown(truth, 2) + _grown(-truth, 2)
    thin = truth - _grown(-_grown(-truth, 3), 3)
    return weight * (1 + outline + 2 * thin.clamp(min=0))


def _grown(mask: Tensor, reach: int) -> Tensor:
    """A soft mask grown by so many pixels; of its negative, the negative of the mask shrunk."""
    return F.max_pool2d(mask, 2 * reach + 1, 1, reach)


def masked_bce(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean binary cross-entropy, weighted."""
    loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (loss * weight).sum() / weight.sum().clamp(min=1)


def dice(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """1 - Dice of each picture, averaged; an empty truth costs as much as is marked."""
    seen = torch.sigmoid(logits)
    both, each = ((part * weight).sum((1, 2, 3)) for part in (seen * truth, seen + truth))
    smooth = 0.002 * weight[0].numel()
    return (1 - (2 * both + smooth) / (each + smooth)).mean()
