"""Whether the pipeline keeps up with the camera, on frames of scripted times."""

from __future__ import annotations

import numpy as np

from occlufix_vcam.core.frame import Frame
from occlufix_vcam.runtime.load import Load

PERIOD = 1 / 30


def play(load: Load, first: int, frames: int, seconds: float, every: int = 1) -> list[bool]:
    """Whether it hurries after each frame; `every` frame of the camera is processed, which takes so many seconds."""
    image = np.zeros((2, 2, 3), np.uint8)
    numbers = range(first, first + frames * every, every)
    return [load.note(Frame(image, number, number * PERIOD), seconds) for number in numbers]


def test_it_hurries_where_frames_take_longer_than_the_camera_needs_for_them_and_not_for_a_single_one():
    load = Load()
    assert not any(play(load, 0, 50, 0.7 * PERIOD))
    assert play(load, 50, 1, 3 * PERIOD) == [False]
    assert not any(play(load, 51, 50, 0.7 * PERIOD))
    assert play(load, 101, 50, 1.4 * PERIOD)[-1]


def test_frames_that_were_left_out_are_not_taken_for_a_slow_camera():
    assert play(Load(), 0, 50, 1.6 * PERIOD, every=2)[-1]


def test_it_goes_on_hurrying_until_there_is_time_to_spare():
    load = Load()
    play(load, 0, 50, 1.4 * PERIOD)
    assert all(play(load, 50, 50, 0.7 * PERIOD))
    assert not play(load, 100, 50, 0.3 * PERIOD)[-1]


def test_a_camera_that_counts_anew_is_no_reason():
    load = Load()
    play(load, 100, 50, 0.7 * PERIOD)
    assert not any(play(load, 0, 50, 0.7 * PERIOD))
