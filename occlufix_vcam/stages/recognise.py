"""Whose face it is, as a vector: the `embed` network's word, also about a face that is partly hidden."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from engines.base import InferenceEngine
from engines.contract import Image
from occlufix_vcam.frame import Crop

Embedding: TypeAlias = NDArray[np.float32]

#: Two vectors this similar are one person's, whatever is hidden. It belongs to the network that ships: `threshold` of
#: `python -m train eval embed`, chosen on people it was not trained on so that one stranger in ten thousand passes.
#: Until a network ships this is a placeholder, and nobody is recognised.
SAME_PERSON = 0.5
#: A look at a face that is known which finds less than this speaks against it.
DOUBT = SAME_PERSON - 0.15


class Recogniser:
    """Asks the network. Used by one thread. `model` names the network whose vectors these are."""

    def __init__(self, engine: InferenceEngine, model: str = "embed") -> None:
        self._engine = engine
        self.model = model

    def __call__(self, crop: Crop, mask: Image) -> Embedding:
        """The face's vector: 128 float32 of length 1. What `mask` (256x256 uint8) says is hidden has no effect.

        Raises EngineRunError.
        """
        found = self._engine.run({"face": crop.image[None], "mask": mask[None, ..., None]})["embedding"]
        return found.reshape(-1).astype(np.float32)  # a copy: the engine uses its arrays again


def similarity(a: Embedding, b: Embedding) -> float:
    """The cosine of two vectors of length 1: about 1 for one picture twice, about 0 for strangers."""
    return float(a @ b)
