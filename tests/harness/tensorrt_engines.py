"""How tests load engines on the stand-in of TensorRT, and see that they compute."""

from __future__ import annotations

import numpy as np

from engines import (
    EngineOptions,
    InferenceEngine,
)

TENSORRT = EngineOptions(backend="tensorrt")
IN_BACKGROUND = EngineOptions(wait_for_build=False)


def works(engine: InferenceEngine) -> bool:
    """Whether it computes, and not only claims to: the tiny segmenter gives the brightest colour."""
    face = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    return bool((engine.run({"face": face})["hidden"][..., 0] == face.max(axis=3)).all())
