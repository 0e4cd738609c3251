"""The hand-off between threads: newest wins, drops are counted, closing wakes."""

from __future__ import annotations

import threading

from occlufix_vcam.core.handoff import Latest


def test_the_newest_wins_and_the_rest_is_counted() -> None:
    slot: Latest[int] = Latest()
    for number in range(5):
        slot.put(number)
    assert slot.take(0) == 4
    assert slot.take(0) is None
    assert slot.dropped == 4


def test_a_waiting_taker_gets_what_is_put() -> None:
    slot: Latest[str] = Latest()
    threading.Thread(target=slot.put, args=("here",)).start()
    assert slot.take(10) == "here"
    assert slot.dropped == 0


def test_closing_wakes_a_waiter_at_once_and_ends_putting() -> None:
    slot: Latest[str] = Latest()
    taken: list[str | None] = []
    waiter = threading.Thread(target=lambda: taken.append(slot.take(60)))
    waiter.start()
    slot.close()
    waiter.join(10)
    assert taken == [None]
    slot.put("too late")
    assert slot.take(0) is None


def test_what_was_put_before_closing_can_still_be_taken() -> None:
    slot: Latest[str] = Latest()
    slot.put("last")
    slot.close()
    assert slot.take(0) == "last"
