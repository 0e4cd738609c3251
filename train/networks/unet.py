"""The generator: a U-Net that fills the hidden part of an aligned face from what is visible and from a reference.

It works coarse to fine: a deep U-Net at half size decides what the hole shows, a shallow net at full size adds the
detail.
It works in BGR, the order of its inputs: reversing the channels costs more than a layer on some engines.
Plain convolutions, batch norm (folded at export), leaky ReLU and nearest upsampling only: operators that TensorRT,
OpenVINO and ONNX Runtime all run natively. Optional: attention at 16x16 or a transformer at 8x8, in matrix products,
and a copy from the reference (train/networks/reference.py), which samples a grid.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.contract import CROP_PX
from train.networks.reference import Copied, ReferenceCopy
from train.occlusion.masks import bare_skin

SLOPE = 0.1
#: Width at each halving of the picture: 1/2, 1/4, 1/8, 1/16, 1/32.
WIDTHS = (32, 64, 112, 208, 256)
#: How strong the noise is for the visible grain's measure, before anything is learned: of no strength it would never
#: learn any. With 0.28 the noise alone would have that measure.
FIRST_GRAIN = 0.25
#: Neither soft nor sharp, in the measure of `visible_grain`: a quarter of the training faces have less grain.
TYPICAL_GRAIN = 0.02
#: What the network's picture is off at known pixels is carried on into the hole, so that its rim can't be seen: so far
#: off at most (of 1; a pixel of the occluder that the mask left out is off further), over so many halvings.
MOST_APART = 16 / 255
RIM_LEVELS = 2
#: What blue, green and red count for the luma.
LUMA = (0.114, 0.587, 0.299)


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


class Attention(nn.Module):
    """Each place looks at all others and adds what it finds; starts as adding nothing. NCHW to NCHW.

    Written out in matrix products, which every engine has. Source: A. Vaswani et al., 2017.
    """

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.ask = nn.Linear(width, 3 * width)
        self.answer = nn.Linear(width, width)
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.answer.bias)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        query, key, value = self.ask(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        found = (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
        return x + self.answer(found).transpose(1, 2).reshape(x.shape)


class TransformerBlock(nn.Module):
    """Attention, then two layers for each place by itself. NCHW to NCHW. Source: A. Dosovitskiy et al., 2021."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = Attention(width)
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x)
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        return x + self.narrow(F.gelu(self.wide(tokens))).transpose(1, 2).reshape(x.shape)


