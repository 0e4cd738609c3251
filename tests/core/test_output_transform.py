"""Pictures of any size in an output of one size."""

from __future__ import annotations

import numpy as np
import pytest

from engines.contract import Image
from occlufix_vcam.core.output_transform import OutputTransform, cropped, even_size


def white(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)


def test_what_fits_is_passed_on_without_a_copy() -> None:
    image = white(64, 48)
    assert OutputTransform((64, 48))(image) is image


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
    result = OutputTransform((160, 90))(white(*size))
    expected = np.zeros((90, 160, 3), np.uint8)
    expected[rows, columns] = 255
    np.testing.assert_array_equal(result, expected)


def test_one_odd_pixel_is_filled_up_and_not_scaled() -> None:
    image = np.random.default_rng(0).integers(0, 255, (89, 159, 3), dtype=np.uint8)
    assert np.array_equal(OutputTransform((160, 90))(image)[:89, :159], image)


def test_what_is_made_is_new_and_leaves_the_picture_alone() -> None:
    fit, image = OutputTransform((160, 90), mirror=True), white(64, 64)
    assert fit(image) is not fit(image)
    assert (image == 255).all()


def test_an_odd_pixel_is_made_up() -> None:
    assert even_size((159, 90)) == (160, 90)


SIZE = (160, 90)


def gradient(width: int, height: int) -> Image:
    """Every pixel is another one."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(width)
    image[..., 1] = np.arange(height)[:, None]
    return image


@pytest.mark.parametrize(
    ("size", "columns", "rows"),
    [((160, 120), slice(0, 160), slice(15, 105)), ((200, 90), slice(20, 180), slice(0, 90))],
)
def test_crop_takes_the_middle(size: tuple[int, int], columns: slice, rows: slice) -> None:
    image = gradient(*size)
    assert np.array_equal(cropped(image, SIZE), image[rows, columns])


def test_what_has_the_shape_is_not_cut() -> None:
    image = gradient(80, 45)
    assert cropped(image, SIZE) is image


def test_a_cut_picture_fills_the_output() -> None:
    assert (OutputTransform(SIZE, "crop")(white(640, 480)) == 255).all()
