"""What fills holes: classical inpainting, and restorers without and with a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import cv2
import numpy as np

from engines.contract import Image
from train.evaluation.restoration.cases import EvalCase
from train.onnx_runner import Runner

WITH_REFERENCE = " + reference"

Method = Callable[[EvalCase], Image | None]
"""Fills the hole of a case; None where it can't, as there is no reference."""


def methods_of(runners: Mapping[str, Runner]) -> dict[str, Method]:
    """The baselines, then each restorer without and with a reference."""
    methods: dict[str, Method] = {
        "masked input": lambda case: case.hollow,
        "telea": lambda case: cv2.inpaint(case.hollow, case.hole, 5, cv2.INPAINT_TELEA),
        "ns": lambda case: cv2.inpaint(case.hollow, case.hole, 5, cv2.INPAINT_NS),
    }
    for name, run in runners.items():
        methods[name] = partial(_restored, run)
        methods[name + WITH_REFERENCE] = partial(_restored_with_reference, run)
    return methods


def restore(
    run: Runner, face: Image, hole: Image, reference: Image | None = None, reference_valid: Image | None = None
) -> Image:
    """One picture restored by an exported network, or one with the same uint8 inputs."""
    if reference is None or reference_valid is None:
        reference, reference_valid = np.zeros_like(face), np.zeros_like(hole)
    feeds = {
        "face": face,
        "mask": hole[:, :, None],
        "reference": reference,
        "reference_mask": reference_valid[:, :, None],
    }
    return run({name: feed[None] for name, feed in feeds.items()})["restored"][0]


def _restored(run: Runner, case: EvalCase) -> Image:
    return restore(run, case.face, case.hole)


def _restored_with_reference(run: Runner, case: EvalCase) -> Image | None:
    if case.reference is None:
        return None
    return restore(run, case.face, case.hole, case.reference, case.reference_mask)
