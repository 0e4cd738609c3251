"""A restorer that is small enough to export and quantise in a test."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from engines.contract import CROP_PX
from train.networks.unet import RestoreUNet
from train.networks.unet_export import RestoreExport
from train.task import ModelIO

PICTURE, MASK = (1, CROP_PX, CROP_PX, 3), (1, CROP_PX, CROP_PX, 1)
SHAPES = {"face": PICTURE, "mask": MASK, "reference": PICTURE, "reference_mask": MASK}


class SmallRestorer:
    """A restorer with few channels, the same each time."""

    name = "restore"
    optimizers: Mapping[str, torch.optim.Optimizer] = {}

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.modules = {"network": RestoreUNet(widths=(8, 8, 16, 16, 16))}

    def model_io(self, network: RestoreUNet) -> ModelIO:
        return ModelIO(RestoreExport(network), SHAPES, {"restored": PICTURE}, {name: {0: "batch"} for name in SHAPES})
