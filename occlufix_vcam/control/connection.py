"""A connection that is served: it does not wait long for a request, nor for its peer to take an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

STALLED_S = 4.0  # for which a request, its body or, between two of them, the next one may take to come
UNTAKEN_S = 8.0  # for which a peer may take nothing of an answer
#: Answered at once to one connection, a second: it does not matter to the others how often one asks.
REQUESTS_A_SECOND = 10.0
#: So many may come in one go, as they do when a page opens.
BURST = 30
LONGEST_DELAY_S = 0.25


class Throttle:
    """Answers at once up to `rate` requests a second, and BURST at first; delays the rest."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._period, self._clock = 1.0 / rate, clock
        self._due = clock() - BURST * self._period

    def delay(self) -> float:
        """Seconds by which this request is to wait."""
        now = self._clock()
        self._due = min(max(self._due, now - BURST * self._period) + self._period, now + LONGEST_DELAY_S)
        return max(0.0, self._due - now)


class Connection(H11Protocol):
    """uvicorn's, which would wait for ever for the rest of a request, and for a peer that takes nothing."""

    def __init__(self, config: uvicorn.Config, state: ServerState, said: bytes, lost: Callable[[], None]) -> None:
        super().__init__(config, state, {"pace": Throttle(REQUESTS_A_SECOND)})
        self._said, self._lost = said, lost
        self._stalled: asyncio.TimerHandle | None = None
        self._untaken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()
        self.data_received(self._said)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._stalled, self._untaken):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        self._lost()

    def handle_events(self) -> None:
        super().handle_events()
        if self._stalled is not None and self.cycle is not None and not self.cycle.response_complete:
            self._stalled.cancel()

    def on_response_complete(self) -> None:
        self._await_request()  # first: the next request may be there already
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._untaken = self.loop.call_later(UNTAKEN_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._untaken is not None:
            self._untaken.cancel()

    def _await_request(self) -> None:
        """Also after the last answer: closing waits until the peer has taken it."""
        if self._stalled is not None:
            self._stalled.cancel()
        self._stalled = self.loop.call_later(STALLED_S, self.transport.abort)
