"""The generator: a U-Net that fills the hidden part of an aligned face from what is visible and from a reference.

It works coarse to fine: a deep U-Net at half size decides what is there, a shallow net at full size paints it sharp.
It thinks in BGR, the order of its doors: turning the channels round costs more than a layer on some engines.
Plain convolutions, batch norm (folded at export), leaky ReLU and nearest upsampling only: operators that TensorRT,
OpenVINO and ONNX Runtime all run natively.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.1
#: Width at each halving of the picture: 1/2, 1/4, 1/8, 1/16, 1/32.
WIDTHS = (32, 64, 112, 208, 256)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution, batch norm, leaky ReLU; halves the picture with stride 2."""
    padding = (kernel - stride) // 2 if kernel % 2 == 0 else dilation * (kernel - 1) // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(SLOPE, inplace=True),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions beside a straight road."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = conv(width, width, dilation=dilation)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.second(self.first(x)), SLOPE)


class Place(nn.Module):
    """A learned picture added to the features: faces are aligned, so where a pixel lies says what it shows."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, width, side, side))

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias
        if x.shape[-1] != bias.shape[-1]:  # training pictures smaller than the template
            bias = F.interpolate(bias.float(), x.shape[-2:], mode="area").to(x.dtype)
        return x + bias


class Up(nn.Module):
    """Doubles the picture and joins the skip connection."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.reduce = conv(inputs, outputs, kernel=1)
        self.join = conv(outputs + skip, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(self.reduce(x), scale_factor=2.0, mode="nearest")
        return self.join(torch.cat((x, skip), dim=1))


class CoarseUNet(nn.Module):
    """At half size: the generator's 8 channels to BGR in 0..1, and the 16 features that it was made of."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.stem = conv(8, a, kernel=4, stride=2)
        self.down1 = nn.Sequential(conv(a, b, stride=2), conv(b, b))
        self.down2 = nn.Sequential(conv(b, c, stride=2), Place(c, 16), Residual(c))
        self.down3 = nn.Sequential(conv(c, d, stride=2), Place(d, 8), Residual(d), Residual(d, dilation=2))
        self.down4 = nn.Sequential(conv(d, e, stride=2), Place(e, 4), Residual(e))
        self.up3 = Up(e, d, d)
        self.middle = Residual(d)
        self.up2 = Up(d, c, c)
        self.refine = Residual(c)
        self.up1 = Up(c, b, b)
        self.up0 = Up(b, a, a)
        self.full = conv(a + 8, 16)
        self.head = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s0 = self.stem(x)
        s1 = self.down1(s0)
        s2 = self.down2(s1)
        s3 = self.down3(s2)
        y = self.middle(self.up3(self.down4(s3), s3))
        y = self.refine(self.up2(y, s2))
        y = self.up0(self.up1(y, s1), s0)
        y = F.interpolate(y, scale_factor=2.0, mode="nearest")
        y = self.full(torch.cat((y, x), dim=1))
        return torch.sigmoid(self.head(y)), y


class FineNet(nn.Module):
    """At full size: adds to the coarse picture what it could not show.

    It works on 2x2 pixels at a time (pixel unshuffle and shuffle): the same detail at half the memory traffic.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(16 + 8 * 4, width), Residual(width), Residual(width))
        self.head = nn.Conv2d(width, 3 * 4, 3, padding=1)
        nn.init.zeros_(self.head.weight)  # starts as the coarse picture
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, coarse: Tensor, features: Tensor) -> Tensor:
        detail = self.head(self.body(torch.cat((F.pixel_unshuffle(x, 2), features), dim=1)))
        return F.interpolate(coarse, scale_factor=2.0, mode="nearest") + F.pixel_shuffle(detail, 2)


class RestoreUNet(nn.Module):
    """Face, hole, reference and where that is valid (NCHW BGR in 0..1, masks 0 or 1) to the face, about 0..1.

    What the face shows inside the hole, and the reference where it is not valid, has no effect.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.coarse = CoarseUNet(widths)
        self.fine = FineNet()

    def forward(self, face: Tensor, hole: Tensor, reference: Tensor, there: Tensor) -> Tensor:
        x = generator_input(face, hole, reference, there)
        coarse, features = self.coarse(generator_input(*halved(face, hole), *halved(reference, there, keep=True)))
        return self.fine(x, coarse, features)


def halved(picture: Tensor, mask: Tensor, keep: bool = False) -> tuple[Tensor, Tensor]:
    """A picture and its mask at half size; a pixel counts as known (mask 0, or 1 with `keep`) where all four are."""
    mask = 1 - F.max_pool2d(1 - mask, 2) if keep else F.max_pool2d(mask, 2)
    return F.avg_pool2d(picture, 2), mask


class RestoreDoors(nn.Module):
    """The generator with uint8 BGR doors: what is known comes out bit for bit as it went in."""

    def __init__(self, network: RestoreUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, face: Tensor, mask: Tensor, reference: Tensor, reference_mask: Tensor) -> Tensor:
        dtype = self.network.fine.head.weight.dtype
        # uint8 is cast first and transposed after: TensorRT's parser refuses a UInt8 transpose.
        face_nchw = face.to(dtype).permute(0, 3, 1, 2)
        hole = (mask.to(dtype) * (1 / 255)).permute(0, 3, 1, 2)
        reference_nchw = reference.to(dtype).permute(0, 3, 1, 2) * (1 / 255)
        there = (reference_mask.to(dtype) * (1 / 255)).permute(0, 3, 1, 2)
        made = self.network(face_nchw * (1 / 255), hole, reference_nchw, there) * 255
        # 0..255 is exact in fp16 and bf16, so a known pixel survives the blend unchanged.
        restored = face_nchw + hole * (made - face_nchw)
        return restored.round().clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)


def generator_input(face: Tensor, hole: Tensor, reference: Tensor, there: Tensor) -> Tensor:
    """The generator's 8 channels: NCHW BGR in 0..1, `hole` and `there` 1 where hidden and where valid."""
    return torch.cat((face * (1 - hole), hole, reference * there, there), dim=1)
