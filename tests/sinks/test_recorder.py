"""Recordings that play, whatever their frames; and disks that fill up."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from occlufix_vcam.core.errors import ConfigError, SinkUnavailable
from occlufix_vcam.core.frame import Frame, Origin
from occlufix_vcam.core.media.film_formats import Quality
from occlufix_vcam.core.media.film_writer import FilmWriter
from occlufix_vcam.sinks.fan_out import Sinks
from occlufix_vcam.sinks.recorder import Recorder
from tests.harness.sinks import frame_of

MANY = 10**12


def record(path: Path, frames: list[Frame], size: tuple[int, int] = (64, 48), rate: float = 30) -> None:
    recorder = Recorder(str(path), size=size, rate=rate)
    for frame in frames:
        recorder.send(frame)
    recorder.close()


def play(path: Path) -> tuple[float, list[np.ndarray]]:
    film, pictures = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), []
    while True:
        there, picture = film.read()
        if not there:
            return film.get(cv2.CAP_PROP_FPS), pictures
        pictures.append(picture)


def test_what_is_sent_is_played(tmp_path: Path) -> None:
    record(tmp_path / "call.mp4", [frame_of((64, 48), level) for level in (20, 90, 160, 230)], rate=25)
    rate, pictures = play(tmp_path / "call.mp4")
    assert rate == 25 and [round(p.mean() / 10) for p in pictures] == [2, 9, 16, 23]
    assert [file.name for file in tmp_path.iterdir()] == ["call.mp4"]


def test_before_lies_beside_after(tmp_path: Path) -> None:
    before, after = frame_of((64, 48), 40), frame_of((64, 48), 200)
    recorder = Recorder(str(tmp_path / "call.mkv"), size=(64, 48), rate=30, beside=True)
    recorder.send(Frame(after.image, 0, 0.0, Origin(before.image, ())))
    recorder.send(after)
    recorder.close()
    halves = [(picture[:, :64].mean(), picture[:, 64:].mean()) for picture in play(tmp_path / "call.mkv")[1]]
    assert halves == [(40, 200), (200, 200)]


def test_a_live_film_lasts_as_long_as_it_took(tmp_path: Path) -> None:
    now = [5.0]
    recorder = Recorder(str(tmp_path / "call.mkv"), size=(64, 48), rate=30, live=True, clock=lambda: now[0])
    for level in range(8):  # a camera of 15 frames a second; the encoder keeps as many waiting
        recorder.send(frame_of((64, 48), level))
        now[0] += 1 / 15
    recorder.close()
    film = cv2.VideoCapture(str(tmp_path / "call.mkv"), cv2.CAP_FFMPEG)
    times = []
    while film.grab():
        times.append(film.get(cv2.CAP_PROP_POS_MSEC))
    assert len(times) == 8 and times[-1] - times[0] == pytest.approx(467, abs=20)
    assert np.diff(times) == pytest.approx(1000 / 15, abs=2)


def test_an_mkv_loses_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    record(tmp_path / "call.mkv", [Frame(noise, 0, 0.0)])
    assert np.array_equal(play(tmp_path / "call.mkv")[1][0], noise)
    assert [file.name for file in tmp_path.iterdir()] == ["call.mkv"]


@pytest.mark.parametrize("size", [(64, 64), (65, 49), (48, 65), (1281, 721), (3840, 2160)])
def test_every_size_is_played_odd_ones_one_pixel_larger(tmp_path: Path, size: tuple[int, int]) -> None:
    record(tmp_path / "call.mp4", [frame_of(size)] * 3, size=size)
    pictures = play(tmp_path / "call.mp4")[1]
    assert len(pictures) == 3
    assert pictures[0].shape[:2] == (size[1] + size[1] % 2, size[0] + size[0] % 2)


def test_frames_of_another_size_are_fitted_in(tmp_path: Path) -> None:
    record(tmp_path / "call.mp4", [frame_of((64, 48)), frame_of((48, 640)), frame_of((640, 48))])
    pictures = play(tmp_path / "call.mp4")[1]
    assert [picture.shape for picture in pictures] == [(48, 64, 3)] * 3


def test_no_recording_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "call.mp4"
    for length in (2, 3, 4):
        record(path, [frame_of((64, 48))] * length)
    assert len(play(path)[1]) == 2
    later = sorted(len(play(other)[1]) for other in tmp_path.iterdir() if other != path)
    assert later == [3, 4] and all(file.suffix == ".mp4" for file in tmp_path.iterdir())


def test_what_a_killed_recording_left_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "call.part.mp4").write_bytes(b"from before")
    record(tmp_path / "call.mp4", [frame_of((64, 48))])
    assert (tmp_path / "call.part.mp4").read_bytes() == b"from before"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_name_that_is_taken_meanwhile_stays(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path / "call.mp4"), size=(64, 48), rate=30)
    recorder.send(frame_of((64, 48)))
    (tmp_path / "call.mp4").write_bytes(b"somebody else's")
    recorder.close()
    assert (tmp_path / "call.mp4").read_bytes() == b"somebody else's"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_only_this_user_can_read_it_and_the_folder_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    recorder = Recorder(str(tmp_path / "call.mp4"), size=(64, 48), rate=30)
    recorder.send(frame_of((64, 48)))
    modes = [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()]
    recorder.close()
    modes += [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path, tmp_path / "call.mp4")]
    assert modes == [0o600, 0o755, 0o600]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_no_link_at_its_names_is_followed(tmp_path: Path) -> None:
    for name in ("call.mp4", "call.part.mp4"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    record(tmp_path / "call.mp4", [frame_of((64, 48))])
    assert not (tmp_path / "elsewhere").exists() and (tmp_path / "call.mp4").is_symlink()


def test_colours_are_those_that_a_player_of_hd_shows(tmp_path: Path) -> None:
    red = np.full((720, 1280, 3), (38, 57, 198), np.uint8)
    record(tmp_path / "call.mp4", [Frame(red, 0, 0.0)] * 2, size=(1280, 720))
    with av.open(str(tmp_path / "call.mp4")) as film:
        frame = next(film.decode(video=0))
        shown = frame.reformat(format="bgr24", src_colorspace="ITU709").to_ndarray()
        assert film.streams.video[0].codec_context.name == "h264" and frame.format.name == "yuv420p"
    assert (frame.colorspace, frame.color_range) == (1, 1)
    assert np.abs(shown.mean(axis=(0, 1)) - (38, 57, 198)).max() < 4


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on Windows")
@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
def test_what_was_recorded_until_a_kill_plays(tmp_path: Path, suffix: str) -> None:
    record_and_die = """
