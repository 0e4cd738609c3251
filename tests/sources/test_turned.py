"""Pictures that are turned before anything looks at them."""

from __future__ import annotations

import numpy as np
import pytest

from occlufix_vcam.assembly import open_camera
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.sources.turned import RotatedSource
from tests.harness.fakes import ScriptedCamera

#: Four corners: 1 2 / 3 4.
CORNERS = np.array([[1, 2], [3, 4]], np.uint8)


@pytest.mark.parametrize(
    ("rotate", "flip", "corners"),
    [
        (0, True, [[3, 4], [1, 2]]),
        (90, False, [[3, 1], [4, 2]]),
        (180, False, [[4, 3], [2, 1]]),
        (270, False, [[2, 4], [1, 3]]),
        (90, True, [[1, 3], [2, 4]]),
    ],
)
def test_pictures_are_flipped_then_rotated_clockwise(rotate: int, flip: bool, corners: list[list[int]]) -> None:
    camera = ScriptedCamera(size=(4, 2))
    camera.give(np.repeat(CORNERS, 2, axis=1)[..., None].repeat(3, axis=2))
    turned = RotatedSource(camera, rotate, flip)
    frame = turned.read(0.1)
    assert frame is not None and not frame.image.flags.writeable and frame.image.flags.c_contiguous
    height, width = frame.image.shape[:2]
    assert turned.size == (width, height)
    assert frame.image[:: height - 1, :: width - 1, 0].tolist() == corners
    turned.close()
    assert camera.closed.is_set()


def test_nothing_new_stays_nothing() -> None:
    turned = RotatedSource(ScriptedCamera(), 90, False)
    assert turned.read(0.0) is None and turned.rate == 100.0 and turned.description == "scripted camera"


def test_the_settings_turn_every_source() -> None:
    source = open_camera(Settings().but(source="demo", rotate=90))
    assert source.size == (720, 1280)
    source.close()
