"""Copies from the reference: where each place of the face is there, in which light, and for which pixels to copy it.

An optional part of the restorer. A flow at 64x64 is estimated coarse to fine: at each level by a Gauss-Newton step on
what both show (B. Lucas and T. Kanade, 1981), to which learned layers add what they see in warped features (D. Sun et
al., "PWC-Net", 2018), above all in the hole, where nothing can be compared. It is sampled once, at full size;
a gain and an offset at low resolution bring it to the face's light, by regression on what both show (K. He et al.,
"Guided image filtering", 2010). A gate at full size mixes copy and painting. It starts shut, so that a trained network
is the same with this part as without it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.1
#: Width at 1/2, 1/4 and 1/8 of the picture that the coarse half sees.
WIDTHS = (16, 32, 64)
#: What 1 of a flow head's output is, in half widths of the picture: its weights learn as quickly as the others then.
FLOW_UNIT = 0.1
#: A step of the flow counts so many pixels around, is damped by so much, and moves so far at most, in half widths.
WINDOW_PX, DAMPING, FARTHEST = 5, 2e-2, 0.05
#: How quickly the gate opens while it learns.
OPENING = 10.0
#: Light is matched in so many cells across, with so much of the whole face's in each, and as if the reference had so
#: much more contrast (variance) in common with the face: where little is seen, gain stays near 1.
CELLS, WHOLE_SHARE, STEADY = 8, 0.02, 2e-3


class Copied(NamedTuple):
    """The reference where the face is and in its light; for which pixels it is taken, and where it is known, 0..1.

    Each is NCPhw with C channels and, at each place of the coarse half, P pixels of the reference: engines mix them so
    with what the fine half makes, which works on 2x2 pixels at a time. `whole` puts them side by side.
    """

    picture: Tensor
    gate: Tensor
    known: Tensor

    def whole(self) -> Copied:
        """The same as NCHW of the reference's size."""
        return Copied(*(F.pixel_shuffle(each.flatten(1, 2), round(each.shape[2] ** 0.5)) for each in self))


