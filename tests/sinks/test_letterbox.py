"""Frames of any size in a window of one size."""

from __future__ import annotations

import numpy as np
import pytest

from occlufix_vcam.sinks.letterbox import Letterbox


def white(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)


def test_what_fits_is_passed_on_without_a_copy() -> None:
    image = white(64, 48)
    assert Letterbox((64, 48))(image) is image


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [
        pytest.param((64, 64), slice(0, 90), slice(35, 125), id="square"),
        pytest.param((320, 90), slice(22, 67), slice(0, 160), id="wide"),
        pytest.param((720, 1280), slice(0, 90), slice(54, 105), id="portrait"),
        pytest.param((3840, 2160), slice(0, 90), slice(0, 160), id="4K"),
        pytest.param((640, 480), slice(0, 90), slice(20, 140), id="4:3"),
        pytest.param((1, 1000), slice(0, 90), slice(79, 80), id="a line"),
    ],
)
def test_shape_is_kept_and_the_rest_is_black(size: tuple[int, int], rows: slice, columns: slice) -> None:
    result = Letterbox((160, 90))(white(*size))
    expected = np.zeros((90, 160, 3), np.uint8)
    expected[rows, columns] = 255
    np.testing.assert_array_equal(result, expected)


def test_one_odd_pixel_is_filled_up_and_not_scaled() -> None:
    image = np.random.default_rng(0).integers(0, 255, (89, 159, 3), dtype=np.uint8)
    assert np.array_equal(Letterbox((160, 90))(image)[:89, :159], image)


def test_nothing_of_the_last_frame_stays_in_the_bars() -> None:
    letterbox = Letterbox((160, 90))
    letterbox(white(320, 90))
    assert not letterbox(white(64, 64))[:, :35].any()


def test_its_memory_is_its_own_and_used_again() -> None:
    letterbox = Letterbox((160, 90))
    assert letterbox(white(64, 64)) is letterbox(white(32, 64))
