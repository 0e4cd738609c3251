"""The restorer: the network that paints what the mask hides."""

from __future__ import annotations

import numpy as np

from engines.base import InferenceEngine
from engines.contract import CROP_PX
from occlufix_vcam.frame import HiddenCrop, Patch
from occlufix_vcam.stages.memory import Reference


class Restorer:
    """Feeds the `restore` network through its doors. Used by one thread."""

    def __init__(self, engine: InferenceEngine) -> None:
        self._engine = engine

    def __call__(self, hidden: HiddenCrop, reference: Reference) -> Patch:
        """The hidden part restored; the known pixels are the crop's own. Raises EngineRunError."""
        restored = self._engine.run(
            {
                "face": hidden.crop.image[None],
                "mask": hidden.mask[None, ..., None],
                "reference": reference.image[None],
                "reference_mask": reference.mask[None, ..., None],
            }
        )["restored"]
        # The engine reuses its outputs, and a second face's patch is made before the first one is blended.
        image = restored.reshape(CROP_PX, CROP_PX, 3).astype(np.uint8)
        return Patch(hidden.crop, hidden.mask, image)
