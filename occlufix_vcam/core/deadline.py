"""A request's deadline: until when whoever asked waits for the answer.

The client that gives up says "does not answer", so what it asked for must not happen later: it sends the deadline along,
and the daemon refuses what it comes to too late. Both run on one machine, with one clock.
"""

from __future__ import annotations

import time

#: Seconds since the epoch.
HEADER = "Request-Deadline"


def header_for(timeout: float) -> dict[str, str]:
    """The header of a request that waits so many seconds."""
    return {HEADER: f"{time.time() + timeout:.3f}"}


def passed(deadline: str | None) -> bool:
    """Whether a header's time is over; False where there is none, or none that can be read."""
    try:
        return deadline is not None and time.time() > float(deadline)
    except ValueError:
        return False
