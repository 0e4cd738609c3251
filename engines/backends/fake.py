"""An engine without a network, for tests and for machines too slow for one. Same inputs and outputs, no model file.

It restores with the mean of what is known, marks nothing as hidden and finds no face.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.base import BufferedEngine, EngineOptions, TensorSpec, static_shape
from engines.contract import HIDDEN
from engines.errors import EngineUnavailable
from engines.manifest import Model


class FakeEngine(BufferedEngine):
    """Inputs and outputs from models.toml; every output that is not `restored` stays zero."""

    backend = "fake"

    def __init__(self, model: Model, device: str, options: EngineOptions) -> None:
        if not model.inputs:
            raise EngineUnavailable(f"The fake engine knows no inputs of {model.name}", "Give a model by its name.")
        shapes = {name: options.input_shapes.get(name, shape) for name, shape in model.inputs.items()}
        inputs = [
            TensorSpec(name, static_shape(name, [None] * len(promised), shapes[name]), "uint8")
            for name, promised in model.inputs.items()
        ]
        dtype = "float32" if model.name in ("faces", "embed") else "uint8"
        picture = next(iter(model.inputs))
        outputs = [
            TensorSpec(name, _grown(shape, model.inputs[picture], shapes[picture]), dtype)
            for name, shape in model.outputs.items()
        ]
        super().__init__(device, "none", inputs, outputs)

    @staticmethod
    def devices() -> Sequence[str]:
        return ("none",)

    def _execute(self) -> None:
        if "restored" not in self._results:
            return
        np.copyto(self._results["restored"], self._feeds["face"])
        for picture, mask in zip(self._results["restored"], self._feeds["mask"], strict=True):
            hidden = mask[..., 0] == HIDDEN
            if not hidden.all():
                picture[hidden] = picture[~hidden].mean(axis=0).round()

    def _release(self) -> None:
        pass


def _grown(shape: tuple[int, ...], promised: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """An output's shape when the picture (NHWC) is `wanted` instead of `promised`: maps grow with it."""
    if len(shape) < len(promised):
        return (wanted[0], *shape[1:])
    sizes = zip(shape[:3], promised[:3], wanted[:3], strict=True)
    return tuple(size * new // old for size, old, new in sizes) + shape[3:]