import os, signal, sys
import numpy as np
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.sinks.recorder import Recorder

recorder = Recorder(sys.argv[1], size=(64, 48), rate=30)
for index in range(60):
    recorder.send(Frame(np.full((48, 64, 3), index, np.uint8), index, 0.0))
os.kill(os.getpid(), signal.SIGKILL)
"""
    run = [sys.executable, "-c", record_and_die, str(tmp_path / f"call.{suffix}")]
    assert subprocess.run(run, check=False, timeout=60).returncode == -signal.SIGKILL
    [part] = tmp_path.iterdir()
    assert part.name == f"call.part.{suffix}" and len(play(part)[1]) >= 40


def test_every_two_seconds_the_recording_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, now = threading.Event(), [0.0]
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.set())
    recorder = Recorder(str(tmp_path / "call.mp4"), size=(64, 48), rate=30, clock=lambda: now[0])
    recorder.send(frame_of((64, 48)))
    assert not synced.wait(0.1)
    now[0] = 2.0
    recorder.send(frame_of((64, 48)))
    assert synced.wait(30)
    recorder.close()


def test_an_encoder_without_time_holds_nobody_up_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go_on, write = threading.Event(), FilmWriter.write

    def slow(self: FilmWriter, *given: object) -> None:
        assert go_on.wait(30)
        write(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(FilmWriter, "write", slow)
    now = [0.0]
    recorder = Recorder(str(tmp_path / "call.mp4"), size=(64, 48), rate=30, live=True, clock=lambda: now[0])
    for _ in range(100):
        recorder.send(frame_of((64, 48)))
        now[0] += 1 / 30
    go_on.set()
    recorder.close()
    recorded = len(play(tmp_path / "call.mp4")[1])
    assert 8 <= recorded <= 10 and f"{100 - recorded} frames" in caplog.text


def test_a_lower_quality_takes_less_room(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [Frame(rng.integers(0, 256, (240, 320, 3), np.uint8), index, 0.0) for index in range(5)]
    sizes = []
    for quality in (Quality.AUTO, Quality.MEDIUM, Quality.LOW):
        path = tmp_path / f"{quality}.mp4"
        with closing(Recorder(str(path), size=(320, 240), rate=30, quality=quality)) as recorder:
            for frame in frames:
                recorder.send(frame)
        sizes.append(path.stat().st_size)
    assert sizes[0] > 1.1 * sizes[1] > 1.2 * sizes[2]


def test_without_a_frame_there_is_no_file(tmp_path: Path) -> None:
    record(tmp_path / "call.mp4", [])
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_film(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a video file name"):
        Recorder(str(tmp_path / "call.gif"), size=(64, 48), rate=30)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SinkUnavailable, match="there is no folder"):
        Recorder(str(tmp_path / "absent/call.mp4"), size=(64, 48), rate=30)


def test_a_file_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "call.mp4").mkdir()
    with pytest.raises(SinkUnavailable, match="cannot be written"):
        Recorder(str(tmp_path / "call.mp4"), size=(64, 48), rate=30)


def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    with pytest.raises(SinkUnavailable, match="is full"):
        Recorder(str(tmp_path / "call.mp4"), size=(64, 48), rate=30, free_bytes=lambda _: 1000)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_ends_the_recording_and_keeps_it(tmp_path: Path) -> None:
    free = [MANY, MANY, 1000]
    recorder = Recorder(str(tmp_path / "call.mp4"), size=(64, 48), rate=30, free_bytes=lambda _: free.pop(0))
    sinks = Sinks([recorder])
    with pytest.raises(SinkUnavailable, match="is full"):
        for _ in range(100):
            sinks.send(frame_of((64, 48)))
    assert len(play(tmp_path / "call.mp4")[1]) == 30


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_file_that_can_grow_no_more_is_told(tmp_path: Path) -> None:
    record_noise = """
import resource, sys
import numpy as np
from occlufix_vcam.core.errors import SinkUnavailable
from occlufix_vcam.core.frame import Frame, Origin
from occlufix_vcam.sinks.recorder import Recorder

resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
rng = np.random.default_rng(0)
recorder = Recorder(sys.argv[1], size=(320, 240), rate=30)
try:
    for index in range(200):
        recorder.send(Frame(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8), index, 0.0))
    recorder.close()
except SinkUnavailable as error:
    print(error.message)
"""
    (tmp_path / "call.mp4").write_bytes(b"an older film")
    run = [sys.executable, "-c", record_noise, str(tmp_path / "call.mp4")]
    done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60)
    [part] = tmp_path.glob("*.part.mp4")
    assert "the disk may be full" in done.stdout and str(part) in done.stdout
    assert (tmp_path / "call.mp4").read_bytes() == b"an older film"
    assert len(play(part)[1]) >= 1


def test_after_the_end_nothing_is_taken(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path / "call.mp4"), size=(64, 48), rate=30)
    recorder.close()
    with pytest.raises(SinkUnavailable, match="closed"):
        recorder.send(frame_of((64, 48)))
