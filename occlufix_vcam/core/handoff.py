"""Hand-offs between threads: of the newest value to one consumer, or to any number of observers."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Slot for one value, safe for many threads."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._value: T | None = None
        self._closed = False
        self._dropped = 0

    def put(self, value: T) -> None:
        """Replaces a value that was not taken yet. Ignored once closed."""
        with self._condition:
            if self._closed:
                return
            if self._value is not None:
                self._dropped += 1
            self._value = value
            self._condition.notify()

    def take(self, timeout: float) -> T | None:
        """The newest value, waiting at most `timeout` seconds; None if none came or the slot is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._value is not None or self._closed, timeout)
            value, self._value = self._value, None
            return value

    def close(self) -> None:
        """Wakes every waiter; a value in the slot can still be taken."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    @property
    def dropped(self) -> int:
        return self._dropped


class Broadcast(Generic[T]):
    """Newest value for any number of observers; it stays until the next one. Safe for many threads."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._value: T | None = None
        self._number = 0

    def show(self, value: T) -> None:
        """Publishes a value. Never blocks."""
        with self._condition:
            self._value = value
            self._number += 1
            self._condition.notify_all()

    def after(self, number: int, timeout: float) -> tuple[int, T] | None:
        """The newest value and its number, once that exceeds `number`; None if none came within `timeout` s."""
        with self._condition:
            self._condition.wait_for(lambda: self._number > number, timeout)
            if self._value is None or self._number <= number:
                return None
            return self._number, self._value
