"""Recipes: everything that decides what a run of `python -m train fit` does, for each network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """`size_px` is the side of a training picture; `steps` the length of the whole run, over all its resumes.

    `batch` is shared by all processes of a run. `weights` sets the final weight of losses by name, 0 leaves one out;
    the others keep the task's own. `backbone` is what the perceptual loss sees with (train/networks/perception.py).
    `attention`, `blocks` and `copy` are parts of the restorer (train/networks/unet.py); `copy_alone` trains nothing
    but the last one, with a reference in every sample. `another` is how often that is another photograph of the
    person, where there is one, instead of the same one, bent and relit. `much_hidden` is the share of samples of whose
    face little is seen. `adversary` is how its discriminators and it play against each other (ADVERSARIES in
    train/losses.py), `adversaries_from` the share of the run from which they count. With `full_weights` all other
    losses have their final weight from the first step on: a trained network has its structure already. The learning
    rate rises over `warm_up` steps. With `freeze_statistics` batch norm keeps and uses the statistics that the network
    has, instead of those of each batch.
    """

    network: str
    name: str
    steps: int
    batch: int
    size_px: int
    learning_rate: float = 4e-4
    warm_up: int = 200
    freeze_statistics: bool = False
    ema_decay: float = 0.998
    workers: int = 1
    threads: int = 2
    save_every_s: float = 120.0
    seed: int = 1
    autocast: Literal["auto", "bf16", "fp16", "off"] = "auto"
    device: str = "auto"
    compile: bool = False
    backbone: str = "auto"
    weights: Mapping[str, float] = field(default_factory=dict)
    attention: bool = False
    blocks: int = 0
    copy: bool = False
    copy_alone: bool = False
    another: float = 0.75
    much_hidden: float = 0.0
    adversary: str = "hinge"
    adversaries_from: float | None = None
    full_weights: bool = False

    def but(self, **changes: object) -> Recipe:
        """The same recipe with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


RECIPES: dict[tuple[str, str], Recipe] = {
    ("restore", "debug"): Recipe(
        "restore", "debug", steps=12, batch=2, size_px=64, workers=0, threads=1, save_every_s=1e9
    ),
    ("restore", "base"): Recipe("restore", "base", steps=7_000, batch=16, size_px=128),
    ("restore", "full"): Recipe("restore", "full", steps=200_000, batch=16, size_px=256, learning_rate=2e-4),
    ("restore", "vit"): Recipe("restore", "vit", steps=7_000, batch=16, size_px=128, blocks=5),
    ("hidden", "debug"): Recipe(
        "hidden", "debug", steps=12, batch=2, size_px=64, workers=0, threads=1, save_every_s=1e9, learning_rate=2e-3
    ),
    ("hidden", "base"): Recipe("hidden", "base", steps=7_500, batch=16, size_px=416, learning_rate=2e-3),
    ("faces", "debug"): Recipe(
        "faces", "debug", steps=12, batch=4, size_px=192, learning_rate=2e-3, workers=0, threads=1, save_every_s=1e9
    ),
    ("faces", "base"): Recipe(
        "faces", "base", steps=9_000, batch=32, size_px=192, learning_rate=2e-3, workers=0, threads=1
    ),
    ("embed", "debug"): Recipe(
        "embed", "debug", steps=12, batch=4, size_px=128, learning_rate=2e-3, workers=0, save_every_s=1e9
    ),
    ("embed", "base"): Recipe(
        "embed", "base", steps=11_000, batch=64, size_px=128, learning_rate=2e-3, workers=0, threads=1
    ),
}
