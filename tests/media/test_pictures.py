"""Every kind of picture becomes BGR of 8 bits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from occlufix_vcam.core.errors import CameraNotFound, DeviceError
from occlufix_vcam.media.pictures import load_picture, to_bgr

GREY = np.array([[0, 100, 255]], np.uint8)
COLOUR = np.array([[[1, 2, 3], [10, 20, 30], [255, 0, 128]]], np.uint8)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        pytest.param(GREY, np.dstack([GREY] * 3), id="grey"),
        pytest.param(GREY[:, :, None], np.dstack([GREY] * 3), id="grey with a channel axis"),
        pytest.param(COLOUR, COLOUR, id="colour"),
        pytest.param(COLOUR.astype(np.uint16) * 257, COLOUR, id="16 bits"),
        pytest.param(GREY.astype(np.uint16) * 257, np.dstack([GREY] * 3), id="16-bit grey"),
        pytest.param(GREY.astype(np.float32) / 255, np.dstack([GREY] * 3), id="floats"),
        pytest.param(np.dstack([COLOUR, GREY[:, ::-1]]), COLOUR * np.array([[[1.0], [100 / 255], [0]]]), id="alpha"),
    ],
)
def test_every_kind_becomes_bgr(picture: np.ndarray, expected: np.ndarray) -> None:
    bgr = to_bgr(picture)
    assert bgr.dtype == np.uint8 and bgr.flags.c_contiguous and not bgr.flags.writeable
    np.testing.assert_allclose(bgr, np.rint(expected), atol=1)


def test_what_is_right_already_is_not_copied() -> None:
    image = COLOUR.copy()
    assert np.shares_memory(to_bgr(image), image)


def test_a_part_of_a_picture_becomes_contiguous() -> None:
    wide = np.zeros((4, 8, 3), np.uint8)
    assert to_bgr(wide[:, 2:5]).flags.c_contiguous


@pytest.mark.parametrize(
    "picture", [np.zeros((2, 2, 5), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros((2, 2, 3), np.int32)]
)
def test_other_kinds_are_refused(picture: np.ndarray) -> None:
    with pytest.raises(DeviceError, match="cannot be shown"):
        to_bgr(picture)


@pytest.mark.parametrize("name", ["grüße.png", "a.webp", "a.tiff", "a.bmp"])
def test_files_are_loaded_whatever_their_name(tmp_path: Path, name: str) -> None:
    data = cv2.imencode(Path(name).suffix, COLOUR, [cv2.IMWRITE_WEBP_QUALITY, 101])[1]
    (tmp_path / name).write_bytes(data.tobytes())
    assert np.array_equal(load_picture(tmp_path / name), COLOUR)


def test_a_jpeg_is_turned_upright(tmp_path: Path) -> None:
    landscape = np.zeros((32, 64, 3), np.uint8)
    landscape[:, :32] = 255  # white on the left
    plain = cv2.imencode(".jpg", landscape)[1].tobytes()
    orientation = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"  # turn to the right to see it upright
    tiff = b"MM\x00\x2a\x00\x00\x00\x08\x00\x01" + orientation + b"\x00\x00\x00\x00"
    exif = b"Exif\x00\x00" + tiff
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "phone.jpg").write_bytes(plain[:2] + segment + plain[2:])
    upright = load_picture(tmp_path / "phone.jpg")
    assert upright.shape == (64, 32, 3) and upright[:20].mean() > 200 and upright[-20:].mean() < 50


def test_no_such_picture(tmp_path: Path) -> None:
    with pytest.raises(CameraNotFound):
        load_picture(tmp_path / "absent.png")


@pytest.mark.parametrize("content", [b"", b"broken"])
def test_no_picture_at_all(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "picture.png").write_bytes(content)
    with pytest.raises(DeviceError, match="is not a readable image"):
        load_picture(tmp_path / "picture.png")
