"""State and messages of the icon, derived from a status. Independent of Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from occlufix_vcam.core.errors import Trouble
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
        lines = (trouble_line(place, words.said(one)[0], words) for place, one in troubles(status).items())
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


def troubles(status: Mapping[str, Any]) -> dict[str, Trouble]:
    """Current trouble by worker or sink. Daemons of earlier versions tell no codes."""
    hints, codes = status.get("hints", {}), status.get("codes", {})
    return {
        place: Trouble(what, hints.get(place, ""), **codes.get(place, {}))
        for place, what in status.get("trouble", {}).items()
    }


def enrollment_trouble(enrollment: Mapping[str, Any]) -> Trouble:
    """Why an enrollment failed."""
    code, values = enrollment.get("code", ""), enrollment.get("values", {})
    return Trouble(str(enrollment["say"]), str(enrollment["hint"]), code, values)


def trouble_line(place: str, what: str, words: Words) -> str:
    return words("trouble.with", place=words(f"trouble.{place}") if place in PLACES else place, what=what)


class Troubles:
    """Trouble that was already reported: each is news once, and again after it was gone."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._told: dict[str, Trouble] = {}

    def news(self, status: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What happened and what to do, for each new trouble."""
        now = troubles(status)
        fresh = [(place, one) for place, one in now.items() if self._told.get(place) != one]
        self._told = now
        return [self._line(place, one) for place, one in fresh]

    def _line(self, place: str, trouble: Trouble) -> tuple[str, str]:
        what, hint = self._words.said(trouble)
        goes_on = self._words.find(f"again.{place}", f"again.{trouble.code}", "trouble.again")
        remedy = hint or self._words("trouble.doctor", command=DOCTOR)
        return trouble_line(place, what, self._words), f"{goes_on} {remedy}"
