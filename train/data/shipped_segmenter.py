"""The segmenter that ships, as training asks it."""

from __future__ import annotations

import sys
from functools import cached_property
from multiprocessing import parent_process

import numpy as np

from engines.base import EngineOptions, Precision
from engines.contract import WIDE_PX, Image
from engines.manifest import MODELS
from train.data.portraits import surrounded
from train.data.product_mask import LEAST_COVERAGE, covered_share, is_hidden
from train.data.wide import template_part
from train.onnx_runner import Runner, onnx_runner


class ShippedSegmenter:
    """Says what is hidden. Each process opens the network for itself, when it first needs it.

    It runs on the best backend of the machine; figures that machines are to share ask for `fp32`.
    """

    def __init__(self, threads: int = 1, precision: Precision = "auto") -> None:
        self._threads, self._precision = threads, precision

    def probability(self, face: Image) -> Image:
        """The probability x 255 for a picture of the template, whose surroundings are not known: 256x256."""
        return template_part(self._look(surrounded(face)))

    def mask(self, face: Image) -> Image:
        """What of a picture of the template is hidden: 256x256."""
        return is_hidden(self.probability(face))

    def is_bare(self, picture: Image) -> bool:
        """Whether nothing is found before the face, in a picture of the template or of the wide field."""
        wide = picture if picture.shape[0] == WIDE_PX else surrounded(picture)
        return covered_share(is_hidden(template_part(self._look(wide)))) < LEAST_COVERAGE

    def _look(self, wide: Image) -> Image:
        return np.array(self._network({"face": wide[None]})["hidden"][0, ..., 0])

    def __getstate__(self) -> dict[str, object]:
        return {"_threads": self._threads, "_precision": self._precision}

    @cached_property
    def _network(self) -> Runner:
        # OpenVINO's threads are not there after a fork: a worker of a process that has used it would wait for ever.
        forked = parent_process() is not None and "openvino" in sys.modules
        try:
            if not forked:
                from engines.loader import load

                options = EngineOptions(precision=self._precision, threads=self._threads, wait_for_build=False)
                return load("hidden", options).run
        except ModuleNotFoundError:  # a rented machine has ONNX Runtime and not all that the product needs
            pass
        return onnx_runner(MODELS / "hidden.fp32.onnx", self._threads)
