"""Follows the daemon's events in a thread of its own, across its stops and starts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from occlufix_vcam.client.client import ControlClient, ControlError
from occlufix_vcam.core.state import NotRunning, StateFolder

#: Interval of looking for a daemon while none runs, unless `wake` is called when its files change.
LOOK_S = 5.0
#: A daemon that ended or does not answer is not contacted again right away.
REFUSED_S = 1.0

Tell = Callable[[str, Mapping[str, Any]], None]


class Listener(threading.Thread):
    """Reports every event; "found" with `version` ("" if it is ours), "lost" with `told`: whether the daemon said
    goodbye.
    """

    def __init__(self, state: StateFolder, tell: Tell) -> None:
        super().__init__(name="listener", daemon=True)  # it may be waiting for the next event when the icon quits
        self._state, self._tell = state, tell
        self._wake = threading.Event()

    def wake(self) -> None:
        """Wakes the listener after a change in the folder of the daemon's address."""
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
                if not there:  # not sooner: a killed daemon leaves its address behind
                    there = True
                    self._tell("found", found)
                stopping = stopping or (name == "status" and value["state"] == "stopping")
                self._tell(name, value)
        except ControlError:
            if not there and found["version"]:  # it may be too different to report anything
                self._tell("found", found)
        if there:
            self._tell("lost", {"told": stopping})
        self._wake.wait(REFUSED_S)
