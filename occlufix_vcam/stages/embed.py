"""Whose face it is, as a vector: the `embed` network's word, also about a face that is partly hidden."""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engines.base import InferenceEngine
from engines.contract import Image
from occlufix_vcam.core.frame import Crop

Embedding: TypeAlias = NDArray[np.float32]

#: A vector whose cosine with a known face is this far below that of one person speaks against that person.
DOUBT_BELOW = 0.15


class Embedder(Protocol):
    """A crop and its mask to a vector: FaceEmbedder, or a fake.

    `model` says which network it asks; vectors of it that are as similar as `same_person` are one person's.
    """

    @property
    def model(self) -> str: ...

    @property
    def same_person(self) -> float: ...

    def __call__(self, crop: Crop, mask: Image) -> Embedding: ...


class FaceEmbedder:
    """Asks the network. Used by one thread."""

    def __init__(self, engine: InferenceEngine, same_person: float, model: str = "embed") -> None:
        self._engine = engine
        self.same_person = same_person
        self.model = model

    def __call__(self, crop: Crop, mask: Image) -> Embedding:
        """The face's vector: 128 float32 of length 1. What `mask` (256x256 uint8) says is hidden has no effect.

        Raises EngineRunError.
        """
        found = self._engine.run({"face": crop.image[None], "mask": mask[None, ..., None]})["embedding"]
        return found.reshape(-1).astype(np.float32)  # a copy: the engine uses its arrays again


def cosine(a: Embedding, b: Embedding) -> float:
    """The cosine of two vectors of length 1: about 1 for one picture twice, about 0 for strangers."""
    return float(a @ b)
