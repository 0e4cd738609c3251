"""A frozen network that was taught by ImageNet: it knows things and hands better than few photographs can teach.

The first layers of MobileNet v1 (A. Howard et al., 2017), batch norm folded into the convolutions. Their weights are
read from `DATA/weights`; without that file they start at random and learn like everything else.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

WEIGHTS = Path("weights/mobilenet_v1_imagenet_to_conv5_6_fp16.onnx")
#: Each layer's name in that file, its output channels and stride.
_LAYERS = (
    ("conv2_1", 64, 1),
    ("conv2_2", 128, 2),
    ("conv3_1", 128, 1),
    ("conv3_2", 256, 2),
    ("conv4_1", 256, 1),
    ("conv4_2", 512, 2),
    ("conv5_1", 512, 1),
    ("conv5_2", 512, 1),
    ("conv5_3", 512, 1),
)
_STEM = "conv1"
#: Layers whose features are given on: the last of 1/4, 1/8 and 1/16 of the side.
_GIVEN = (2, 4, 8)
#: Width of what is given on.
GIVEN_WIDTHS = tuple(_LAYERS[number][1] for number in _GIVEN)
#: What ImageNet's pictures have in common, blue, green and red in 0..255, and the scale they were taught with.
_MEAN, _SCALE = (103.94, 116.78, 123.68), 0.017


class ImageNetEncoder(nn.Module):
    """NCHW BGR in 0..1 to features of 1/4, 1/8 and 1/16 of its side, GIVEN_WIDTHS wide."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        widths = [32, *(width for _, width, _ in _LAYERS)]
        strides = [stride for _, _, stride in _LAYERS]
        self.stem = nn.Conv2d(3, widths[0], 3, 2, 1)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride, 1, groups=width) for width, stride in zip(widths, strides, strict=False)
        )
        self.pointwise = nn.ModuleList(nn.Conv2d(before, after, 1) for before, after in pairwise(widths))
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1) / 255, persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        y = F.relu(self.stem((x - self.mean) * (255 * _SCALE)))
        given = []
        for number, (depthwise, pointwise) in enumerate(zip(self.depthwise, self.pointwise, strict=True)):
            y = F.relu(pointwise(F.relu(depthwise(y))))
            if number in _GIVEN:
                given.append(y)
        return given

    def read(self, data: Path) -> None:
        """Takes the weights from a data folder and freezes them; leaves all as it is where it has none."""
        if not (data / WEIGHTS).is_file():
            return
        stored = {each.name: numpy_helper.to_array(each) for each in onnx.load(str(data / WEIGHTS)).graph.initializer}
        parts = {_STEM: self.stem}
        for (name, _, _), depthwise, pointwise in zip(_LAYERS, self.depthwise, self.pointwise, strict=True):
            parts |= {f"{name}_dw": depthwise, f"{name}_sep": pointwise}
        for name, part in parts.items():
            part.weight.data.copy_(torch.from_numpy(stored[f"{name}_w_h"].copy()))
            part.bias.data.copy_(torch.from_numpy(stored[f"{name}_b"].copy()))
        self.requires_grad_(False)
