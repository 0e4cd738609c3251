"""`process` on films: their time, sound, shape, colours and damage; with engines that paint every hole."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image as Picture

from engines.contract import Image
from occlufix_vcam.core.errors import ConfigError, SinkUnavailable
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.media.film_formats import Quality
from occlufix_vcam.offline import films
from occlufix_vcam.offline.films import FilmOptions, FilmResult, restore_film
from tests.harness.films import make_film, play

CASES = Path(__file__).resolve().parents[3] / "shared/cases"
#: 10 frames at 25 a second, then 5 at 5 a second.
UNEVEN_MS = [*range(0, 400, 40), *range(400, 1600, 200)]


class Painting:
    """Restores nothing, or a square in the middle of every frame."""

    def __init__(self, paints: bool = True) -> None:
        self.paints = paints
        self.seen: list[Frame] = []

    def __call__(self, first: Image) -> Painting:
        return self

    def __enter__(self) -> Callable[[Frame], Image]:
        return self._restore

    def __exit__(self, *_: object) -> None:
        pass

    def _restore(self, frame: Frame) -> Image:
        self.seen.append(frame)
        if not self.paints:
            return frame.image
        image = frame.image.copy()
        height, width = image.shape[:2]
        image[height // 4 : height // 2, width // 4 : width // 2] = 255
        return image


def grey_frames(count: int, size: tuple[int, int] = (128, 96)) -> list[np.ndarray[Any, Any]]:
    return [np.full((size[1], size[0], 3), 40 + 8 * n, np.uint8) for n in range(count)]


def restore(source: Path, target: Path, paints: bool = True, **options: Any) -> tuple[FilmResult, Painting]:
    painting = Painting(paints)
    return restore_film(source, target, painting, FilmOptions(**options), lambda done, of: None), painting


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Of an uneven rate, with sound, chapters and a date."""
    facts = {"creation_time": "2020-01-02T03:04:05.000000Z", "title": "a talk"}
    return make_film(
        tmp_path / "in.mp4", grey_frames(15), UNEVEN_MS, sound="aac", chapters=("one", "two"), metadata=facts
    )


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_time_sound_chapters_and_date_are_kept(tmp_path: Path, film: Path, suffix: str) -> None:
    restore(film, tmp_path / f"out{suffix}", quality=Quality.HIGH)
    before, after = play(film), play(tmp_path / f"out{suffix}")
    assert (after.codec, after.pixels, after.sound) == ("h264", "yuv420p", ["aac"])
    np.testing.assert_allclose(np.diff(after.times), np.diff(before.times), atol=0.002)
    assert after.duration == pytest.approx(before.duration, abs=0.03)
    assert after.chapters == ["one", "two"]
    dates = {key.lower(): value for key, value in after.metadata.items()}
    assert dates["title"] == "a talk" and dates["creation_time"].startswith("2020-01-02T03:04:05")


def test_the_pipeline_sees_the_film_in_its_own_time(tmp_path: Path, film: Path) -> None:
    _, painting = restore(film, tmp_path / "out.mp4")
    np.testing.assert_allclose(np.diff([frame.captured_at for frame in painting.seen]), np.diff(UNEVEN_MS[:15]) / 1e3)


def test_sound_that_the_format_cannot_hold_is_encoded_anew(tmp_path: Path, film: Path) -> None:
    result, _ = restore(film, tmp_path / "out.webm")
    after = play(tmp_path / "out.webm")
    assert (after.codec, after.sound, result.left_out) == ("vp9", ["opus"], ())
    assert after.duration == pytest.approx(1.4, abs=0.05)


