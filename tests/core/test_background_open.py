"""What takes long to open is waited for, or given up and closed when it comes."""

from __future__ import annotations

import threading

import pytest

from occlufix_vcam.core.background_open import BackgroundOpen
from tests.harness.fakes import WAIT_S


class Door:
    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


def test_what_was_opened_is_given_once_it_is_there() -> None:
    door, may_open = Door(), threading.Event()

    def open_door() -> Door:
        assert may_open.wait(WAIT_S)
        return door

    opening = BackgroundOpen(open_door)
    assert not opening.is_over()
    may_open.set()
    assert opening.is_over(WAIT_S) and opening.result() is door and not door.closed.is_set()


def test_an_error_is_raised_where_it_is_waited_for() -> None:
    def refuse() -> Door:
        raise PermissionError("no")

    opening = BackgroundOpen(refuse)
    assert opening.is_over(WAIT_S)
    with pytest.raises(PermissionError):
        opening.result()
    opening.give_up()


@pytest.mark.parametrize("comes_late", [True, False])
def test_what_nobody_wants_any_more_is_closed(comes_late: bool) -> None:
    door, may_open = Door(), threading.Event()

    def open_door() -> Door:
        assert may_open.wait(WAIT_S)
        return door

    opening = BackgroundOpen(open_door)
    if not comes_late:
        may_open.set()
        assert opening.is_over(WAIT_S)
    opening.give_up()
    may_open.set()
    assert door.closed.wait(WAIT_S)
