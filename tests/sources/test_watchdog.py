"""What a camera really does: its rate, and pictures that stand still for ever."""

from __future__ import annotations

import numpy as np

from engines.contract import Image
from occlufix_vcam.sources.watchdog import FROZEN_S, Frozen, RateMeter


def scene(level: int) -> Image:
    """A picture with light and shade."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, 32:] = level
    return image


def test_a_rate_is_measured_and_sure_only_after_a_while() -> None:
    pace = RateMeter()
    for number in range(60):
        pace.note(100 + number / 15)
        assert (pace.rate > 0) is (number >= 9)
        assert pace.is_sure is (number >= 23)
    assert abs(pace.rate - 15) < 1e-6


def test_another_format_is_measured_anew() -> None:
    pace = RateMeter()
    for number in range(60):
        pace.note(number / 15)
    pace.forget()
    for number in range(40):
        pace.note(10 + number / 30)
    assert abs(pace.rate - 30) < 1e-6 and not pace.is_sure


def test_a_camera_that_moved_and_stands_still_is_frozen() -> None:
    frozen = Frozen()
    assert not frozen.note(scene(100), 0.0) and not frozen.note(scene(110), 0.1)
    assert not frozen.note(scene(110), 0.1 + FROZEN_S)
    assert frozen.note(scene(110), 0.2 + FROZEN_S)


def test_a_picture_that_never_moved_is_taken_as_it_is() -> None:
    frozen = Frozen()
    assert not any(frozen.note(scene(100), second) for second in range(60))


def test_a_covered_lens_may_be_the_same_black_for_ever() -> None:
    frozen = Frozen()
    frozen.note(scene(100), 0.0)
    assert not any(frozen.note(scene(8), second) for second in range(1, 60))
