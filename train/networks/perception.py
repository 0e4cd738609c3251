"""What the perceptual and the style loss see with: frozen ImageNet networks, rebuilt from files on this machine.

VGG16 is the method's own. Its file can't be had everywhere: SqueezeNet then stands in, and every figure names which one
it was. Each backbone takes NCHW BGR in 0..1 and gives a list of features, fine to coarse.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from train.data.face_set import DataError


class SqueezeNetFeatures(nn.Module):
    """SqueezeNet 1.0 (F. Iandola et al., 2016), read from the initialisers of an ONNX file."""

    name = "squeezenet"
    FILE = "squeezenet_v1.0_imagenet_fp16.onnx"
    LAYERS = ("fire3", "fire5", "fire7", "fire9")
    #: How many channels each of the layers has.
    WIDTHS = (128, 256, 384, 512)
    _FIRES = (2, 3, 4, 5, 6, 7, 8, 9)
    _POOL_BEFORE = ("fire2", "fire5", "fire9")

    def __init__(self, file: Path) -> None:
        super().__init__()
        if not file.is_file():
            raise DataError(f"the perceptual loss needs {file}; give the data folder that holds it with --data")
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


class Vgg16Features(nn.Module):
    """VGG16 (K. Simonyan and A. Zisserman, 2015) up to relu4_3, read from torchvision's official ImageNet weights."""

    name = "vgg16"
    #: The end of the name is the beginning of the file's SHA-256, as torchvision names its files.
    FILE = "vgg16-397923af.pth"
    #: Width of each convolution by its number in torchvision's `features`; a pool stands before those in _POOL_BEFORE.
    _CONVOLUTIONS: ClassVar[dict[int, tuple[int, int]]] = {
        0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256),
        17: (256, 512), 19: (512, 512), 21: (512, 512),
    }  # fmt: skip
    _POOL_BEFORE = (5, 10, 17)
    #: relu1_2, relu2_2, relu3_3, relu4_3
    _LAYERS = (2, 7, 14, 21)
    WIDTHS = (64, 128, 256, 512)

    def __init__(self, file: Path, sha256_start: str | None = "397923af") -> None:
        super().__init__()
        if not file.is_file():
            raise DataError(f"{file} is missing: put torchvision's official {self.FILE} there")
        if sha256_start and not hashlib.sha256(file.read_bytes()).hexdigest().startswith(sha256_start):
            raise DataError(f"{file} is not the official {self.FILE} (its SHA-256 differs): download it again")
        state = torch.load(file, map_location="cpu", weights_only=True)
        for number in self._CONVOLUTIONS:
            self.register_buffer(f"w{number}", state[f"features.{number}.weight"].float())
            self.register_buffer(f"b{number}", state[f"features.{number}.bias"].float())
        self.register_buffer("mean_rgb", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("deviation_rgb", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = (x.flip(1) - self.mean_rgb) / self.deviation_rgb
        features: list[Tensor] = []
        for number in self._CONVOLUTIONS:
            if number in self._POOL_BEFORE:
                x = F.max_pool2d(x, 2)
            x = F.relu(F.conv2d(x, getattr(self, f"w{number}"), getattr(self, f"b{number}"), padding=1))
            if number in self._LAYERS:
                features.append(x)
        return features


BACKBONES: dict[str, type[Vgg16Features] | type[SqueezeNetFeatures]] = {
    "vgg16": Vgg16Features,
    "squeezenet": SqueezeNetFeatures,
}


def choose_backbone(choice: str, data: Path) -> type[Vgg16Features] | type[SqueezeNetFeatures]:
    """The backbone called `choice`; `auto` is VGG16 where its file is and SqueezeNet where it is not.

    Files lie in `data`/weights; torch's own download folder is looked into as well. Raises DataError.
    """
    if choice == "auto":
        choice = "vgg16" if _place(Vgg16Features.FILE, data).is_file() else "squeezenet"
    if choice not in BACKBONES:
        raise DataError(f"there is no backbone `{choice}`; there are: auto, {', '.join(BACKBONES)}")
    return BACKBONES[choice]


def load_backbone(choice: str, data: Path) -> Vgg16Features | SqueezeNetFeatures:
    """The chosen backbone with its weights. Raises DataError."""
    backbone = choose_backbone(choice, data)
    return backbone(_place(backbone.FILE, data))


def _place(file: str, data: Path) -> Path:
    downloaded = Path(torch.hub.get_dir()) / "checkpoints" / file
    return downloaded if downloaded.is_file() else data / "weights" / file
