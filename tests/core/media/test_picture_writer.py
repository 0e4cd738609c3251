"""Pictures go out in the depth and format in which they came."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms

from occlufix_vcam.core.errors import SinkUnavailable
from occlufix_vcam.core.media.picture_facts import PictureFacts
from occlufix_vcam.core.media.picture_writer import encode, put_into, write_file
from occlufix_vcam.core.media.pictures import read_picture


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


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_profile_and_resolution_are_kept(tmp_path: Path, suffix: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    exif = Pillow.Exif()
    exif[0x0112], exif[0x0132] = 6, "2020:01:02 03:04:05"
    picture = Pillow.effect_noise((32, 16), 60).convert("RGB")
    picture.save(source, icc_profile=profile, dpi=(300, 300), exif=exif)
    pixels, facts = read_picture(source)
    write_file(target, encode(pixels, suffix, facts))
    with Pillow.open(target) as written:
        assert written.size == (16, 32) and written.info["icc_profile"] == profile
        assert suffix in (".webp", ".avif") or round(float(written.info["dpi"][0])) == 300
        exif = written.getexif()
        assert suffix == ".tif" or (exif[0x0132], exif.get(0x0112, 1)) == ("2020:01:02 03:04:05", 1)


@pytest.mark.parametrize(("suffix", "kind"), [(".png", np.uint16), (".tif", np.uint16), (".tif", np.float32)])
def test_16_bits_and_floats_keep_their_profile(tmp_path: Path, suffix: str, kind: type[np.generic]) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = np.random.default_rng(0).integers(0, 65536, (8, 8, 3), np.uint16).astype(kind)
    data = encode(pixels, suffix, PictureFacts("", profile=profile, dpi=(300.0, 300.0)))
    write_file(tmp_path / f"out{suffix}", data)
    assert np.array_equal(cv2.imread(str(tmp_path / f"out{suffix}"), cv2.IMREAD_UNCHANGED), pixels)
    if kind is np.float32:
        assert profile in data  # which Pillow cannot read
    else:
        facts = read_picture(tmp_path / f"out{suffix}")[1]
        assert (facts.profile, facts.dpi) == (profile, pytest.approx((300, 300), abs=0.1))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_what_is_written_only_this_user_can_read_unless_it_was_there(tmp_path: Path) -> None:
    (tmp_path / "shared.png").touch(0o644)
    (tmp_path / "shared.png").chmod(0o644)
    for name in ("new.png", "shared.png", "a" * 251 + ".png"):
        write_file(tmp_path / name, b"data")
    modes = {path.name[:6]: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"new.pn": 0o600, "shared": 0o644, "aaaaaa": 0o600}
