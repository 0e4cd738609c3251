"""When a frame is due."""

from __future__ import annotations

from occlufix_vcam.sources.pace import Pace
from tests.harness.sources import FakeClock


def pace_at(rate: float) -> tuple[Pace, FakeClock]:
    clock = FakeClock()
    return Pace(rate, True, clock, clock.sleep), clock


def test_the_first_frame_is_due_at_once_the_next_in_its_time() -> None:
    pace, clock = pace_at(10)
    assert pace.wait(0, 1) == 0
    start = clock.now
    assert pace.wait(1, 1) == 1
    assert round(clock.now - start, 6) == 0.1


def test_it_waits_no_longer_than_it_may() -> None:
    pace, clock = pace_at(10)
    pace.wait(0, 1)
    start = clock.now
    assert pace.wait(1, 0.03) is None
    assert round(clock.now - start, 6) == 0.03


def test_it_names_the_frame_that_time_has_come_to() -> None:
    pace, clock = pace_at(10)
    pace.wait(0, 1)
    clock.advance(0.57)
    assert pace.wait(1, 1) == 5


def test_it_does_not_drift() -> None:
    pace, clock = pace_at(30)
    pace.wait(0, 1)
    start = clock.now
    for index in range(1, 301):
        clock.advance(0.01)  # work between the frames
        assert pace.wait(index, 1) == index
    assert round(clock.now - start, 3) == 10


def test_out_of_real_time_all_is_due() -> None:
    clock = FakeClock()
    pace = Pace(10, False, clock, clock.sleep)
    assert [pace.wait(index, 0) for index in range(3)] == [0, 1, 2] and clock.now == 1000


def test_a_restart_forgives_what_was_late() -> None:
    pace, clock = pace_at(10)
    pace.wait(0, 1)
    clock.advance(60)
    pace.restart(1)
    assert pace.wait(1, 1) == 1
    assert pace.wait(2, 0.05) is None
