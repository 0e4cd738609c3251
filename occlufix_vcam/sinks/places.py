"""Resolves which virtual camera is meant, and opens the first one that works."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from occlufix_vcam.core.errors import SinkUnavailable
from occlufix_vcam.sinks import VirtualCameraInfo

Opened = TypeVar("Opened")
Place = VirtualCameraInfo


def failed(place: Place, error: OSError) -> Place:
    """`place` with the reason why it did not open."""
    return replace(place, problem=str(error), hint="run `occlufix-vcam doctor`")


def named_places(target: str, found: Sequence[Place]) -> Sequence[Place]:
    """Places to try, in order: all that were `found` for "auto", else those whose path, name or kind is `target`."""
    if target == "auto":
        return found
    device = os.path.realpath(target) if target.startswith("/") else target
    wanted = target.casefold()
    matches = [place for place in found if device == place.path or wanted in (place.name.casefold(), place.backend)]
    if matches:
        return matches
    there = ", ".join(_label(place) for place in found if not place.problem)
    problem = "there is no such virtual camera" + (f"; there are: {there}" if there else "")
    return [Place("", target, "", problem, "run `occlufix-vcam devices` to list them")]


def open_first(
    places: Sequence[Place],
    open_place: Callable[[Place], Opened],
    explain: Callable[[Place, OSError], Place] = failed,
) -> tuple[Place, Opened]:
    """First of `places` that opens, and the result of `open_place`. Raises SinkUnavailable with every reason.

    `explain` says what is wrong with a place that looked usable and did not open.
    """
    reasons, hint = [], ""
    for place in places:
        if not place.problem:
            try:
                return place, open_place(place)
            except OSError as error:
                place = explain(place, error)
        reasons.append(f"{_label(place)}: {place.problem}")
        hint = hint or place.hint
    raise SinkUnavailable("no virtual camera: " + "; ".join(reasons), hint, code="no_virtual_camera")


def _label(place: Place) -> str:
    return place.path or place.name or place.backend
