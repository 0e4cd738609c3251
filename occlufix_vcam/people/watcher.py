"""The enrolled people for a thread that must not wait: their files are read aside."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from occlufix_vcam.people.person import Person
from occlufix_vcam.people.store import PeopleStore, load_people

LOOK_EVERY_S = 1.0
#: What is being read when the watcher closes may take this long; a keyring that waits for its user is left behind.
CLOSE_S = 5.0


class PeopleWatcher:
    """The people now, for a thread that must not wait: files are read aside, and again when they change.

    `people` is cheap enough for every frame.
    """

    def __init__(self, store: PeopleStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._looked_at = float("-inf")
        self._stamp = 0
        self._reader: threading.Thread | None = None
        self._now: Sequence[Person] = ()
        self._closed = threading.Event()

    def people(self) -> Sequence[Person]:
        """Everybody, as last read; the very same object until that changes."""
        now = self._clock()
        is_free = not (self._reader and self._reader.is_alive()) and not self._closed.is_set()
        if now - self._looked_at >= LOOK_EVERY_S and is_free:
            self._looked_at = now
            stamp = self._store.stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                # A daemon thread: a keyring may ask the user and wait for him, which must not keep the process alive.
                self._reader = threading.Thread(target=self._read, name="people", daemon=True)
                self._reader.start()
        return self._now

    def wait(self, timeout: float) -> Sequence[Person]:
        """Everybody, after what is being read now."""
        self.people()
        if self._reader is not None:
            self._reader.join(timeout)
        return self._now

    def close(self) -> None:
        """Ends the reading thread. One that is still decoding while Python ends would abort the process."""
        self._closed.set()
        if self._reader is not None:
            self._reader.join(CLOSE_S)

    def _read(self) -> None:
        self._now = load_people(self._store, self._closed.is_set)
