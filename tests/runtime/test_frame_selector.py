"""What stands for a picture that does not come, and what is made of one that does."""

from __future__ import annotations

import numpy as np
import pytest

from engines.contract import Image
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.runtime.frame_selector import FinishedFrame, FrameSelector
from tests.harness.sources import FakeClock, grey

SIZE = (160, 90)
BARE, RESTORED = 200, 100


def picture(at: float, level: int = 200) -> Frame:
    return Frame(grey(level, SIZE), 0, at)


def restored(at: float, level: int = 200) -> FinishedFrame:
    return FinishedFrame(picture(at, level), processed=True, at=at)


def bare(at: float, level: int = 200) -> FinishedFrame:
    return FinishedFrame(picture(at, level), processed=False, at=at)


@pytest.mark.parametrize(("policy", "keeps_the_picture"), [("passthrough", False), ("hold", True), ("blank", False)])
def test_the_last_picture_stands_for_half_a_second_then_it_is_said(policy: str, keeps_the_picture: bool) -> None:
    clock = FakeClock()
    settings = Settings().but(on_failure=policy)
    selector = FrameSelector(SIZE, clock)
    frame = picture(1.0)
    assert selector.take(FinishedFrame(frame, processed=True, at=frame.captured_at))
    clock.advance(0.49)
    assert selector.now(30, "why", settings, camera_gone=False) is frame
    clock.advance(0.02)
    stand_in = selector.now(30, "why", settings, camera_gone=False)
    assert stand_in.index == -1 and stand_in is not frame
    assert bool((stand_in.image[:70] == 200).all()) is keeps_the_picture
    assert not (stand_in.image[85:] == 200).all()
    assert selector.now(30, "why", settings, camera_gone=False) is stand_in
    assert selector.now(30, "another", settings, camera_gone=False) is not stand_in


@pytest.mark.parametrize(("policy", "held"), [("passthrough", RESTORED), ("hold", RESTORED), ("blank", None)])
def test_where_the_pipeline_is_slow_the_last_restored_picture_stands_longer(policy: str, held: int | None) -> None:
    clock, settings = FakeClock(), Settings().but(on_failure=policy)
    selector = FrameSelector(SIZE, clock)
    selector.take(restored(1.0, RESTORED))
    clock.advance(1.9)
    assert selector.now(30, "why", settings, camera_gone=False, slow=True).index == 0
    clock.advance(0.2)
    assert shows(selector, settings, slow=True) == held


def test_a_camera_that_is_gone_is_said_at_once_whatever_the_policy() -> None:
    settings = Settings().but(on_failure="hold")
    selector = FrameSelector(SIZE, FakeClock())
    selector.take(restored(1.0))
    assert not (selector.now(30, "unplugged", settings, camera_gone=True).image == 200).all(axis=2).any()


def test_a_slow_source_is_not_taken_for_a_silent_one() -> None:
    clock, settings = FakeClock(), Settings()
    selector = FrameSelector(SIZE, clock)
    frame = picture(1.0)
    selector.take(FinishedFrame(frame, processed=True, at=frame.captured_at))
    clock.advance(2.0)
    assert selector.now(1.0, "why", settings, camera_gone=False) is frame


def test_an_older_picture_never_follows_a_newer_one() -> None:
    clock, settings = FakeClock(), Settings()
    selector = FrameSelector(SIZE, clock)
    newer = picture(2.0)
    assert selector.take(FinishedFrame(newer, processed=True, at=newer.captured_at)) and not selector.take(
        restored(1.0)
    )
    assert selector.now(30, "", settings, camera_gone=False) is newer


def test_what_was_before_is_forgotten() -> None:
    settings = Settings()
    selector = FrameSelector(SIZE, FakeClock())
    selector.take(restored(1.0))
    selector.forget()
    assert selector.now(30, "waking", settings, camera_gone=False).index == -1


def gradient(width: int, height: int) -> Image:
    """Every pixel is another one."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(width)
    image[..., 1] = np.arange(height)[:, None]
    return image


def test_mirror_exchanges_left_and_right_of_pictures_and_not_of_words() -> None:
    settings = Settings().but(mirror=True)
    selector = FrameSelector(SIZE, FakeClock())
    frame, words = Frame(gradient(*SIZE), 0, 1.0), Frame(gradient(*SIZE), -1, 1.0)
    finished = selector.finished(frame, settings)
    assert np.array_equal(finished.image, frame.image[:, ::-1])
    assert selector.finished(frame, settings) is finished
    assert selector.finished(words, settings) is words and selector.finished(frame, Settings()) is frame


def shows(selector: FrameSelector, settings: Settings, *, slow: bool = False) -> int | None:
    """The grey level that goes out, None for a placeholder."""
    level = int(selector.now(30, "why", settings, camera_gone=False, slow=slow).image[0, 0, 0])
    return level if level in (BARE, RESTORED) else None


@pytest.mark.parametrize("policy", ["hold", "blank"])
def test_a_bare_frame_is_never_shown_once_restoring_is_on(policy: str) -> None:
    clock, on = FakeClock(), Settings().but(on_failure=policy)
    selector = FrameSelector(SIZE, clock)
    selector.take(bare(1.0))
    assert shows(selector, on.but(enabled=False)) == BARE
    assert shows(selector, on) is None  # switched on before the next frame came
    clock.advance(1.0)
    assert shows(selector, on) is None  # and it is not held either


def test_what_is_held_went_through_the_pipeline_since_restoring_is_on() -> None:
    clock, on = FakeClock(), Settings().but(on_failure="hold")
    selector = FrameSelector(SIZE, clock)
    selector.take(restored(1.0, RESTORED))
    selector.take(bare(2.0))  # was on its way when the switch was thrown
    assert shows(selector, on) == RESTORED
    assert shows(selector, on.but(enabled=False)) == BARE
    assert shows(selector, on) is None  # what was restored before the break is not what is held after it
    selector.take(restored(3.0, RESTORED))
    clock.advance(1.0)
    assert shows(selector, on) == RESTORED


def test_passthrough_shows_the_bare_frame() -> None:
    selector = FrameSelector(SIZE, FakeClock())
    selector.take(bare(1.0))
    assert shows(selector, Settings()) == BARE
