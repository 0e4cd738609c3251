"""The restorer as engines run it: the generator's arithmetic in fixed convolutions, between uint8 pictures."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from train.networks.unet import (
    LUMA,
    MOST_APART,
    SLOPE,
    TYPICAL_GRAIN,
    CoarseUNet,
    RestoreUNet,
    carried_on,
    gain,
    mean_where,
)

#: The input's channels: three of the face, its mask, three of the reference, its mask.
_FACE, _HIDDEN, _REFERENCE, _VALID = (0, 1, 2), 3, (4, 5, 6), 7


class RestoreExport(nn.Module):
    """The generator with the contract's uint8 BGR inputs and output: known pixels come out bit for bit as they went in.

    The arithmetic of `RestoreUNet`, arranged for engines. Moving pictures of full size about costs them more than the
    layers do, so the eight channels become 32 of half the size at once, and stay so up to the exit; three small fixed
    convolutions gather, halve and keep them. Pictures and masks count 0..255, or in 256ths at half size: with weights
    like these bf16 and fp16 are exact, and int8, whose scale is that of a whole tensor, keeps the features beside them.
    A mask is hidden from 128 on. To empty a pixel its mask is taken away from it: less than 0 counts as 0.
    """

    def __init__(self, network: RestoreUNet) -> None:
        super().__init__()
        self.coarse = _in_256ths(network.coarse)
        self.body = network.fine.body[1:]
        first, head = _folded(network.fine.body[0]), network.fine.head
        # The network counts a channel's four pixels first (pixel unshuffle), this module a pixel's eight channels.
        pixels = first.weight[:, :32].unflatten(1, (8, 4)).transpose(1, 2).flatten(1, 2)
        self.from_pixels = fixed_conv(pixels / 255, first.bias, padding=1)
        self.from_features = fixed_conv(first.weight[:, 32:], padding=1)
        self.head = fixed_conv(
            head.weight.unflatten(0, (3, 4)).transpose(0, 1).flatten(0, 1) * 255,
            head.bias.unflatten(0, (3, 4)).t().flatten() * 255,
            padding=1,
        )
        self.register_buffer("sharpness", network.fine.sharpness.detach().clone())
        grain = network.fine.grain().detach()
        self.register_buffer("grain", grain.unflatten(1, (3, 4)).transpose(1, 2).flatten(1, 2))
        self.register_buffer("skin", network.fine.skin.clone())
        self.gather, self.halve, self.keep, self.edges = _gather(), _halve(), _keep(), _edges()
        self.copies = copy.deepcopy(network.copy)
        self.average = fixed_conv(torch.eye(3).repeat(1, 4)[..., None, None] / 4)

    def forward(self, face: Tensor, mask: Tensor, reference: Tensor, reference_mask: Tensor) -> Tensor:
        # uint8 is cast first and transposed after: TensorRT's parser refuses a UInt8 transpose.
        dtype = self.gather.weight.dtype
        inputs = (face.to(dtype), _sharp(mask.to(dtype)), reference.to(dtype), _sharp(reference_mask.to(dtype)))
        x = self.gather(torch.cat([picture.permute(0, 3, 1, 2) for picture in inputs], dim=1)).clamp(0, 255)
        half = self.halve(x).clamp(0.0, 255 / 256)
        coarse, features = self.coarse(half)
        y = self.body(F.leaky_relu(self.from_pixels(x) + self.from_features(features), SLOPE))
        near = F.max_pool2d(half[:, _HIDDEN : _HIDDEN + 1] * (256 / 255), 3, 2, 1)
        strength = mean_where(self.edges(x).abs(), self.skin * (1 - near))
        y = y * gain(strength * (1 / 255 / TYPICAL_GRAIN), self.sharpness)
        made = self.head(y) + strength * self.grain + 255 * coarse
        if self.copies is not None:
            made = self._with_copy(made, half * (256 / 255), *(each.permute(0, 3, 1, 2) / 255 for each in inputs[2:]))
        known = self.keep(x)  # -255 where hidden, so that the second below is what was made, else 0 or less
        made = (made + self._correction(made, known)).clamp(0, 255)
        return doubled(torch.maximum(known, made - 255 - known).round()).to(torch.uint8)

    def _with_copy(self, made: Tensor, half: Tensor, reference: Tensor, valid: Tensor) -> Tensor:
        """The 12 channels, where the gate is open as the reference shows them."""
        assert self.copies is not None
        picture, gate, _ = (each.transpose(1, 2) for each in self.copies(half, reference * valid, valid))
        made = made.unflatten(1, (4, 3))
        return (made + gate * (255 * picture - made)).flatten(1, 2)

    def _correction(self, made: Tensor, known: Tensor) -> Tensor:
        """For the 12 channels of 2x2 pixels, out of those that were made and those that are known."""
        is_known = (known + 255).clamp(0, 1)
        apart = ((known - made) * is_known).clamp(-255 * MOST_APART, 255 * MOST_APART)
        return carried_on(self.average(apart), self.average(is_known)).repeat(1, 4, 1, 1)


def doubled(x: Tensor) -> Tensor:
    """NCHW with four pixels' channels one after the other, to NHWC of twice the size."""
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(batch, height, width, 2, channels // 2).permute(0, 1, 3, 2, 4)
    return rows.reshape(batch, 2 * height, 2 * width, channels // 4)


def fixed_conv(weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """A convolution that is given, not learned."""
    outputs, inputs, *kernel = weight.shape
    made = nn.Conv2d(inputs, outputs, tuple(kernel), stride, padding, bias=bias is not None)
    made.weight.data = weight.detach().clone().contiguous()
    if made.bias is not None and bias is not None:
        made.bias.data = bias.detach().clone()
    return made.requires_grad_(False)


def _sharp(mask: Tensor) -> Tensor:
    """0 below 128, else 255."""
    return ((mask - 127) * 255).clamp(0, 255)


def _gather() -> nn.Conv2d:
    """Each 2x2 pixels' 8 channels, pixel by pixel; of a picture 0 or less where it does not count."""
    weight, bias = torch.zeros(4, 8, 8, 2, 2), torch.zeros(4, 8)
    for pixel in range(4):
        for channel in range(8):
            weight[pixel, channel, channel, pixel // 2, pixel % 2] = 1
        weight[pixel, _FACE, _HIDDEN, pixel // 2, pixel % 2] = -1
        weight[pixel, _REFERENCE, _VALID, pixel // 2, pixel % 2] = 1
        bias[pixel, _REFERENCE] = -255
    return fixed_conv(weight.flatten(0, 1), bias.flatten(), stride=2)


def _halve() -> nn.Conv2d:
    """The 8 channels at half size, in 256ths: a picture's mean, 0 or less where it does not count at all four pixels.

    Hidden is 255 or more where one of four pixels is; valid is 255 where all are, else 0 or less.
    """
    weight, bias = torch.zeros(8, 4, 8, 1, 1), torch.zeros(8)
    for channel in (*_FACE, *_REFERENCE):
        weight[channel, :, channel] = 1 / 4
    weight[_FACE, :, _HIDDEN] = -1
    weight[_REFERENCE, :, _VALID], bias[list(_REFERENCE)] = 1, -4 * 255
    weight[_HIDDEN, :, _HIDDEN] = 1
    weight[_VALID, :, _VALID], bias[_VALID] = 1, -3 * 255
    return fixed_conv(weight.flatten(1, 2) / 256, bias / 256)


def _edges() -> nn.Conv2d:
    """The Laplacian of the face's luma at the first of each 4x4 pixels, out of the gathered channels."""
    weight = torch.zeros(4, 8, 3, 3)
    weight[0, _FACE, 1, 1] = -4 * torch.tensor(LUMA)
    for pixel, row, column in ((2, 0, 1), (2, 1, 1), (1, 1, 0), (1, 1, 1)):  # above, below, left, right
        weight[pixel, _FACE, row, column] = torch.tensor(LUMA)
    return fixed_conv(weight.flatten(0, 1)[None], stride=2, padding=1)


def _keep() -> nn.Conv2d:
    """The face's three channels for each of four pixels, out of the gathered ones; -255 where it is hidden."""
    weight = torch.zeros(4, 3, 4, 8, 1, 1)
    for pixel in range(4):
        weight[pixel, :, pixel, _FACE] = torch.eye(3)[..., None, None]
        weight[pixel, :, pixel, _HIDDEN] = -1
    return fixed_conv(weight.flatten(2, 3).flatten(0, 1))


def _in_256ths(coarse: CoarseUNet) -> CoarseUNet:
    """The same net for channels of 0..255/256; it gives its picture once for each of four pixels."""
    changed = copy.deepcopy(coarse)
    changed.stem[0].weight.data *= 256 / 255
    changed.full[0].weight.data[:, -8:] *= 256 / 255
    head = changed.head
    changed.head = fixed_conv(head.weight.repeat(4, 1, 1, 1), head.bias.repeat(4), padding=1)
    return changed


def _folded(layer: nn.Module) -> nn.Conv2d:
    """The convolution of a `conv`, its batch norm worked into it."""
    convolution, norm, _ = copy.deepcopy(layer).eval().children()
    return fuse_conv_bn_eval(convolution, norm)