def test_a_slow_film_lasts_as_long(tmp_path: Path) -> None:
    make_film(tmp_path / "in.mp4", grey_frames(2), [0, 2000, 4000])
    restore(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert play(tmp_path / "out.mp4").duration == pytest.approx(4.0, abs=0.01)


def test_subtitles_are_kept_or_said_to_be_left_out(tmp_path: Path, film: Path) -> None:
    with_text = tmp_path / "text.mkv"
    _add_subtitles(film, with_text)
    kept, _ = restore(with_text, tmp_path / "out.mkv", quality=Quality.HIGH)
    lost, _ = restore(with_text, tmp_path / "out.mp4")
    assert play(tmp_path / "out.mkv").subtitles == ["srt"] and kept.left_out == ()
    assert play(tmp_path / "out.mp4").subtitles == [] and lost.left_out == ("subtitle (srt)",)


def _add_subtitles(film: Path, target: Path) -> None:
    text = film.with_name("text.srt")
    text.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n\n")
    with av.open(str(film)) as picture, av.open(str(text)) as words, av.open(str(target), "w") as out:
        copies = [(source, out.add_stream_from_template(source.streams[0])) for source in (picture, words)]
        for source, copy in copies:
            for packet in source.demux(source.streams[0]):
                if packet.dts is not None:
                    packet.stream = copy
                    out.mux(packet)


def test_a_cover_and_attachments_are_kept(tmp_path: Path) -> None:
    cover = io.BytesIO()
    Picture.new("RGB", (32, 32), (200, 0, 0)).save(cover, "PNG")
    with av.open(str(tmp_path / "in.mp4"), "w") as out:
        stream: Any = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        shown: Any = out.add_stream("png")
        shown.width, shown.height, shown.pix_fmt = 32, 32, "rgb24"
        shown.disposition = av.stream.Disposition.attached_pic
        packet = av.Packet(cover.getvalue())
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = shown, 0, 0, True
        out.start_encoding()
        out.mux(packet)
        for _ in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "bgr24")))
        out.mux(stream.encode(None))
    result, _ = restore(tmp_path / "in.mp4", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as film:
        assert [one.codec_context.name for one in film.streams.video] == ["h264", "png"] and result.left_out == ()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_an_untouched_film_is_copied(tmp_path: Path, film: Path, suffix: str) -> None:
    restore(film, tmp_path / f"out{suffix}", paints=False)
    if suffix == film.suffix:
        assert (tmp_path / "out.mp4").read_bytes() == film.read_bytes()
    before, after = play(film), play(tmp_path / f"out{suffix}")
    assert all(np.array_equal(one, two) for one, two in zip(before.frames, after.frames, strict=True))
    assert after.sound == ["aac"]


@pytest.mark.parametrize("shape", [Fraction(2), Fraction(1, 2)])
def test_pixels_keep_their_shape_and_the_pipeline_sees_square_ones(tmp_path: Path, shape: Fraction) -> None:
    make_film(tmp_path / "in.mp4", grey_frames(3), [0, 40, 80, 120], shape=shape)
    _, painting = restore(tmp_path / "in.mp4", tmp_path / "out.mp4")
    after = play(tmp_path / "out.mp4")
    assert after.shape == shape and after.frames[0].shape == (96, 128, 3)
    assert painting.seen[0].image.shape[:2] == ((96, 256) if shape == 2 else (192, 128))
    assert after.frames[0][30:40, 40:56].min() > 200 and after.frames[0][60:].max() < 60


@pytest.mark.parametrize("suffix", [".webm", ".mkv"])
def test_formats_without_pixel_shapes_get_square_pixels(tmp_path: Path, suffix: str) -> None:
    make_film(tmp_path / "in.mp4", grey_frames(3), [0, 40, 80, 120], shape=Fraction(2))
    restore(tmp_path / "in.mp4", tmp_path / f"out{suffix}")
    after = play(tmp_path / f"out{suffix}")
    assert after.shape == 1 and after.frames[0].shape == (96, 256, 3)


def test_sound_without_named_channels_or_compression_is_encoded(tmp_path: Path) -> None:
    frames = [np.zeros((64, 64, 3), np.uint8)] * 3
    make_film(tmp_path / "in.avi", frames, [0, 40, 80, 120], codec="mpeg4", sound="pcm_s16le")
    for suffix, sound in ((".mp4", "aac"), (".mkv", "pcm_s16le"), (".webm", "opus")):
        restore(tmp_path / "in.avi", tmp_path / f"out{suffix}")
        assert play(tmp_path / f"out{suffix}").sound == [sound]


def test_interlaced_films_become_whole_images(tmp_path: Path) -> None:
    moving = [np.roll(np.indices((96, 128)).sum(0).astype(np.uint8)[..., None].repeat(3, 2), n, 1) for n in range(8)]
    make_film(tmp_path / "in.mp4", moving, [*range(0, 360, 40)], interlaced=True)
    _, painting = restore(tmp_path / "in.mp4", tmp_path / "out.mp4", paints=False)
    after = play(tmp_path / "out.mp4")
    assert len(painting.seen) == len(after.frames) == 8
    assert np.abs(after.frames[0].astype(int) - moving[0]).mean() < 20
    with av.open(str(tmp_path / "out.mp4")) as film:
        assert not next(film.decode(video=0)).interlaced_frame


def test_colours_of_hd_stay_those_of_hd(tmp_path: Path) -> None:
    red = np.full((720, 1280, 3), (38, 57, 198), np.uint8)
    with av.open(str(tmp_path / "in.mp4"), "w") as out:
        stream: Any = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for _ in range(2):  # untagged, as many cameras leave it: players take it for BT.709
            frame = av.VideoFrame.from_ndarray(red, "bgr24").reformat(format="yuv420p", dst_colorspace="ITU709")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    _, painting = restore(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert np.abs(painting.seen[0].image[0, 0].astype(int) - (38, 57, 198)).max() < 4
    with av.open(str(tmp_path / "out.mp4")) as film:
        frame = next(film.decode(video=0))
        assert frame.colorspace == 1
        shown = frame.reformat(format="bgr24", src_colorspace="ITU709").to_ndarray()
    assert np.abs(shown[-50:].mean(axis=(0, 1)) - (38, 57, 198)).max() < 4


def test_frames_that_cannot_be_read_leave_the_others_at_their_place(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 96, 128, 3), np.uint8)
    film = make_film(tmp_path / "in.mp4", list(noise), [*range(0, 1240, 40)], sound="aac")
    with av.open(str(film)) as whole:
        places = [packet.pos for packet in whole.demux(video=0) if packet.size]
    data = bytearray(film.read_bytes())
    for place in places[10:14]:
        data[place : place + 400] = b"\xff" * 400
    film.write_bytes(data)
    result, _ = restore(film, tmp_path / "out.mp4", paints=False)
    after = play(tmp_path / "out.mp4")
    assert 0 < result.expected - result.read < 10 and result.expected == 30 and len(after.times) == result.read
    assert re.search(r"damaged: \d of 30 frames cannot be read", result.damage or "")
    assert set(np.round(after.times, 2)) < set(np.round(np.arange(0, 1.2, 0.04), 2)) and after.sound == ["aac"]


def test_a_film_that_is_cut_off_replaces_no_older_one(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 96, 128, 3), np.uint8)
    whole = make_film(tmp_path / "in.mkv", list(noise), [*range(0, 1240, 40)])
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    first, _ = restore(whole, tmp_path / "out.mp4")
    (tmp_path / "out.mp4").write_bytes(b"an older film")
    second, _ = restore(whole, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == b"an older film"
    assert (first.path.name, second.path.name) == ("out.mp4", "out.part.mp4")
    assert re.search(r"cut off: 1\d of \d+ frames", second.damage or "")
    assert len(play(tmp_path / "out.part.mp4").frames) == second.read


def test_a_disk_that_is_full_leaves_the_older_film(tmp_path: Path, film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out.mp4").write_bytes(b"an older film")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(films.FilmWriter, "finish", fail)
    with pytest.raises(SinkUnavailable, match="No space left on device"):
        restore(film, tmp_path / "out.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"an older film"


def test_quality_decides_the_size(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (10, 96, 128, 3), np.uint8)
    make_film(tmp_path / "in.mp4", list(noise), [*range(0, 440, 40)])
    for quality in (Quality.HIGH, Quality.MEDIUM, Quality.LOW):
        restore(tmp_path / "in.mp4", tmp_path / f"{quality}.mp4", quality=quality)
    sizes = [(tmp_path / f"{quality}.mp4").stat().st_size for quality in ("high", "medium", "low")]
    assert sizes == sorted(sizes, reverse=True) and sizes[2] < 0.7 * sizes[0]
    with pytest.raises(ConfigError, match=r"\.mkv"):
        restore(tmp_path / "in.mp4", tmp_path / "out.mp4", quality=Quality.LOSSLESS)


def test_an_mkv_is_lossless_unless_asked_otherwise(tmp_path: Path, film: Path) -> None:
    _, painting = restore(film, tmp_path / "out.mkv")
    assert play(tmp_path / "out.mkv").codec == "ffv1"
    assert np.array_equal(play(tmp_path / "out.mkv").frames[3][60:], painting.seen[3].image[60:])


def test_names_with_colons_and_links_at_the_name_of_out(
    tmp_path: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(film, tmp_path / "12:30.mp4")
    (tmp_path / "elsewhere").write_bytes(b"another file")
    (tmp_path / "out.mp4").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    restore(Path("12:30.mp4"), Path("out.mp4"))
    assert (tmp_path / "elsewhere").read_bytes() == b"another file" and not Path("out.mp4").is_symlink()


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
@pytest.mark.parametrize(
    ("name", "read", "expected", "duration"),
    [
        ("with_sound", 90, 90, 3.02),
        ("interlaced", 16, 16, 1.07),
        ("corrupt_middle", 82, 90, 3.02),
        ("truncated_half", 26, 90, 0.87),
        ("vfr", 90, 90, 5.8),
        ("half_fps", 2, 2, 4.0),
        ("sar2", 33, 33, 1.1),
        ("phone_rotated", 33, 33, 1.1),
    ],
)
def test_films_on_which_something_went_wrong(
    tmp_path: Path, name: str, read: int, expected: int, duration: float
) -> None:
    result, painting = restore(CASES / f"{name}.mp4", tmp_path / "out.mp4")
    after = play(tmp_path / "out.mp4")
    assert (result.read, result.expected, len(after.frames)) == (read, expected, read)
    assert after.duration == pytest.approx(duration, abs=0.02)
    assert painting.seen[0].image.shape[1::-1] == (640, 360)
    assert len(after.sound) == (name in ("with_sound", "corrupt_middle", "truncated_half"))
