"""The smallest thing to train, y = 3x, and a program that trains it: what is killed, and what torchrun starts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from train import loop
from train.config import Recipe
from train.hardware import ScaledOptimizer, autocast, check_finite, descend, detached

RECIPE = Recipe(
    "restore", "line", steps=400, batch=8, size_px=1, learning_rate=0.1, workers=0, threads=1, autocast="off"
)


class Line:
    """Learns y = 3x."""

    name = "restore"

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self._recipe = recipe
        self.modules: dict[str, nn.Module] = {"network": nn.Linear(1, 1)}
        self.optimizers: dict[str, torch.optim.Optimizer | ScaledOptimizer] = {
            "network": torch.optim.Adam(self.modules["network"].parameters(), recipe.learning_rate)
        }

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        x = rng.normal(0, 1, (1,)).astype(np.float32)
        return {"x": x, "y": 3 * x}

    def train_step(self, batch: Mapping[str, Tensor], progress: float) -> dict[str, Tensor]:
        with autocast(self._recipe):
            made = self.modules["network"](batch["x"])
        loss = (made.float() - batch["y"]).square().mean()
        check_finite({"square": loss})
        descend(loss, self.optimizers["network"], self.modules["network"])
        return detached({"square": loss})


if __name__ == "__main__":
    slowly = RECIPE.but(steps=int(sys.argv[2]), save_every_s=0.0)
    loop.fit(Line(slowly), slowly, Path(sys.argv[1]), console=Console())
