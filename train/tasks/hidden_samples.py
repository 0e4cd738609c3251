"""What the segmenter learns from: photographs of faces that really are hidden, and composites for the variety."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from train.data.photographs import Photographs
from train.occlusion.transplants import Transplants
from train.tasks.hidden_data import CompositeSamples, SegmentationSample
from train.tasks.live_view import live_view

#: How many samples are photographs as they are, where there are any: they are few, but nothing else is like them.
REAL_SHARE = 0.5
#: How many of the others have a real thing before another face, where there are any.
TRANSPLANTED_SHARE = 0.35


class SegmentationSamples:
    """Photographs, transplants and composites for training. Without photographs all are composites."""

    def __init__(self, data: Path) -> None:
        self._photographs = Photographs(data, "train")
        self._transplants = Transplants(self._photographs)
        self._composites = CompositeSamples(data, "train")

    def random(self, rng: np.random.Generator, size: int) -> SegmentationSample:
        """One sample, `size` pixels a side."""
        if not self._photographs:
            return self._composites.random(rng, size)
        if rng.random() < REAL_SHARE:
            return live_view(self._photographs.draw(rng), rng, size)
        hide = self._transplants if rng.random() < TRANSPLANTED_SHARE else None
        return self._composites.random(rng, size, hide)
