"""What the icon shows and says of a status, and which trouble is news. Knows no toolkit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

IconName = Literal["on", "off", "restoring", "idle", "trouble"]
ICON_NAMES: tuple[IconName, ...] = get_args(IconName)

#: By worker: who has the trouble.
PLACES = {"capture": "the camera", "process": "the engines", "output": "what the pictures are sent to"}
NO_HINT = "`occlufix-vcam doctor` says more"
AGAIN = "It is tried again by itself"
NOT_READY = {"starting": "Starting", "loading": "Making the engines ready", "stopping": "Stopping"}


@dataclass(frozen=True, slots=True)
class TrayStatus:
    """Which icon, and one line for its tip and menu."""

    icon: IconName
    words: str


NOT_RUNNING = TrayStatus("idle", "Not running")
GONE = TrayStatus("trouble", "It stopped without being told to")


def tray_status(status: Mapping[str, Any]) -> TrayStatus:
    """Of a status that the daemon told."""
    if status["trouble"]:
        return TrayStatus("trouble", "; ".join(trouble_line(*one) for one in status["trouble"].items()))
    if status["state"] in NOT_READY and (status["enabled"] or status["state"] == "stopping"):
        return TrayStatus("idle", NOT_READY[status["state"]])
    if not status["enabled"]:
        return TrayStatus("off", "Off: the untouched picture goes out")
    if status["state"] == "idle" or status["viewers"] == 0:
        return TrayStatus("idle", "On; no program looks at the camera")
    if status["restoring"]:
        many = status["restoring"]
        return TrayStatus("restoring", f"On, restoring {many} faces" if many > 1 else "On, restoring a face")
    return TrayStatus("on", "On, nothing is hidden" if status["faces"] else "On, nobody is in the picture")


def trouble_line(place: str, what: str) -> str:
    return f"Trouble with {PLACES.get(place, place)}: {what}"


class Troubles:
    """Which trouble was told already: each is news once, and again after it was gone."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def news(self, trouble: Mapping[str, str], hints: Mapping[str, str]) -> list[tuple[str, str]]:
        """What happened and what to do, for each that is new."""
        fresh = [(place, what) for place, what in trouble.items() if self._told.get(place) != what]
        self._told = dict(trouble)
        return [(trouble_line(place, what), f"{AGAIN}. {hints.get(place) or NO_HINT}") for place, what in fresh]
