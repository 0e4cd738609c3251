"""Follows the daemon's events in a thread of its own, through its ends and its beginnings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from occlufix_vcam.client.client import ControlClient, ControlError
from occlufix_vcam.core.state import NotRunning, StateFolder

#: While no daemon runs: so often it is looked for, should nobody call `wake` when its files change.
LOOK_S = 5.0
#: A daemon that went, or that does not answer, is not asked again at once.
REFUSED_S = 1.0

Tell = Callable[[str, Mapping[str, Any]], None]


class Listener(threading.Thread):
    """Tells every event; "found" with `version` ("" where it is ours), "lost" with `told`: whether it said goodbye."""

    def __init__(self, state: StateFolder, tell: Tell) -> None:
        super().__init__(name="listener", daemon=True)  # it may be waiting for the next event when the icon goes
        self._state, self._tell = state, tell
        self._wake = threading.Event()

    def wake(self) -> None:
        """Something changed where the daemon leaves its address."""
        self._wake.set()

    def run(self) -> None:
        while True:
            self._wake.clear()
            try:
                with ControlClient(self._state) as client:
                    self._follow(client)
            except NotRunning:
                self._wake.wait(LOOK_S)

    def _follow(self, client: ControlClient) -> None:
        found = {"version": client.other_version() or ""}
        there = stopping = False
        try:
            for name, value in client.events():
                if not there:  # not sooner: a daemon that was killed leaves its address behind
                    there = True
                    self._tell("found", found)
                stopping = stopping or (name == "status" and value["state"] == "stopping")
                self._tell(name, value)
        except ControlError:
            if not there and found["version"]:  # it may be too different to tell us anything
                self._tell("found", found)
        if there:
            self._tell("lost", {"told": stopping})
        self._wake.wait(REFUSED_S)
