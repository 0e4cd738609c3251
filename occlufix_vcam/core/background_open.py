"""Opens resources in a background thread, because a driver or server may block for seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=Closable)


class BackgroundOpen(Generic[T]):
    """Result of `open_`, once there is one. Used by one thread."""

    def __init__(self, open_: Callable[[], T]) -> None:
        self._future: Future[T] = Future()
        self._open = open_
        # A daemon thread, because a driver may block it forever.
        threading.Thread(target=self._run, name="opening", daemon=True).start()

    def _run(self) -> None:
        try:
            self._future.set_result(self._open())
        except BaseException as error:  # noqa: BLE001  raised again in `result`
            self._future.set_exception(error)

    def is_over(self, timeout: float = 0.0) -> bool:
        """Whether it has succeeded or failed within `timeout` seconds."""
        return bool(wait([self._future], timeout).done)

    def result(self) -> T:
        """What was opened. Raises what `open_` raised."""
        return self._future.result()

    def give_up(self) -> None:
        """Abandons the result: it is closed as soon as it arrives."""
        self._future.add_done_callback(_close_what_came)


def _close_what_came(future: Future[T]) -> None:
    if future.exception() is None:
        future.result().close()
