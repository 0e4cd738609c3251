"""The restorer feeds the contract's doors, and its patch outlives the engine's next run."""

from __future__ import annotations

import numpy as np

from engines.contract import CROP_PX, TEMPLATE
from occlufix_vcam.frame import Crop, FaceTrack, HiddenCrop
from occlufix_vcam.stages.memory import Reference
from occlufix_vcam.stages.restore import Restorer


class Negative:
    """Gives the face's negative in one array that every run overwrites, and keeps what it was fed."""

    backend = device = precision = "fake"
    inputs = outputs = passed_over = ()

    def __init__(self) -> None:
        self._restored = np.zeros((1, CROP_PX, CROP_PX, 3), np.uint8)

    def run(self, feeds):
        self.fed = dict(feeds)
        np.subtract(255, feeds["face"], out=self._restored)
        return {"restored": self._restored}

    def close(self) -> None: ...


def hidden_crop(value: int) -> HiddenCrop:
    image = np.full((CROP_PX, CROP_PX, 3), value, np.uint8)
    crop = Crop(FaceTrack(1, TEMPLATE, 1.0), image, np.eye(2, 3, dtype=np.float32))
    return HiddenCrop(crop, np.full((CROP_PX, CROP_PX), 255, np.uint8), 1.0)


def test_every_door_gets_its_picture():
    engine, hidden = Negative(), hidden_crop(50)
    reference = Reference(np.full((CROP_PX, CROP_PX, 3), 9, np.uint8), np.full((CROP_PX, CROP_PX), 255, np.uint8))
    patch = Restorer(engine)(hidden, reference)
    assert {name: (array.shape, array.dtype) for name, array in engine.fed.items()} == {
        "face": ((1, CROP_PX, CROP_PX, 3), np.uint8),
        "mask": ((1, CROP_PX, CROP_PX, 1), np.uint8),
        "reference": ((1, CROP_PX, CROP_PX, 3), np.uint8),
        "reference_mask": ((1, CROP_PX, CROP_PX, 1), np.uint8),
    }
    assert all(array.flags.c_contiguous for array in engine.fed.values())
    assert (engine.fed["reference"] == 9).all() and (engine.fed["reference_mask"] == 255).all()
    assert patch.crop is hidden.crop and patch.mask is hidden.mask
    assert (patch.image == 205).all()


def test_a_patch_outlives_the_next_run():
    restore = Restorer(Negative())
    reference = Reference(np.zeros((CROP_PX, CROP_PX, 3), np.uint8), np.zeros((CROP_PX, CROP_PX), np.uint8))
    first = restore(hidden_crop(50), reference)
    restore(hidden_crop(90), reference)
    assert (first.image == 205).all()
