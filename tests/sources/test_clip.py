"""Videos, pictures and folders of pictures, in real time and out of it, whole and broken."""

from __future__ import annotations

import errno
import logging
from fractions import Fraction
from pathlib import Path

import cv2
import pytest

from occlufix_vcam.core.errors import CameraNotFound, DeviceError
from occlufix_vcam.sources import EndOfClip, SourceOptions
from occlufix_vcam.sources.clip import Clip
from tests.harness.films import make_film
from tests.harness.sources import FakeClock, grey, number_of, write_clip

EVERY_FRAME = SourceOptions(loop=False, realtime=False)


def read_all(clip: Clip) -> list[tuple[int, int]]:
    """(index, number) of every frame to the end."""
    seen = []
    with pytest.raises(EndOfClip):
        while frame := clip.read(0):
            seen.append((frame.index, number_of(frame.image)))
    return seen


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "talk.mp4", 8, rate=25)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures 1, 2 and 10, and a note."""
    for n in (1, 2, 10):
        cv2.imwrite(str(tmp_path / f"frame{n}.png"), grey(16 * n))
    (tmp_path / "note.txt").write_text("not a picture")
    return tmp_path


def test_out_of_real_time_every_frame_comes_exactly_once(video: Path) -> None:
    clip = Clip(str(video), EVERY_FRAME)
    assert (clip.size, clip.rate) == ((64, 48), 25)
    assert read_all(clip) == [(n, n) for n in range(8)]
    clip.close()


def test_a_clip_that_loops_starts_again(video: Path) -> None:
    clip = Clip(str(video), SourceOptions(loop=True, realtime=False))
    frames = [clip.read(0) for _ in range(20)]
    assert [(f.index, number_of(f.image)) for f in frames if f] == [(n, n % 8) for n in range(20)]
    clip.close()


def test_in_real_time_frames_come_when_they_are_due(video: Path) -> None:
    clock = FakeClock()
    clip = Clip(str(video), SourceOptions(), clock=clock, sleep=clock.sleep)
    start = clock.now
    times = []
    while len(times) < 5:
        frame = clip.read(0.01)
        if frame:
            times.append((frame.index, round(frame.captured_at - start, 3)))
    assert times == [(0, 0.0), (1, 0.04), (2, 0.08), (3, 0.12), (4, 0.16)]
    clip.close()


def test_in_real_time_late_frames_are_skipped_over_the_end_too(video: Path) -> None:
    clock = FakeClock()
    clip = Clip(str(video), SourceOptions(), clock=clock, sleep=clock.sleep)
    clip.read(0)
    seen = []
    for late in (5.5, 6):
        clock.advance(late / 25)
        frame = clip.read(0)
        assert frame is not None
        seen.append((frame.index, number_of(frame.image)))
    assert seen == [(5, 5), (11, 3)]
    clip.close()


def test_late_at_the_end_of_a_clip_that_does_not_loop_is_its_end(video: Path) -> None:
    clock = FakeClock()
    clip = Clip(str(video), SourceOptions(loop=False), clock=clock, sleep=clock.sleep)
    clip.read(0)
    clock.advance(10)
    assert clip.read(0) is not None
    with pytest.raises(EndOfClip):
        clip.read(0)


def test_a_clip_too_slow_to_decode_runs_slower_but_runs(video: Path) -> None:
    clock = FakeClock()

    def ticking() -> float:
        clock.advance(0.06)  # every look at the clock costs more than a frame's time
        return clock.now

    clip = Clip(str(video), SourceOptions(), clock=ticking, sleep=clock.sleep)
    indices = [frame.index for frame in (clip.read(0) for _ in range(10)) if frame]
    assert len(indices) == 10 and indices == sorted(set(indices))
    clip.close()


@pytest.mark.parametrize("rate", [23.976, 29.97, 50.0, 59.94])
def test_rates_that_files_round_give_every_frame_once(tmp_path: Path, rate: float) -> None:
    times = [round(1000 * n / rate) for n in range(41)]
    film = make_film(tmp_path / "film.mp4", [grey(n * 6) for n in range(40)], times)
    seen = [number for _, number in read_all(Clip(str(film), EVERY_FRAME))]
    assert len(seen) in (39, 40, 41) and len(set(seen)) >= 15 and seen == sorted(seen)


def test_an_uneven_film_keeps_its_time(tmp_path: Path) -> None:
    times = [*range(0, 1000, 100), *range(1000, 3200, 400)]  # ten a second, then two and a half
    film = make_film(tmp_path / "film.mp4", [grey(16 * n) for n in range(15)], times)
    clip = Clip(str(film), EVERY_FRAME)
    numbers = [number for _, number in read_all(clip)]
    for at, number in ((0.05, 0), (0.45, 4), (1.2, 10), (2.7, 14)):
        assert abs(numbers[round(at * clip.rate)] - number) <= 1
    assert len(numbers) / clip.rate == pytest.approx(3.0, abs=0.15)


def test_a_film_of_few_frames_lasts_as_long(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", [grey(16), grey(64)], [0, 2000, 4000])
    clip = Clip(str(film), SourceOptions(rate=10, loop=False, realtime=False))
    assert clip.rate == 10 and [number for _, number in read_all(clip)] == [1] * 20 + [4] * 20


def test_interlaced_films_and_wide_pixels_are_shown_as_players_do(tmp_path: Path) -> None:
    fields = make_film(tmp_path / "fields.mp4", [grey(16 * n) for n in range(5)], [*range(0, 240, 40)], interlaced=True)
    assert [number for _, number in read_all(Clip(str(fields), EVERY_FRAME))] == [0, 1, 2, 3, 4]
    wide = make_film(tmp_path / "wide.mp4", [grey(16)] * 2, [0, 40, 80], shape=Fraction(2))
    assert Clip(str(wide), EVERY_FRAME).size == (128, 48)


def test_a_playlist_opens_nothing(tmp_path: Path, video: Path) -> None:
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{video}\n#EXT-X-ENDLIST\n")
    with pytest.raises(DeviceError, match="not a readable"):
        Clip(str(tmp_path / "list.m3u8"), EVERY_FRAME)


def test_a_folder_is_sorted_as_a_person_would(folder: Path) -> None:
    assert [number for _, number in read_all(Clip(str(folder), EVERY_FRAME))] == [1, 2, 10]


def test_a_broken_picture_in_a_folder_is_passed_over(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "frame3.png").write_bytes(b"broken")
    with caplog.at_level(logging.WARNING):
        assert [number for _, number in read_all(Clip(str(folder), EVERY_FRAME))] == [1, 2, 10]
    assert "frame3.png" in caplog.text


def test_a_picture_is_a_clip_of_one_frame_or_a_still_camera(folder: Path) -> None:
    picture = str(folder / "frame2.png")
    assert read_all(Clip(picture, EVERY_FRAME)) == [(0, 2)]
    still = Clip(picture, SourceOptions(rate=10, realtime=False))
    frames = [still.read(0) for _ in range(3)]
    assert [f.index for f in frames if f] == [0, 1, 2] and still.rate == 10


@pytest.mark.parametrize("size", [(64, 64), (65, 49), (48, 64), (640, 480), (3840, 2160)])
def test_sizes_pass_as_they_are(tmp_path: Path, size: tuple[int, int]) -> None:
    cv2.imwrite(str(tmp_path / "picture.png"), grey(32, size))
    clip = Clip(str(tmp_path / "picture.png"), EVERY_FRAME)
    frame = clip.read(0)
    assert clip.size == size and frame is not None and frame.image.shape == (size[1], size[0], 3)


def test_pictures_of_different_sizes_in_one_folder_pass_as_they_are(folder: Path) -> None:
    cv2.imwrite(str(folder / "frame2.png"), grey(32, (33, 77)))
    clip = Clip(str(folder), EVERY_FRAME)
    shapes = [frame.image.shape for frame in (clip.read(0) for _ in range(3)) if frame]
    assert shapes == [(48, 64, 3), (77, 33, 3), (48, 64, 3)]


def test_no_such_clip(tmp_path: Path) -> None:
    with pytest.raises(CameraNotFound, match="no clip"):
        Clip(str(tmp_path / "absent.mp4"), EVERY_FRAME)


@pytest.mark.parametrize("name", ["noise.mp4", "noise.png", "noise"])
def test_an_unreadable_clip(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x00not a film" * 50)
    with pytest.raises(DeviceError, match="not a readable") as caught:
        Clip(str(tmp_path / name), EVERY_FRAME)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["empty.mp4", "empty.png"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DeviceError, match="is empty"):
        Clip(str(tmp_path / name), EVERY_FRAME)


def test_a_video_cut_off_in_its_middle_ends_there(video: Path) -> None:
    whole = video.read_bytes()
    moov = whole.index(b"moov") - 4
    header, data = whole[moov:], whole[:moov]
    cut = video.with_name("cut.mp4")
    # The index is kept, the second half of the pictures is not.
    cut.write_bytes(data[: len(data) // 2] + b"\0" * (len(data) - len(data) // 2) + header)
    clip = Clip(str(cut), EVERY_FRAME)
    assert 1 <= len(read_all(clip)) <= 8


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("nothing to see")
    with pytest.raises(CameraNotFound, match="contains no images"):
        Clip(str(tmp_path), EVERY_FRAME)


def test_a_folder_of_broken_pictures(tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / f"{n}.png").write_bytes(b"broken")
    with pytest.raises(DeviceError, match="contains no readable frame"):
        Clip(str(tmp_path), EVERY_FRAME)


def test_a_clip_that_may_not_be_read(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DeviceError, match="cannot be read: Permission denied"):
        Clip(str(video), EVERY_FRAME)


def test_real_clips_are_read_at_their_own_rate(data: Path) -> None:
    clip = Clip(str(data / "clips/liveportrait_s18.mp4"), EVERY_FRAME)
    assert (clip.size, clip.rate) == ((1280, 720), 30)
    assert len(read_all(clip)) == 282
