"""The settings as a form: what a page must know to ask for each, read off Settings itself, so that none is missing."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from occlufix_vcam.core.settings import Reopens, Settings, reopened_by

Kind = Literal["switch", "choice", "whole", "number", "text", "list"]
Part = Literal["camera", "output", "restoring", "program"]
Applies = Literal["at once", "opens anew", "at the next start"]

#: In plain words; any other setting is called by its name.
TITLES = {
    "sinks": "Send to",
    "width": "Width",
    "height": "Height",
    "rate": "Frames per second",
    "always_on": "Keep camera open",
    "rotate": "Rotate",
    "flip": "Upside down",
    "fit": "Fit",
    "loop": "Repeat clips",
    "realtime": "Play clips in real time",
    "record": "Record to",
    "record_before": "Record before and after",
    "enabled": "Restore hidden faces",
    "finder": "Face finder",
    "backend": "Engine",
    "max_faces": "Maximum faces",
    "min_coverage": "Minimum coverage",
    "on_failure": "If restoring fails",
    "hotkey": "Hotkey",
    "hotkey_bare": "Hotkey for the bare picture",
    "log_level": "Log",
}
#: What a choice means, where its name does not say it.
WORDS = {
    "passthrough": "Send it untouched",
    "hold": "Hold the last good frame",
    "blank": "Send a blank frame",
    "own": "Built-in",
    "insightface": "InsightFace (installed separately)",
    "letterbox": "Add bars",
    "crop": "Cut the edges",
}


class Field(TypedDict):
    """One setting; `choices`, `words`, `minimum` and `maximum` are None where it has none, `optional` takes null."""

    name: str
    title: str
    description: str
    kind: Kind
    part: Part
    applies: Applies
    default: Any
    optional: bool
    choices: list[Any] | None
    words: list[str] | None
    minimum: float | None
    maximum: float | None


#: When a change takes effect; any other one reopens something.
_APPLIES: dict[Reopens, Applies] = {Reopens.RESTART: "at the next start", Reopens.LIVE: "at once"}


def settings_form() -> list[Field]:
    """Every setting, in the order in which Settings names them."""
    schema = Settings.model_json_schema()
    return [_field(name, told) for name, told in schema["properties"].items()]


def _field(name: str, told: dict[str, Any]) -> Field:
    kinds = [kind for kind in told.get("anyOf", [told]) if kind.get("type") != "null"]
    what = {**told, **kinds[0]}
    choices = what.get("enum")
    return Field(
        name=name,
        title=TITLES.get(name, name.replace("_", " ").capitalize()),
        description=told.get("description", ""),
        kind=_kind(what),
        part=_part(name),
        applies=_APPLIES.get(reopened_by(name), "opens anew"),
        default=told.get("default"),
        optional=len(kinds) < len(told.get("anyOf", [told])),
        choices=choices,
        words=choices and [WORDS.get(str(choice), str(choice)) for choice in choices],
        minimum=what.get("minimum", what.get("exclusiveMinimum")),
        maximum=what.get("maximum", what.get("exclusiveMaximum")),
    )


def _kind(what: dict[str, Any]) -> Kind:
    if "enum" in what:
        return "choice"
    kinds: dict[str, Kind] = {"boolean": "switch", "integer": "whole", "number": "number", "array": "list"}
    return kinds.get(what.get("type", ""), "text")


def _part(name: str) -> Part:
    if reopened_by(name) is Reopens.CAMERA or name == "always_on":
        return "camera"
    if reopened_by(name) is Reopens.SINKS or name in ("mirror", "fit"):
        return "output"
    if reopened_by(name) is Reopens.RESTART or name in ("hotkey", "hotkey_bare", "log_level"):
        return "program"
    return "restoring"
