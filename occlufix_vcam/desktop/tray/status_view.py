"""State and messages of the icon, derived from a status. Independent of Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

IconName = Literal["on", "off", "restoring", "idle", "trouble"]
ICON_NAMES: tuple[IconName, ...] = get_args(IconName)

#: By worker: what has the trouble.
PLACES = {"capture": "the camera", "process": "the engines", "output": "the output"}
NO_HINT = "For details, run `occlufix-vcam doctor`"
AGAIN = "OccluFix Camera retries by itself"
NOT_READY = {"starting": "Starting", "loading": "Loading the engines", "stopping": "Stopping"}


@dataclass(frozen=True, slots=True)
class TrayStatus:
    """Icon, and one line for its tooltip and menu."""

    icon: IconName
    words: str


NOT_RUNNING = TrayStatus("idle", "Not running")
GONE = TrayStatus("trouble", "OccluFix Camera stopped unexpectedly")


def tray_status(status: Mapping[str, Any]) -> TrayStatus:
    """Icon and line for a status of the daemon."""
    if status["trouble"]:
        return TrayStatus("trouble", "; ".join(trouble_line(*one) for one in status["trouble"].items()))
    if status["state"] in NOT_READY and (status["enabled"] or status["state"] == "stopping"):
        return TrayStatus("idle", NOT_READY[status["state"]])
    if not status["enabled"]:
        return TrayStatus("off", "Off: frames pass untouched")
    if status["state"] == "idle" or status["viewers"] == 0:
        return TrayStatus("idle", "On, no program reads the camera")
    if status["restoring"]:
        many = status["restoring"]
        return TrayStatus("restoring", f"On, restoring {many} faces" if many > 1 else "On, restoring a face")
    return TrayStatus("on", "On, nothing is hidden" if status["faces"] else "On, no face in view")


def trouble_line(place: str, what: str) -> str:
    return f"Trouble with {PLACES.get(place, place)}: {what}"


class Troubles:
    """Trouble that was already reported: each is news once, and again after it was gone."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def news(self, trouble: Mapping[str, str], hints: Mapping[str, str]) -> list[tuple[str, str]]:
        """What happened and what to do, for each new trouble."""
        fresh = [(place, what) for place, what in trouble.items() if self._told.get(place) != what]
        self._told = dict(trouble)
        return [(trouble_line(place, what), f"{AGAIN}. {hints.get(place) or NO_HINT}") for place, what in fresh]
