"""The rhythm of the output, played through against scripted arrivals on a clock that only the test moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from occlufix_vcam.runtime.pacer import FramePacer

RATE = 30.0


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def play(arrivals: Sequence[float], seconds: float = 20.0) -> tuple[int, list[float], list[float]]:
    """Runs the output's loop over pictures that are ready at `arrivals` (seconds from the start).

    Returns how many beats there were in the last half, when each fresh picture went out, and how long each waited.
    """
    clock = Clock()
    start = clock.now
    pacer = FramePacer(RATE, clock)
    ready = [start + arrival for arrival in arrivals]
    taken, beats = 0, 0
    sent: list[float] = []
    waited: list[float] = []
    while clock.now < start + seconds:
        clock.now += pacer.until_early()
        deadline = clock.now + pacer.until_late()
        if taken < len(ready) and ready[taken] <= deadline:
            clock.now = max(clock.now, ready[taken])
            while taken + 1 < len(ready) and ready[taken + 1] <= clock.now:
                taken += 1
            waited.append(clock.now - ready[taken])
            sent.append(clock.now - start)
            taken += 1
            pacer.next(fresh=True)
        else:
            clock.now = deadline
            pacer.next(fresh=False)
        beats += clock.now > start + seconds / 2
    return beats, sent, waited


@pytest.mark.parametrize("phase", [0.0, 0.01, 0.02, 0.03])
@pytest.mark.parametrize("rate", [30.0, 29.97, 30.03])
def test_pictures_of_a_steady_camera_go_out_as_they_come(rate: float, phase: float) -> None:
    arrivals = np.arange(0, 20, 1 / rate) + phase
    beats, sent, waited = play(arrivals)
    assert len(sent) >= len(arrivals) - 2
    assert max(waited[30:]) < 0.001
    assert beats == pytest.approx(rate * 10, abs=2)


def test_a_jitter_costs_little() -> None:
    jitter = np.random.default_rng(0).uniform(0, 0.012, 600)
    arrivals = np.arange(600) / RATE + jitter
    beats, sent, waited = play(arrivals)
    assert len(sent) >= 598
    assert np.percentile(waited[30:], 95) < 0.004
    assert beats == pytest.approx(300, abs=2)


def test_the_beat_goes_on_where_pictures_come_too_slowly() -> None:
    beats, sent, _ = play(np.arange(0, 20, 1 / 22))
    assert beats == pytest.approx(300, abs=12)
    assert len(sent) == pytest.approx(440, abs=3)


def test_the_beat_goes_on_where_no_picture_comes() -> None:
    assert play([])[0] == pytest.approx(300, abs=1)


def test_a_faster_camera_does_not_hurry_it() -> None:
    beats, _, waited = play(np.arange(0, 20, 1 / 60))
    assert beats == pytest.approx(300, abs=12)
    assert max(waited[30:-1]) < 1 / 60 + 0.001


def test_nothing_is_made_up_for_after_a_long_stop() -> None:
    clock = Clock()
    pacer = FramePacer(RATE, clock)
    clock.now += 10.0
    pacer.next(fresh=False)
    assert 0.5 / RATE < pacer.until_early() < 1 / RATE
