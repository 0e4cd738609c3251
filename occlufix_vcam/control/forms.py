"""The settings as a form: what a page must know to ask for each, read off Settings itself, so that none is missing."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from occlufix_vcam.core.settings import Reopens, Settings, reopened_by
from occlufix_vcam.language import DEFAULT, read_words

Kind = Literal["switch", "choice", "whole", "number", "text", "list"]
Part = Literal["camera", "output", "restoring", "program"]
Unit = Literal["", "px", "fps", "%", "faces"]
Applies = Literal["at once", "opens anew", "at the next start"]

#: In which unit a setting counts; "%" for a share, too, which is 0..1.
UNITS: dict[str, Unit] = {
    "width": "px",
    "height": "px",
    "rate": "fps",
    "strength": "%",
    "min_coverage": "%",
    "max_faces": "faces",
}


class Field(TypedDict):
    """One setting; `choices`, `words`, `minimum` and `maximum` are None where it has none, `optional` takes null.

    Title and words are English; the page has them in its languages.
    """

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
    unit: Unit


#: When a change takes effect; any other one reopens something.
_APPLIES: dict[Reopens, Applies] = {Reopens.RESTART: "at the next start", Reopens.LIVE: "at once"}


def settings_form() -> list[Field]:
    """Every setting, in the order in which Settings names them."""
    schema = Settings.model_json_schema()
    return [_field(name, told) for name, told in schema["properties"].items()]


def _field(name: str, told: dict[str, Any]) -> Field:
    english = read_words(DEFAULT)
    kinds = [kind for kind in told.get("anyOf", [told]) if kind.get("type") != "null"]
    what = {**told, **kinds[0]}
    choices = what.get("enum")
    return Field(
        name=name,
        title=english(f"set.{name}"),
        description=told.get("description", ""),
        kind=_kind(what),
        part=_part(name),
        applies=_APPLIES.get(reopened_by(name), "opens anew"),
        default=told.get("default"),
        optional=len(kinds) < len(told.get("anyOf", [told])),
        choices=choices,
        words=choices and [english.find(f"choice.{name}.{one}", f"choice.{one}") or str(one) for one in choices],
        minimum=what.get("minimum", what.get("exclusiveMinimum")),
        maximum=what.get("maximum", what.get("exclusiveMaximum")),
        unit=UNITS.get(name, ""),
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
