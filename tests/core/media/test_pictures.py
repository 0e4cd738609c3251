"""Every kind of picture becomes BGR of 8 bits."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from occlufix_vcam.core.errors import CameraNotFound, DeviceError
from occlufix_vcam.core.media.pictures import load_picture, picture_files, to_bgr

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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_of_every_kind_is_turned_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    corners = np.zeros((32, 64, 3), np.uint8)
    corners[:16, :32], corners[16:, 32:], corners[:16, 32:] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "phone"  # the name says nothing
    Pillow.fromarray(corners).save(path, kind, exif=exif)
    upright = load_picture(path)
    expected = np.asarray(ImageOps.exif_transpose(Pillow.open(path)).convert("RGB"))[:, :, ::-1]
    assert upright.shape == expected.shape and np.abs(upright.astype(int) - expected).mean() < 12


def test_an_orientation_after_the_pixels_counts_too(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.new("RGB", (32, 16)).save(tmp_path / "a.png", exif=exif)
    data = (tmp_path / "a.png").read_bytes()
    start = data.index(b"eXIf") - 4
    length = int.from_bytes(data[start : start + 4], "big") + 12
    end = data.index(b"IEND") - 4
    (tmp_path / "a.png").write_bytes(
        data[:start] + data[start + length : end] + data[start : start + length] + data[end:]
    )
    assert load_picture(tmp_path / "a.png").shape == (32, 16, 3)


def test_a_small_file_that_would_fill_the_memory_is_refused_by_its_header(tmp_path: Path) -> None:
    Pillow.new("1", (60, 60)).save(tmp_path / "bomb.png")
    data = bytearray((tmp_path / "bomb.png").read_bytes())
    for size in (20_000, 60_000):
        data[16:24] = size.to_bytes(4, "big") * 2
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        (tmp_path / "bomb.png").write_bytes(data)
        with pytest.raises(DeviceError, match="more than can be read"):
            load_picture(tmp_path / "bomb.png")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_no_mask_and_no_reference(tmp_path: Path, kind: str) -> None:
    frames = [Pillow.new("RGB", (16, 16), (40 * n, 0, 0)) for n in range(3)]
    frames[0].save(tmp_path / "moving", kind, save_all=True, append_images=frames[1:])
    with pytest.raises(DeviceError, match="holds several images"):
        load_picture(tmp_path / "moving")


def test_what_cannot_be_read_names_what_can(tmp_path: Path) -> None:
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(DeviceError, match="HEIC") as caught:
        load_picture(tmp_path / "phone.heic")
    assert caught.value.hint == "convert it to PNG or JPEG"


def test_a_still_gif_and_avif_are_read(tmp_path: Path) -> None:
    for kind in ("GIF", "AVIF"):
        Pillow.new("RGB", (16, 8), (200, 100, 50)).save(tmp_path / kind, kind)
        assert np.abs(load_picture(tmp_path / kind).astype(int) - (50, 100, 200)).max() < 8


def test_other_programs_notes_are_no_pictures(tmp_path: Path) -> None:
    for name in ("._a.png", ".hidden.jpg", "a.png"):
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in picture_files(tmp_path)] == ["a.png"]


def test_no_such_picture(tmp_path: Path) -> None:
    with pytest.raises(CameraNotFound):
        load_picture(tmp_path / "absent.png")


@pytest.mark.parametrize("content", [b"", b"broken"])
def test_no_picture_at_all(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "picture.png").write_bytes(content)
    with pytest.raises(DeviceError, match="is not a readable image"):
        load_picture(tmp_path / "picture.png")
