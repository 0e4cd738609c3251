"""Animations keep every image, its time and how often they repeat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from occlufix_vcam.core.errors import ConfigError, DeviceError
from occlufix_vcam.core.media import animations
from occlufix_vcam.core.media.animations import check_animation_name, encode_animation, is_animation, read_animation

TIMES = [40, 100, 70]


def frames(mode: str = "RGB") -> list[Pillow.Image]:
    rng = np.random.default_rng(0)
    made = [Pillow.fromarray(rng.integers(0, 4, (24, 32, 3), np.uint8) * 60).convert(mode) for _ in TIMES]
    for number, one in enumerate(made if mode == "RGBA" else ()):
        one.paste((0, 0, 0, 0), (0, 8 * number, 32, 8 * number + 8))
    return made


def save(path: Path, kind: str, mode: str = "RGB", **options: object) -> list[Pillow.Image]:
    first, *others = made = frames(mode)
    lossless = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    first.save(path, kind, save_all=True, append_images=others, duration=TIMES, **lossless, **options)
    return made


@pytest.mark.parametrize("loops", [0, 3])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize(("kind", "suffix"), [("GIF", ".gif"), ("WEBP", ".webp"), ("PNG", ".png")])
def test_everything_is_kept(tmp_path: Path, kind: str, suffix: str, mode: str, loops: int) -> None:
    made = save(tmp_path / "in", kind, mode, loop=loops, **({"disposal": 2} if kind == "GIF" else {}))
    assert is_animation(tmp_path / "in")
    (tmp_path / "out").write_bytes(encode_animation(read_animation(tmp_path / "in"), suffix))
    with Pillow.open(tmp_path / "out") as written:
        assert (written.format, written.n_frames, written.info["loop"]) == (kind, len(TIMES), loops)
        for number, (one, time) in enumerate(zip(made, TIMES, strict=True)):
            written.seek(number)
            written.load()
            assert written.info["duration"] == time
            shown, meant = np.asarray(written.convert("RGBA")), np.asarray(one.convert("RGBA"))
            assert np.array_equal(shown[..., 3], meant[..., 3])
            assert np.array_equal(shown[meant[..., 3] > 0], meant[meant[..., 3] > 0])


def test_a_gif_that_plays_once_still_does(tmp_path: Path) -> None:
    save(tmp_path / "in", "GIF")
    (tmp_path / "out").write_bytes(encode_animation(read_animation(tmp_path / "in"), ".gif"))
    with Pillow.open(tmp_path / "out") as written:
        assert "loop" not in written.info


def test_the_still_image_of_a_png_stays_none_of_its_animation(tmp_path: Path) -> None:
    first, *others = frames()
    first.save(tmp_path / "in", "PNG", save_all=True, append_images=others, duration=[50, 60], default_image=True)
    (tmp_path / "out").write_bytes(encode_animation(read_animation(tmp_path / "in"), ".png"))
    with Pillow.open(tmp_path / "out") as written:
        assert written.info["default_image"] and written.n_frames == 3
        written.seek(2)
        assert written.info["duration"] == 60


def test_one_image_and_pages_are_no_animation(tmp_path: Path) -> None:
    frames()[0].save(tmp_path / "one", "GIF")
    save(tmp_path / "pages", "TIFF")
    assert not is_animation(tmp_path / "one") and not is_animation(tmp_path / "pages")


def test_more_than_the_memory_holds_is_refused_from_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "in", "GIF")
    monkeypatch.setattr(animations, "LARGEST_PX", 2 * 24 * 32)
    with pytest.raises(DeviceError, match="3 images of 32x24 pixels"):
        read_animation(tmp_path / "in")


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a.mp4", "a"])
def test_a_format_without_animations_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot store an animation"):
        check_animation_name(Path(name))


def test_a_damaged_one_is_said(tmp_path: Path) -> None:
    save(tmp_path / "in", "WEBP")
    data = (tmp_path / "in").read_bytes()
    (tmp_path / "in").write_bytes(data[: len(data) // 2])
    with pytest.raises(DeviceError, match="not a readable"):
        read_animation(tmp_path / "in")
