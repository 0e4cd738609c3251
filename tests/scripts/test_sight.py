"""A picture is found in a screenshot wherever a program shows it, and told apart from the one with the mask."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.contract import Image
from occlufix_vcam.sources import SourceOptions
from occlufix_vcam.sources.demo.source import Demo
from scripts.harness.readers import numbered
from scripts.harness.readers.programs import sight
from scripts.harness.readers.programs.films import Films
from scripts.harness.readers.programs.screen import may_show_film

SIZE, FIRST, FRAMES = (640, 360), 66, 3
AT, SHOWN = (210, 130), (480, 270)


@pytest.fixture(scope="module")
def films() -> Films:
    """The demo with its mask, and without; nothing is read from files."""
    with closing(Demo("demo", SourceOptions(*SIZE, 30.0, realtime=False))) as demo:
        bare = [numbered.stamp(demo.render(FIRST + number), number) for number in range(FRAMES)]
        restored = [numbered.stamp(demo.truth(FIRST + number)[0], number) for number in range(FRAMES)]
    return Films(Path(), Path(), bare, restored)


def screenshot(picture: Image) -> Image:
    """A window of a program with the picture in it, smaller."""
    screen = np.full((600, 800, 3), 40, np.uint8)
    small = cv2.resize(picture, SHOWN, interpolation=cv2.INTER_AREA)
    screen[AT[1] : AT[1] + SHOWN[1], AT[0] : AT[0] + SHOWN[0]] = small
    return screen


def test_a_restored_frame_is_found_with_its_place_scale_and_number(films: Films) -> None:
    found = sight.find(screenshot(films.restored[2]), films)
    assert found is not None and found.is_restored and not found.mirrored
    assert found.number == 2 and found.scale == pytest.approx(0.75, abs=0.01)
    assert max(abs(a - b) for a, b in zip(found.corner, AT, strict=True)) <= 2


def test_a_mirrored_one_too(films: Films) -> None:
    found = sight.find(screenshot(films.restored[1])[:, ::-1].copy(), films)
    assert found is not None and found.is_restored and found.mirrored and found.number == 1


def test_one_with_the_mask_is_not_restored(films: Films) -> None:
    found = sight.find(screenshot(films.bare[1]), films)
    assert found is not None and found.number == 1 and not found.is_restored


def test_wrong_colours_are_not_the_picture(films: Films) -> None:
    found = sight.find(screenshot(films.restored[1][..., ::-1].copy()), films)
    assert found is None or not found.is_restored


def test_a_screen_without_it_shows_nothing(films: Films) -> None:
    empty = np.full((600, 800, 3), 40, np.uint8)
    assert sight.find(empty, films) is None and not may_show_film(empty)
    assert may_show_film(screenshot(films.restored[0]))
