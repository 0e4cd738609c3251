"""Real hands that hide faces: photographs of hands, empty or holding something, each going on into an arm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engines.contract import EYE_DISTANCE_PX, Image
from train.data.face_set import DataError
from train.occlusion import drawn_occluders
from train.occlusion.compositing import FaceGeometry, Layer, placement, scaled, warped
from train.occlusion.sprites import Sprite, load

INDICES = ("index.jsonl", "more.jsonl")
#: The longer side of a hand that holds something, in eye distances (of 6.3 cm), by what it holds; others are left out.
HELD_SIZES = {"phone": 3.7, "burger": 2.6, "cup": 4.2, "card": 3.0, "glass": 3.2, "mug": 2.1}
#: The same of an outstretched hand and of a fist without an arm.
HAND_SIZE, FIST_SIZE = 2.6, 1.7
#: A hand is at most so many times as long as it is wide; what goes beyond is its arm.
LONGEST_HAND = 1.75
#: The arm is continued by this share of the cut-out's longer side: out of the picture, wherever the hand is.
ARM_LENGTH = 2.5
#: Share of the cut-out's end that is searched for a clean cut through the arm.
RAGGED = 0.12
SLEEVE_CHANCE, OWN_TONE_CHANCE = 0.45, 0.5
#: Where hands go, as Scene.point takes it: mouth, nose, cheeks, eyes, chin, forehead.
HAND_TARGETS = ((0, 1.0), (0, 1.0), (0, 0.55), (-0.6, 0.7), (0.6, 0.7), (-0.5, 0.0), (0.5, 0.0), (0, 1.45), (0, -0.5))
#: What a phone's screen keeps of its light: a person who holds it before the face looks at it, and shows its dark back.
SCREEN_LIGHT = 0.35
#: Quarter turns that bring the edge where the arm leaves to the bottom.
_TURNS = {"bottom": 0, "right": 1, "top": 2, "left": 3}


@dataclass(frozen=True, slots=True)
class PhotographedHand:
    """A cut-out with its arm continued downwards; the hand itself is the top `width` x `height` of it.

    `size` is the longer side of that part in eye distances; the arm begins at `wrist`, `wrist_px` wide. `skin` is
    the colour of its lighter half, BGR. Turned by `upright` degrees clockwise it stands as it was photographed.
    """

    sprite: Sprite
    width: int
    height: int
    size: float
    wrist: tuple[float, float]
    wrist_px: float
    upright: float
    skin: np.ndarray


class PhotographedHands:
    """The hands in a folder; those of the split `train` are drawn at random. Cut-outs are read when first used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        indices = [folder / name for name in INDICES if (folder / name).is_file()]
        rows = [json.loads(line) for index in indices for line in index.read_text(encoding="utf-8").splitlines()]
        self._rows = {str(row["file"]): row for row in rows}
        rows = [row for row in rows if row["split"] == "train" and _leaves(row) in _TURNS]
        self._empty = [row for row in rows if not _held(row)]
        self._holding = [row for row in rows if _held(row) in HELD_SIZES]
        self._read: dict[str, PhotographedHand] = {}

    def __bool__(self) -> bool:
        return bool(self._empty and self._holding)

    def hand(self, scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
        """An empty hand over mouth, nose, cheek, eye, chin or forehead; of its own skin, of any or of the face's."""
        hand = self._one(self._empty, rng)
        tone = None
        if rng.random() >= OWN_TONE_CHANCE:
            tone = (
                np.array(drawn_occluders.skin_tone(rng)) if rng.random() < 0.5 else scene.skin * rng.uniform(0.75, 1.1)
            )
        target = scene.point(*HAND_TARGETS[rng.integers(len(HAND_TARGETS))]) + rng.normal(0, 10 * scene.unit, 2)
        angle = rng.normal(0, 25) if rng.random() < 0.35 else rng.choice([-1, 1]) * rng.uniform(20, 115)
        return _placed(scene, hand, target, angle, rng.uniform(0.15, 0.6), tone, rng)

    def holding(self, scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
        """A phone, mug, glass or something to eat before the lower face, and the hand that holds it."""
        hand = self._one(self._holding, rng)
        target = scene.point(rng.normal(0, 0.3), rng.uniform(0.5, 1.3))
        angle = hand.upright + rng.normal(0, 12)
        return _placed(scene, hand, target, angle, rng.uniform(0.2, 0.5), None, rng)

    def named(self, file: str) -> PhotographedHand:
        """The hand of this file, of any split. Raises DataError if the index has none."""
        if file not in self._rows:
            raise DataError(f"no hand {file} in the indices of {self._folder}; give the data folder with --data")
        if file not in self._read:
            self._read[file] = _hand(load(self._folder / file), self._rows[file])
        return self._read[file]

    def _one(self, rows: list[Mapping[str, Any]], rng: np.random.Generator) -> PhotographedHand:
        return self.named(str(rows[rng.integers(len(rows))]["file"]))


def _placed(
    scene: FaceGeometry,
    hand: PhotographedHand,
    target: np.ndarray,
    angle: float,
    grip: float,
    tone: np.ndarray | None,
    rng: np.random.Generator,
) -> list[Layer]:
    """The hand with a point at the height `grip` of it on `target`, its arm bare or in a sleeve."""
    scale = hand.size * EYE_DISTANCE_PX * scene.unit * rng.uniform(0.85, 1.25) / max(hand.width, hand.height)
    held = (0.5, grip * hand.height / hand.sprite.alpha.shape[0])
    matrix = placement(hand.sprite, target, angle + scene.angle, scale, held, rng)
    layer = warped(scene, hand.sprite, matrix)
    if tone is not None:
        layer = Layer(_toned(layer.image, tone / hand.skin), layer.alpha, relit=False)
    layers = [layer]
    if rng.random() < SLEEVE_CHANCE:
        away = matrix[:, 1] / np.hypot(*matrix[:, 1])
        start = matrix @ (*hand.wrist, 1) + away * rng.uniform(0, 50) * scene.unit
        width = hand.wrist_px * float(np.hypot(*matrix[:, 0])) * rng.uniform(1.15, 1.6)
        layers.append(
            drawn_occluders.limb(scene, start, away, width, np.array(drawn_occluders.any_colour(rng)), rng, sleeve=True)
        )
    return layers


def _toned(image: Image, gain: np.ndarray) -> Image:
    """As light as the tone, half as far in colour: the whole way turns red light on a palm into green skin."""
    light = float(gain.mean())
    return scaled(image, min(light, 1.8) * np.sqrt(gain / light))


def _hand(sprite: Sprite, row: Mapping[str, Any]) -> PhotographedHand:
    """The cut-out turned so that its arm leaves at the bottom, and goes on there."""
    held, turns = _held(row), _TURNS[_leaves(row)]
    image = _without_screen(sprite) if held == "phone" else sprite.image
    image, alpha = (np.ascontiguousarray(np.rot90(plane, -turns)) for plane in (image, sprite.alpha))
    cut = _clean_cut(alpha)
    height, width = cut, alpha.shape[1]
    seen = np.flatnonzero(alpha[cut - 1] > 127)
    wrist = (float(seen.mean()), float(cut)) if len(seen) else (width / 2, float(cut))
    sprite = _continued(image[:cut], alpha[:cut])
    if not held:
        height = min(height, round(LONGEST_HAND * width))
    size = HELD_SIZES[held] if held else FIST_SIZE if _is_fist(row) else HAND_SIZE
    pixels = image[alpha > 200]
    light = pixels.sum(axis=1)
    skin = np.maximum(pixels[light >= np.median(light)].mean(axis=0), 20)
    return PhotographedHand(sprite, width, height, size, wrist, float(max(len(seen), 1)), -90.0 * turns, skin)


def _clean_cut(alpha: Image) -> int:
    """How many rows to keep: the last ones are often torn or rounded, and the arm is to go on as wide as it is."""
    last = len(alpha) - round(RAGGED * len(alpha))
    widths = (alpha[last:] > 200).sum(axis=1)
    return last + 1 + int(np.flatnonzero(widths >= 0.9 * widths.max())[-1])


def _continued(image: Image, alpha: Image) -> Sprite:
    """The arm goes straight on from its last rows, its colours smooth across it and without their grain along it."""
    below = round(ARM_LENGTH * max(alpha.shape))
    rows = np.s_[-6:]
    seen = (alpha[rows] > 127).astype(np.float32)
    edge = cv2.GaussianBlur((seen.mean(axis=0, keepdims=True) * 255).astype(np.uint8), (5, 1), 0)
    tone = cv2.GaussianBlur(image[rows].mean(axis=0, keepdims=True).astype(np.uint8), (9, 1), 0)
    longer = [
        np.concatenate([plane, plane_end.repeat(below, axis=0)]) for plane, plane_end in ((image, tone), (alpha, edge))
    ]
    return Sprite(*longer)


def _without_screen(sprite: Sprite) -> Image:
    """A phone as dark as its back: all that has no colour of skin."""
    _, red, blue = cv2.split(cv2.cvtColor(sprite.image, cv2.COLOR_BGR2YCrCb))
    skin = ((red > 136) & (red < 185) & (blue > 80) & (blue < 126)).astype(np.float32)
    keep = cv2.GaussianBlur(cv2.medianBlur(skin, 5), (0, 0), 1.5)[..., None]
    return (sprite.image * (SCREEN_LIGHT + (1 - SCREEN_LIGHT) * keep)).astype(np.uint8)


def _held(row: Mapping[str, Any]) -> str:
    """What the hand holds; "" for nothing."""
    return str(row["kind"]).partition("holding:")[2]


def _leaves(row: Mapping[str, Any]) -> str:
    """The edge at which the arm leaves; a hand that was cut at the wrist stands upright."""
    edge = str(row.get("leaves") or row.get("edge"))
    return "bottom" if edge == "wrist cut" else edge


def _is_fist(row: Mapping[str, Any]) -> bool:
    return row["kind"] == "fist" or "gesture rock" in str(row.get("notes"))