class CoarseUNet(nn.Module):
    """At half size: the generator's 8 channels to BGR in 0..1, and the 16 features that it was made of.

    `attention` adds it where the picture is 16x16. `blocks` transformer blocks at 8x8 take the place of the lowest
    level of convolutions.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS, attention: bool = False, blocks: int = 0) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.stem = conv(8, a, kernel=4, stride=2)
        self.down1 = nn.Sequential(conv(a, b, stride=2), conv(b, b))
        self.down2 = nn.Sequential(conv(b, c, stride=2), Place(c, 16), Residual(c))
        self.down3 = nn.Sequential(conv(c, d, stride=2), Place(d, 8), Residual(d), Residual(d, dilation=2))
        if blocks:
            self.transformer = nn.Sequential(*(TransformerBlock(d) for _ in range(blocks)))
        else:
            self.down4 = nn.Sequential(conv(d, e, stride=2), Place(e, 4), Residual(e))
            self.up3 = Up(e, d, d)
        self.attend = Attention(c) if attention else nn.Identity()
        self.middle = Residual(d)
        self.up2 = Up(d, c, c)
        self.refine = Residual(c)
        self.up1, self.refine1 = Up(c, b, b), Residual(b)
        self.up0, self.refine0 = Up(b, a, a), Residual(a)
        self.full = conv(a + 8, 16)
        self.head = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s0 = self.stem(x)
        s1 = self.down1(s0)
        s2 = self.down2(s1)
        s3 = self.down3(s2)
        lowest = self.transformer(s3) if hasattr(self, "transformer") else self.up3(self.down4(s3), s3)
        y = self.up2(self.middle(lowest), s2)
        y = self.refine(self.attend(y))
        y = self.refine1(self.up1(y, s1))
        y = self.refine0(self.up0(y, s0))
        y = F.interpolate(y, scale_factor=2.0, mode="nearest")
        y = self.full(torch.cat((y, x), dim=1))
        return torch.sigmoid(self.head(y)), y


class FineNet(nn.Module):
    """At full size: adds to the coarse picture what it could not show, and skin's grain.

    It works on 2x2 pixels at a time (pixel unshuffle and shuffle): the same detail at half the memory traffic. Nothing
    visible tells the grain, only how strong it is: in the measure of the visible skin's, noise is added (StyleGAN, T.
    Karras et al., 2019), always the same and at its place in the face, so that it neither flickers nor swims. How much
    of it each place has is learned; and how much of what else it paints a soft or a sharp photograph should have, as a
    gain of each of the body's features (E. Perez et al., "FiLM", 2018).
    """

    noise: Tensor
    skin: Tensor

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(16 + 8 * 4, width), Residual(width), Residual(width))
        self.head = nn.Conv2d(width, 3 * 4, 3, padding=1)
        nn.init.zeros_(self.head.weight)  # starts as the coarse picture, with a little grain everywhere
        nn.init.zeros_(self.head.bias)
        self.strength = nn.Parameter(torch.full((1, 1, 16, 16), FIRST_GRAIN))
        self.sharpness = nn.Parameter(torch.zeros(1, width, 1, 1))
        noise = torch.randn(1, 4, CROP_PX // 2, CROP_PX // 2, generator=torch.Generator().manual_seed(7))
        self.register_buffer("noise", noise)
        self.register_buffer("skin", torch.from_numpy(bare_skin()[::4, ::4] / np.float32(255))[None, None])

    def forward(self, x: Tensor, coarse: Tensor, features: Tensor) -> Tensor:
        visible = visible_grain(x, self.skin)
        y = self.body(torch.cat((F.pixel_unshuffle(x, 2), features), dim=1))
        detail = self.head(y * gain(visible / TYPICAL_GRAIN, self.sharpness).to(y.dtype)) + visible * self.grain()
        return F.interpolate(coarse, scale_factor=2.0, mode="nearest") + F.pixel_shuffle(detail, 2)

    def grain(self) -> Tensor:
        """The noise for the 12 channels of 2x2 pixels, as strong as it is where the visible grain measures 1."""
        strength = F.interpolate(self.strength, self.noise.shape[-2:], mode="bilinear")
        return (strength * self.noise).repeat(1, 3, 1, 1)


def gain(grain: Tensor, sharpness: Tensor) -> Tensor:
    """What features are multiplied with, NC11: `sharpness` (1C11) says how each follows `grain` (N111, 1 is typical).

    From twice the typical grain on it stays. The 4 makes these weights learn as quickly as a convolution's.
    """
    return 1 + (4 * grain.clamp(max=2) - 4) * sharpness


def luma_edges(picture: Tensor) -> Tensor:
    """The Laplacian of the luma of NCHW BGR: N1HW."""
    luma = (picture * picture.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    kernel = picture.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).view(1, 1, 3, 3)
    return F.conv2d(F.pad(luma, (1, 1, 1, 1), "replicate"), kernel)


def visible_grain(x: Tensor, skin: Tensor) -> Tensor:
    """How strong the finest texture of the visible skin is: mean of the luma's absolute Laplacian, N111.

    `x` are the generator's 8 channels; of 4x4 pixels one is looked at. `skin` (11HW) says where, at a quarter's size.
    """
    with torch.autocast(x.device.type, enabled=False):
        edges = luma_edges(x[:, :3].float())[..., ::4, ::4].abs()
        near = F.max_pool2d(F.max_pool2d(x[:, 3:4], 2), 3, 2, 1)
        return mean_where(edges, skin * (1 - near))


def mean_where(values: Tensor, weight: Tensor) -> Tensor:
    """N111: mean of N1HW, weighted; 0 where nothing has weight. In two steps, that half precision can sum."""
    total, among = (F.avg_pool2d(each, 16).mean((1, 2, 3), keepdim=True) for each in (values * weight, weight))
    return total / among.clamp_min(1e-3)


def generator_input(face: Tensor, hole: Tensor, reference: Tensor, reference_valid: Tensor) -> Tensor:
    """The generator's 8 channels: NCHW BGR in 0..1, `hole` and `reference_valid` 1 where hidden and where valid."""
    return torch.cat((face * (1 - hole), hole, reference * reference_valid, reference_valid), dim=1)


