"""Embeds a face as a vector of its identity with the `embed` network, even if it is partly hidden."""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engines.base import InferenceEngine
from engines.contract import Image
from occlufix_vcam.core.frame import Crop

Embedding: TypeAlias = NDArray[np.float32]

#: A cosine with a known face that is this far below the threshold counts as evidence against that person.
DOUBT_BELOW = 0.15


class Embedder(Protocol):
    """Embeds a crop and its mask: FaceEmbedder, or a fake.

    `model` identifies the network; vectors of it with a cosine of at least `same_person` are one person's.
    """

    @property
    def model(self) -> str: ...

    @property
    def same_person(self) -> float: ...

    def __call__(self, crop: Crop, mask: Image) -> Embedding: ...


class FaceEmbedder:
    """Runs the network. Used by one thread."""

    def __init__(self, engine: InferenceEngine, same_person: float, model: str = "embed") -> None:
        self._engine = engine
        self.same_person = same_person
        self.model = model

    def __call__(self, crop: Crop, mask: Image) -> Embedding:
        """Embedding of the face: 128 float32 of length 1. Pixels that `mask` (256x256 uint8) marks as hidden have no
        effect.

        Raises EngineRunError.
        """
        found = self._engine.run({"face": crop.image[None], "mask": mask[None, ..., None]})["embedding"]
        return found.reshape(-1).astype(np.float32)  # a copy, because the engine reuses its arrays


def cosine(a: Embedding, b: Embedding) -> float:
    """Cosine of two vectors of length 1: about 1 for the same image, about 0 for strangers."""
    return float(a @ b)
