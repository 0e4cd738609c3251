"""State and messages of the icon, derived from a status. Independent of Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from occlufix_vcam.language import Words

IconName = Literal["on", "off", "restoring", "idle", "trouble"]
ICON_NAMES: tuple[IconName, ...] = get_args(IconName)

#: Workers whose trouble has a name of its own.
PLACES = ("capture", "process", "output")
DOCTOR = "occlufix-vcam doctor"
NOT_READY = ("starting", "loading", "stopping")


@dataclass(frozen=True, slots=True)
class TrayStatus:
    """Icon, and one line for its tooltip and menu."""

    icon: IconName
    words: str


def tray_status(status: Mapping[str, Any], words: Words) -> TrayStatus:
    """Icon and line for a status of the daemon."""
    if status["trouble"]:
        lines = (trouble_line(place, what, words) for place, what in status["trouble"].items())
        return TrayStatus("trouble", "; ".join(lines))
    if status["state"] in NOT_READY and (status["enabled"] or status["state"] == "stopping"):
        return TrayStatus("idle", words(f"mood.{status['state']}"))
    if not status["enabled"]:
        return TrayStatus("off", words("mood.off"))
    if status["state"] == "idle" or status["viewers"] == 0:
        return TrayStatus("idle", words("mood.idle"))
    if status["restoring"]:
        return TrayStatus("restoring", words.count(status["restoring"], "mood.one", "mood.many"))
    return TrayStatus("on", words("mood.on" if status["faces"] else "mood.noface"))


def recognised_line(status: Mapping[str, Any], words: Words) -> str:
    """Who is recognised; "" if nobody is. Daemons of earlier versions do not tell."""
    names = status.get("recognised")
    return words("see.known", names=", ".join(names)) if names else ""


def trouble_line(place: str, what: str, words: Words) -> str:
    return words("trouble.with", place=words(f"trouble.{place}") if place in PLACES else place, what=what)


class Troubles:
    """Trouble that was already reported: each is news once, and again after it was gone."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._told: dict[str, str] = {}

    def news(self, trouble: Mapping[str, str], hints: Mapping[str, str]) -> list[tuple[str, str]]:
        """What happened and what to do, for each new trouble."""
        fresh = [(place, what) for place, what in trouble.items() if self._told.get(place) != what]
        self._told = dict(trouble)
        doctor = self._words("trouble.doctor", command=DOCTOR)
        again = self._words("trouble.again")
        return [
            (trouble_line(place, what, self._words), f"{again} {hints.get(place) or doctor}") for place, what in fresh
        ]