class ReferenceCopy(nn.Module):
    """`half` are the generator's 8 channels at half size, in 0..1; from them follow flow, light and gate.

    `reference` and its mask are sampled at their own size, which is that of `half` or twice that.
    """

    def __init__(self, widths: tuple[int, int, int] = WIDTHS) -> None:
        super().__init__()
        a, b, c = widths
        self.stem = _layer(4, a, stride=2)
        self.down1 = nn.Sequential(_layer(a, b, stride=2), _layer(b, b))
        self.down2 = nn.Sequential(_layer(b, c, stride=2), _layer(c, c))
        self.coarse = _Flow(2 * c, c, dilations=(1, 2, 4))
        self.middle = _Flow(2 * b + c + 2, b, dilations=(1, 2))
        self.fine = _Flow(2 * a + b + 2, b, dilations=(1,))
        self.weigh = nn.Sequential(_layer(b + 8, a), nn.Conv2d(a, 4, 3, padding=1))
        self.opening = nn.Parameter(torch.zeros(1))

    def forward(self, half: Tensor, reference: Tensor, valid: Tensor) -> Copied:
        face, hole, other, known = half.split((3, 1, 3, 1), dim=1)
        flow, features = self._flow(torch.cat((face, 1 - hole), 1), torch.cat((other, known), 1))
        taken = warped(torch.cat((reference, valid), 1).to(flow.dtype), flow)
        pixels = taken.shape[-1] // half.shape[-1]
        there = F.avg_pool2d(taken, pixels) if pixels > 1 else taken
        seen = (1 - hole) * there[:, 3:]
        gain, offset = light(face, there[:, :3], seen)
        lit = there[:, :3] * gain + offset
        evidence = torch.cat(
            (F.interpolate(features, scale_factor=2.0, mode="nearest"), there[:, 3:], hole, seen * (lit - face), lit), 1
        )
        apart = F.pixel_unshuffle(taken, pixels).unflatten(1, (4, pixels**2))
        certain = ((apart[:, 3:] - 0.98) * 50).clamp(0, 1)
        return Copied(apart[:, :3] * gain[:, :, None] + offset[:, :, None], self._gate(evidence, certain), certain)

    def _flow(self, face: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """N2HW at half the size of both, in half widths, x first; and the features that it was made of."""
        (a0, a1, a2), (b0, b1, b2) = self._levels(face), self._levels(other)
        flow, y = self.coarse(torch.cat((a2, b2), 1))
        for here, there, level, steps in ((a1, b1, self.middle, 1), (a0, b0, self.fine, 2)):
            flow, y = twice(flow), F.interpolate(y, scale_factor=2.0, mode="nearest")
            for _ in range(steps):
                flow = closer(face, other, flow)
            more, y = level(torch.cat((here, warped(there, flow).to(here.dtype), y, flow.to(here.dtype)), 1))
            flow = flow + more
        return flow, y

    def _levels(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first = self.stem(picture)
        second = self.down1(first)
        return first, second, self.down2(second)

    def _gate(self, evidence: Tensor, known: Tensor) -> Tensor:
        """As large as `known`; nothing is taken where the reference is not known, and nothing at all at first."""
        logits = self.weigh(evidence)[:, None].to(known.dtype)
        logits = logits if known.shape[2] == logits.shape[2] else logits.mean(2, keepdim=True)
        return torch.sigmoid(logits) * (OPENING * self.opening).clamp(0, 1) * known


class _Flow(nn.Module):
    """A step of the flow, at one level: what is to be added to it, and features for the next level."""

    def __init__(self, inputs: int, width: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.first = _layer(inputs, width)
        self.body = nn.Sequential(*(_layer(width, width, dilation=dilation) for dilation in dilations))
        self.head = nn.Conv2d(width, 2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.first(x)
        y = y + self.body(y)
        with torch.autocast(x.device.type, enabled=False):  # bf16 has not enough digits for places
            return self.head(y.to(self.head.weight.dtype)) * FLOW_UNIT, y


def _layer(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """A convolution without batch norm, whose statistics a stage that trains this part alone would have to move."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation), nn.LeakyReLU(SLOPE, inplace=True)
    )


def twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")


def warped(picture: Tensor, flow: Tensor) -> Tensor:
    """`picture` sampled where `flow` says (N2hw, in half widths), enlarged to its size; beyond its edge, the edge."""
    with torch.autocast(picture.device.type, enabled=False):
        side = picture.shape[-1]
        if flow.shape[-1] < side:
            flow = twice(flow)
        if flow.shape[-1] < side:  # it hardly differs between neighbours now, and a bilinear step costs four times this
            flow = F.interpolate(flow, scale_factor=float(side // flow.shape[-1]), mode="nearest")
        line = (torch.arange(side, device=flow.device, dtype=torch.float32) * 2 + 1) / side - 1
        place = torch.stack(torch.meshgrid(line, line, indexing="xy"))[None].to(flow.dtype)
        grid = (place + flow).permute(0, 2, 3, 1)
        return F.grid_sample(picture.to(flow.dtype), grid, padding_mode="border", align_corners=False)


def closer(face: Tensor, other: Tensor, flow: Tensor) -> Tensor:
    """The flow after a Gauss-Newton step, at its own size; where nothing can be compared, as the whole face moves.

    `face` and `other` are pictures and where they are known (N4HW).
    """
    with torch.autocast(flow.device.type, enabled=False):
        face, other = (F.avg_pool2d(each.to(flow.dtype), each.shape[-1] // flow.shape[-1]) for each in (face, other))
        there = warped(other, flow)
        seen = (face[:, 3:] * there[:, 3:] > 0.99).to(flow.dtype)
        gain, offset = light(face[:, :3], there[:, :3], seen)
        picture = there[:, :3] * gain + offset
        dx, dy = slopes(picture)
        error = 8 * (face[:, :3] - picture)
        products = [(seen * each).sum(1, keepdim=True) for each in (dx * dx, dx * dy, dy * dy, dx * error, dy * error)]
        sums = torch.cat(products, 1)
        for _ in range(2):
            sums = F.avg_pool2d(sums, WINDOW_PX, 1, WINDOW_PX // 2)
        xx, xy, yy, x, y = (sums + WHOLE_SHARE * sums.mean((2, 3), keepdim=True)).split(1, dim=1)
        xx, yy = xx + DAMPING * (xx + yy) + 1e-3, yy + DAMPING * (xx + yy) + 1e-3
        step = torch.cat((yy * x - xy * y, xx * y - xy * x), 1) / (xx * yy - xy * xy).clamp_min(1e-6)
        return flow + (step * (2 / flow.shape[-1])).clamp(-FARTHEST, FARTHEST)


def slopes(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Eight times the difference of a pixel: of that size, half precision holds its squares."""
    wide = F.pad(picture, (1, 1, 1, 1), "replicate")
    return 4 * (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]), 4 * (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1])


def light(face: Tensor, other: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Gain and offset (NCHW) that bring `other` to the light of `face`, by the pixels that both show, a few CELLS."""
    with torch.autocast(face.device.type, enabled=False):
        face, seen = face.to(other.dtype), seen.to(other.dtype)
        whole = seen.mean((2, 3), keepdim=True).clamp_min(1e-4)
        # What is around 0 keeps its digits when it is squared.
        middle, other_middle = ((each * seen).mean((2, 3), keepdim=True) / whole for each in (face, other))
        a, b = face - middle, other - other_middle
        cell = F.avg_pool2d(
            torch.cat((seen, seen * a, seen * b, seen * b * b, seen * a * b), 1), seen.shape[-1] // CELLS
        )
        cell = F.avg_pool2d(F.avg_pool2d(cell, 3, 1, 1), 3, 1, 1) + WHOLE_SHARE * cell.mean((2, 3), keepdim=True)
        count, a, b, bb, ab = cell.split((1, 3, 3, 3, 3), dim=1)
        a, b, bb, ab = (each / count.clamp_min(1e-4) for each in (a, b, bb, ab))
        gain = ((ab - a * b + STEADY) / ((bb - b * b).clamp_min(0) + STEADY)).clamp(0.5, 2.0)
        offset = a + middle - gain * (b + other_middle)
        # One by one: as one picture they make TensorRT's FP16 plan 35 MB larger.
        gain, offset = (F.interpolate(each, face.shape[-2:], mode="bilinear") for each in (gain, offset))
        return gain, offset
