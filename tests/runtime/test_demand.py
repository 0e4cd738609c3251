"""The camera is open while there are viewers, and a moment longer."""

from __future__ import annotations

from occlufix_vcam.runtime.demand import LINGER_S, Demand
from tests.harness.sources import FakeClock

STEP_S = 0.1


def pass_time(demand: Demand, clock: FakeClock, seconds: float) -> None:
    """As it passes for the workers, who ask again and again."""
    for _ in range(round(seconds / STEP_S)):
        clock.advance(STEP_S)
        demand.wait(0)


def test_nobody_looks_at_first() -> None:
    assert not Demand(FakeClock()).now and not Demand(FakeClock()).wait(0)


def test_who_looked_is_waited_for_a_moment() -> None:
    clock = FakeClock()
    demand = Demand(clock)
    demand.note()
    pass_time(demand, clock, LINGER_S - 0.1)
    assert demand.now and demand.wait(0)
    pass_time(demand, clock, 0.2)
    assert not demand.now


def test_a_preview_looks_as_long_as_it_lasts() -> None:
    clock = FakeClock()
    demand = Demand(clock)
    with demand.held(), demand.held():
        clock.advance(3600)
        assert demand.now
    assert demand.now
    pass_time(demand, clock, LINGER_S + 0.1)
    assert not demand.now


def test_while_the_machine_sleeps_nobody_stops_looking() -> None:
    clock = FakeClock()
    demand = Demand(clock)
    demand.note()
    clock.advance(3600)
    assert demand.now
    pass_time(demand, clock, LINGER_S + 0.1)
    clock.advance(3600)
    assert not demand.now
