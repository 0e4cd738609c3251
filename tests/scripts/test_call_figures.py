"""Figures of what a call leaves of the restored part: only that part counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from engines.contract import Image
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.sinks.recorder import Recorder
from scripts.harness.readers.call import End, delays_ms, pairs
from scripts.harness.readers.restored import compared

SIZE = (320, 180)
PART = np.s_[60:120, 100:200]


def end(pictures: Mapping[int, Image]) -> End:
    return End([], dict(pictures), SIZE, [], [])


@pytest.fixture
def film(tmp_path: Path) -> Path:
    recorder = Recorder(str(tmp_path / "film.mkv"), size=SIZE, rate=30)
    for number in range(4):
        recorder.send(Frame(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8), number, 0.0))
    recorder.close()
    return tmp_path / "film.mkv"


def picture(restored: Image) -> Image:
    whole = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    whole[PART] = restored
    return whole


def test_what_lies_beside_the_restored_part_does_not_count(film: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    faces = [random.integers(150, 250, (60, 100, 3), np.uint8) for _ in range(2)]
    sent = end({number: picture(face) for number, face in enumerate(faces)})
    arrived = {number: picture((face // 2 + 100).astype(np.uint8)) for number, face in enumerate(faces)}
    for whole in arrived.values():
        whole[:40] = 0
    psnr, sharp, flicker = map(float, compared(film, sent, end(arrived), tmp_path / "seen"))
    assert psnr < 30 and sharp == pytest.approx(0.5, abs=0.1) and flicker == pytest.approx(0.5, abs=0.1)
    assert [*(tmp_path / "seen").glob("call-*.png")]
    assert compared(film, sent, end(dict(sent.pictures)), None)[1:] == ["1.00", "1.00"]


def test_a_picture_that_is_repeated_stands_still() -> None:
    seen = [(7, 0.0), (8, 33.0), (8, 66.0), (8, 250.0), (9, 283.0), (None, 316.0), (None, 350.0), (0, 380.0)]
    shown = End(seen, {}, SIZE, [], [])
    assert [gap for _, gap in shown.gaps] == [33.0, 250.0, 33.0, 34.0, 30.0] and shown.freezes == [(33.0, 250.0)]
    assert shown.moves == pytest.approx(1000 * 5 / 380)


def test_a_number_that_a_looped_film_repeats_is_that_of_the_newest_picture() -> None:
    sent = End([(7, 0.0), (8, 33.0), (7, 10_000.0), (8, 10_033.0), (9, 10_066.0)], {}, SIZE, [], [])
    arrived = End([(7, 40.0), (7, 10_050.0), (8, 10_030.0), (9, 10_096.0)], {}, SIZE, [], [])
    assert delays_ms(sent, arrived) == [40.0, 50.0, 30.0]


def test_pictures_that_arrive_smaller_are_compared_in_their_size() -> None:
    whole, small = picture(np.full((60, 100, 3), 200, np.uint8)), np.full((90, 160, 3), 90, np.uint8)
    ((number, left, came),) = pairs(end({3: whole}), end({3: small, 4: small}))
    assert number == 3 and left.shape == came.shape == small.shape


def test_where_nothing_was_restored_there_is_no_figure(film: Path) -> None:
    untouched = end({0: picture(np.full((60, 100, 3), 90, np.uint8))})
    assert compared(film, untouched, untouched, None) == ["-", "-", "-"]
