"""Deadline of a request: until when its client waits for the answer.

The client that gives up says "does not answer", so what it asked for must not happen later: it sends the deadline, and
the daemon refuses what it comes to too late. Both run on one machine, with one clock.
"""

from __future__ import annotations

import time
from contextvars import ContextVar

from occlufix_vcam.core.errors import OccluFixError

#: Seconds since the epoch.
HEADER = "Request-Deadline"

_now_served: ContextVar[float] = ContextVar("deadline", default=float("inf"))


class TooLate(OccluFixError):
    """The client has given up, and has reported that nothing happened."""

    def __init__(self) -> None:
        super().__init__("the client stopped waiting before the request ran", "ask again", code="too_late")


def header_for(timeout: float) -> dict[str, str]:
    """The header of a request that waits so many seconds."""
    return {HEADER: f"{time.time() + timeout:.3f}"}


def serve(told: str | None) -> None:
    """Takes on a request with this header: `check` holds for it, also in the threads that work for it."""
    try:
        _now_served.set(float(told) if told is not None else float("inf"))
    except ValueError:  # it names no time, so it sets none
        _now_served.set(float("inf"))


def check() -> None:
    """Raises TooLate where the request's time is over: call it right before something changes."""
    if time.time() > _now_served.get():
        raise TooLate
