"""Pictures go out in the depth and format in which they came."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from occlufix_vcam.core.errors import SinkUnavailable
from occlufix_vcam.media.picture_writer import encode, put_into, write_file


def test_what_is_put_into_16_bits_spans_the_whole_range() -> None:
    pixels = np.full((2, 2, 3), 1000, np.uint16)
    before = (pixels >> 8).astype(np.uint8)
    after = before.copy()
    after[0, 0] = (0, 128, 255)
    result = put_into(pixels, before, after)
    assert result[0, 0].tolist() == [0, 128 * 257, 65535]
    assert (result.reshape(-1, 3)[1:] == 1000).all()


def test_what_is_put_into_grey_is_grey() -> None:
    pixels = np.full((1, 2), 50, np.uint8)
    before = np.full((1, 2, 3), 50, np.uint8)
    after = before.copy()
    after[0, 1] = (255, 0, 0)
    assert put_into(pixels, before, after).tolist() == [[50, 29]]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp"])
def test_formats_that_can_lose_nothing(suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    data = np.frombuffer(encode(pixels, suffix), np.uint8)
    np.testing.assert_array_equal(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".webp", ".bmp"])
def test_formats_of_8_bits_take_the_upper_8_of_16(suffix: str) -> None:
    pixels = np.full((16, 16, 3), 100 * 257, np.uint16)
    data = np.frombuffer(encode(pixels, suffix), np.uint8)
    assert abs(cv2.imdecode(data, cv2.IMREAD_UNCHANGED).astype(int) - 100).max() <= 1


def test_a_format_that_is_none_and_a_place_that_is_none_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(SinkUnavailable, match=r"\.xyz cannot store"):
        encode(np.zeros((4, 4, 3), np.uint8), ".xyz")
    with pytest.raises(SinkUnavailable, match="cannot be written"):
        write_file(tmp_path / "no folder" / "out.png", b"")
