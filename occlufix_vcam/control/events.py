"""Server-sent events: changes go to listeners at once, so that no client polls.

While there are listeners, one task looks ten times a second whether a topic's signs changed, for all of them. Figures
always change: listeners that ask for them get them at intervals.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

LOOK_S = 0.1
ALIVE_S = 15.0  # a silent stream sends a comment, so that a peer that is gone is noticed
MOST_LISTENERS = 32


@dataclass(slots=True)
class Topic:
    """Something to tell of; it counts as changed when a value under one of `signs` did, or any where there are none."""

    read: Callable[[], Mapping[str, Any]]
    signs: tuple[str, ...] = ()
    value: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0

    def look(self) -> bool:
        """Whether it changed since the last look."""
        old, self.value = self.value, self.read()
        names = self.signs or tuple(self.value)
        changed = any(old.get(name) != self.value.get(name) for name in names)
        self.version += changed
        return changed


class Events:
    """Topics by name, told to listeners. Everything runs in the event loop's thread."""

    def __init__(self, topics: dict[str, Topic]) -> None:
        self._topics = topics
        self._listeners = 0
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._closing = False

    def full(self) -> bool:
        return self._listeners >= MOST_LISTENERS

    async def stream(self, every: float | None) -> AsyncIterator[bytes]:
        """Every topic once, then those that change; `status` also each `every` seconds where that is given."""
        self._listeners += 1
        self._look()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._keep_looking())
        told: dict[str, int] = {}
        try:
            while not self._closing:
                changed = self._changed
                for name, topic in self._topics.items():
                    if told.get(name) != topic.version:
                        told[name] = topic.version
                        yield _event(name, topic.value)
                try:
                    await asyncio.wait_for(changed.wait(), every or ALIVE_S)
                except TimeoutError:
                    yield _event("status", self._topics["status"].value) if every else b": alive\n\n"
            self._look()
            yield _event("status", self._topics["status"].value)  # the last one says that the daemon stops
        finally:
            self._listeners -= 1

    def close(self) -> None:
        self._closing = True
        self._changed.set()

    def _look(self) -> None:
        # A list: every topic is looked at, not only those up to the first that changed.
        if any([topic.look() for topic in self._topics.values()]):
            self._changed.set()
            self._changed = asyncio.Event()

    async def _keep_looking(self) -> None:
        while self._listeners and not self._closing:
            await asyncio.sleep(LOOK_S)
            self._look()


def _event(name: str, value: Mapping[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(value)}\n\n".encode()
