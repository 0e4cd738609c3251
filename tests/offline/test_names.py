"""File names that another system, or a person in a hurry, comes up with."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from occlufix_vcam.core.media.pictures import load_picture
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.offline.process import StageOverrides, process

NAMES = [
    "12:30.png",
    "-dash.png",
    "ünï.png",
    " spaces .png",
    "CON.png",
    "\ufeffmark.png",
    "new\nline.png",
    "x" * 251 + ".png",
]


@pytest.mark.skipif(sys.platform != "linux", reason="such names are Linux's")
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_picture_of_any_name_is_read_and_written(name: str, tmp_path: Path) -> None:
    source = tmp_path / name
    source.write_bytes(cv2.imencode(".png", np.full((48, 64, 3), 90, np.uint8))[1].tobytes())
    target = tmp_path / "out" / name
    target.parent.mkdir()
    told = process(source, target, StageOverrides(), Settings(backend="fake"), lambda *_: None)
    assert [one.error for one in told.files] == [None]
    assert (load_picture(target) == 90).all()
