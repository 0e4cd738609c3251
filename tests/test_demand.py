"""The camera is open while somebody looks, and a moment longer."""

from __future__ import annotations

from occlufix_vcam.demand import LINGER_S, Demand
from tests.sources.fakes import FakeClock


def test_nobody_looks_at_first() -> None:
    assert not Demand(FakeClock()).now and not Demand(FakeClock()).wait(0)


def test_who_looked_is_waited_for_a_moment() -> None:
    clock = FakeClock()
    demand = Demand(clock)
    demand.note()
    clock.advance(LINGER_S - 0.1)
    assert demand.now and demand.wait(0)
    clock.advance(0.2)
    assert not demand.now


def test_a_preview_looks_as_long_as_it_lasts() -> None:
    clock = FakeClock()
    demand = Demand(clock)
    with demand.held(), demand.held():
        clock.advance(3600)
        assert demand.now
    assert demand.now
    clock.advance(LINGER_S + 0.1)
    assert not demand.now
