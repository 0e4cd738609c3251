"""Masks as people and programs write them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.media.pictures import Pixels
from occlufix_vcam.offline.masks import read_mask

HOLE = np.zeros((24, 32), bool)
HOLE[8:16, 4:20] = True
PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def painted(value: int, dtype: type = np.uint8) -> Pixels:
    return (HOLE * value).astype(dtype)


def with_alpha(colours: Pixels, opaque: np.ndarray) -> Pixels:
    return np.dstack([colours, (opaque * 255).astype(np.uint8)])


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(painted(255), id="white"),
        pytest.param(painted(1), id="0 and 1"),
        pytest.param(painted(38), id="a dark label"),
        pytest.param(painted(1, np.uint16), id="a label of 16 bits"),
        pytest.param(painted(65535, np.uint16), id="white of 16 bits"),
        pytest.param(np.dstack([painted(0), painted(0), painted(255)]), id="red"),
        pytest.param(with_alpha(np.zeros((24, 32, 3), np.uint8), HOLE), id="black, marked in alpha"),
        pytest.param(with_alpha(np.full((24, 32, 3), 255, np.uint8), HOLE), id="white, marked in alpha"),
        pytest.param(with_alpha(PHOTOGRAPH, ~HOLE), id="a hole in a photograph"),
        pytest.param(with_alpha(np.dstack([painted(255)] * 3), np.ones((24, 32), bool)), id="white, all of it opaque"),
    ],
)
def test_what_is_marked_is_hidden(tmp_path: Path, mask: Pixels) -> None:
    assert cv2.imwrite(str(tmp_path / "mask.png"), mask)
    hidden = read_mask(tmp_path / "mask.png", Path("in.png"), (32, 24))
    assert np.array_equal(hidden > 0, HOLE) and set(np.unique(hidden)) == {0, 255}


def test_a_lossy_mask_has_no_specks(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "mask.jpg"), painted(255), [cv2.IMWRITE_JPEG_QUALITY, 40])
    hidden = read_mask(tmp_path / "mask.jpg", Path("in.png"), (32, 24))
    assert (hidden.astype(bool) ^ HOLE).mean() < 0.03


@pytest.mark.parametrize("mask", [painted(0), with_alpha(PHOTOGRAPH, np.zeros((24, 32), bool)) * 0])
def test_a_mask_that_marks_nothing_is_wrong_usage(tmp_path: Path, mask: Pixels) -> None:
    assert cv2.imwrite(str(tmp_path / "mask.png"), mask)
    with pytest.raises(ConfigError, match="marks nothing"):
        read_mask(tmp_path / "mask.png", Path("in.png"), (32, 24))
