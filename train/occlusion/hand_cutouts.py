"""Hands of many people cut out of photographs, upright: of light, brown and dark skin, bare or with what they hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from train.occlusion.sprites import Sprite, load

#: What turns a picture whose wrist leaves at this edge so that it leaves at the lower one.
_TURNS = {"right": cv2.ROTATE_90_CLOCKWISE, "left": cv2.ROTATE_90_COUNTERCLOCKWISE, "top": cv2.ROTATE_180}
_INDEXES = ("index.jsonl", "more.jsonl")


def bare_hands(data: Path) -> list[Sprite]:
    """All hands that hold nothing, to train with; none where the data folder has none."""
    return [_upright(data, row) for row in _rows(data) if not _holds(row)]


def holding_hands(data: Path) -> list[Sprite]:
    """All hands with a phone, a mug, a card; none where the data folder has none."""
    return [_upright(data, row) for row in _rows(data) if _holds(row)]


def _rows(data: Path) -> Iterator[dict[str, Any]]:
    for index in _INDEXES:
        path = data / "hands" / index
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            row = json.loads(line)
            if row["split"] == "train":
                yield row


def _holds(row: dict[str, Any]) -> bool:
    return str(row["kind"]).startswith("holding")


def _upright(data: Path, row: dict[str, Any]) -> Sprite:
    sprite = load(data / "hands" / row["file"])
    turn = _TURNS.get(str(row.get("leaves", row.get("edge"))).split(",")[0])
    if turn is None:
        return sprite
    return Sprite(*(np.ascontiguousarray(cv2.rotate(plane, turn)) for plane in (sprite.image, sprite.alpha)))
