"""Opens in a thread of its own what a driver or a server may hold up for seconds; who wants it goes on meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=Closable)


class BackgroundOpen(Generic[T]):
    """What `open_` gives, once it has. Used by one thread."""

    def __init__(self, open_: Callable[[], T]) -> None:
        self._future: Future[T] = Future()
        self._open = open_
        # A daemon thread, for a driver may hold it for ever.
        threading.Thread(target=self._run, name="opening", daemon=True).start()

    def _run(self) -> None:
        try:
            self._future.set_result(self._open())
        except BaseException as error:  # noqa: BLE001  raised again where it is waited for
            self._future.set_exception(error)

    def is_over(self, timeout: float = 0.0) -> bool:
        """Whether it came to an end, good or bad, before `timeout` seconds were over."""
        return bool(wait([self._future], timeout).done)

    def result(self) -> T:
        """What was opened. Raises what `open_` raised."""
        return self._future.result()

    def give_up(self) -> None:
        """Nobody wants it any more: it is closed as soon as it has come."""
        self._future.add_done_callback(_close_what_came)


def _close_what_came(future: Future[T]) -> None:
    if future.exception() is None:
        future.result().close()