class RestoreUNet(nn.Module):
    """Face, hole, reference and where that is valid (NCHW BGR in 0..1, masks 0 or 1) to the face, about 0..1.

    What the face shows inside the hole, and the reference where it is not valid, has no effect. Without `fine` the
    picture is taken for one of half size, and the coarse half works alone.
    """

    #: Parts that weights may lack, and a recipe too: they start from scratch then, and change nothing at first.
    NEW_PARTS = ("copy.",)

    def __init__(
        self, widths: tuple[int, ...] = WIDTHS, attention: bool = False, blocks: int = 0, copy: bool = False
    ) -> None:
        super().__init__()
        self.coarse = CoarseUNet(widths, attention, blocks)
        self.fine = FineNet()
        self.copy = ReferenceCopy() if copy else None

    def forward(
        self,
        face: Tensor,
        hole: Tensor,
        reference: Tensor,
        reference_valid: Tensor,
        fine: bool = True,
        apart: bool = False,
    ) -> Tensor | tuple[Tensor, Copied]:
        """With `apart`, of a network that copies, also what it copied."""
        x = half = generator_input(face, hole, reference, reference_valid)
        if fine:
            half = generator_input(*halved(face, hole), *halved(reference, reference_valid, keep=True))
        made, features = self.coarse(half)
        if fine:
            made = self.fine(x, made, features)
        copied = self.copy(half, x[:, 4:7], reference_valid).whole() if self.copy is not None else None
        if copied is not None:
            made = made.float() + copied.gate * (copied.picture - made.float())
        made = self._with_rim(made.float(), face, hole) if fine else made
        return (made, copied) if apart and copied is not None else made

    def _with_rim(self, made: Tensor, face: Tensor, hole: Tensor) -> Tensor:
        """The picture with what it is off at known pixels, carried on into the hole."""
        apart = ((face - made) * (1 - hole)).clamp(-MOST_APART, MOST_APART)
        correction = carried_on(F.avg_pool2d(apart, 2), F.avg_pool2d(1 - hole, 2))
        return made + F.interpolate(correction, scale_factor=2.0, mode="nearest")


def carried_on(apart: Tensor, known: Tensor) -> Tensor:
    """What is known of a picture at some pixels (NCHW; 0 at the others), carried on smoothly to all of them.

    `known` (N1HW or NCHW) is the known share of each pixel. It reaches RIM_FLOORS halvings far, beyond that it is 0.
    Push and pull: S. Gortler et al., "The Lumigraph", 1996.
    """
    levels = [(apart, known)]
    for _ in range(RIM_LEVELS):
        apart, known = F.avg_pool2d(apart, 2), F.avg_pool2d(known, 2)
        levels.append((apart, known))
    apart, known = (F.avg_pool2d(each, 3, 1, 1) for each in levels.pop())  # an unknown pixel has what is around it
    carried = apart / known.clamp_min(1e-3)
    for apart, known in reversed(levels):
        carried = apart + (1 - known) * F.interpolate(carried, scale_factor=2.0, mode="bilinear")
    return carried


def halved(picture: Tensor, mask: Tensor, keep: bool = False) -> tuple[Tensor, Tensor]:
    """A picture and its mask at half size; a pixel counts as known (mask 0, or 1 with `keep`) where all four are."""
    mask = 1 - F.max_pool2d(1 - mask, 2) if keep else F.max_pool2d(mask, 2)
    return F.avg_pool2d(picture, 2), mask
