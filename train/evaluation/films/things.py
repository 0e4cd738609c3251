"""Things that reach beyond the face template, at the frame's resolution: arms, a mug with its hand, masks with straps.

Each gives colours and weights of one frame. An arm moves by itself, a mask with the face.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import Affine, Image, Points, similarity, transform_points
from train.occlusion.compositing import FaceGeometry, face_maps, line_width, remap, scaled
from train.occlusion.photographed_hands import PhotographedHands
from train.occlusion.sprites import Sprite, load

#: Colours and weights of a thing in one frame, both of the frame's size; called with the frame's number, landmarks.
Thing: TypeAlias = Callable[[int, Points], tuple[Image, Image]]

#: When an arm comes, is there, goes and is gone, as shares of the film.
COMES, THERE, GOES, GONE = 0.3, 0.4, 0.8, 0.9
#: The wide field: its size, and where the template begins in it.
_WIDE_PX, _WIDE_AT = 416, (80, 56)
#: Softness of an edge in frame pixels.
_EDGE_PX = 0.8
#: Shape of a mask, in eye distances across and eye-to-mouth distances down: half width, top, bottom.
_HALF, _TOP, _BOTTOM = 1.0, 0.3, 1.72
#: Straps in the same units, on the right: around the ear, and around the head and the neck.
_EAR_LOOPS = (((0.86, 0.55), (1.12, 0.2)), ((0.82, 1.1), (1.1, 0.5)))
_HEAD_BANDS = (((0.86, 0.5), (1.08, 0.1), (1.12, -0.6)), ((0.8, 1.2), (1.0, 1.15), (1.08, 1.0)))


@dataclass(frozen=True, slots=True)
class ArmScript:
    """A hand of `hands/` on the way to `target` (as FaceGeometry.point takes it).

    The arm points `angle` degrees clockwise from straight down; `own_tone` takes the skin of the face.
    """

    hand: str
    target: tuple[float, float]
    angle: float
    own_tone: bool = False


@dataclass(frozen=True, slots=True)
class MaskScript:
    """A mask of `occluders/mask_templates`, with loops around the ears or bands around the head."""

    template: str
    bands: bool = False
    strap: tuple[int, int, int] = (235, 235, 235)


def arm(data: Path, script: ArmScript, frames: int, middle: Image, landmarks: Points) -> Thing:
    """An arm from the picture's edge that passes in front of the face; `middle` is the film's middle frame."""
    hand = PhotographedHands(data / "hands").named(script.hand)
    scene = FaceGeometry(min(middle.shape[:2]), landmarks, middle)
    target = scene.point(*script.target)
    eyes_px = float(np.hypot(*scene.across))
    scale = hand.size * eyes_px / max(hand.width, hand.height)
    gain = scene.skin * 0.92 / hand.skin if script.own_tone else np.full(3, scene.skin.mean() * 0.95 / hand.skin.mean())
    sprite = Sprite(scaled(hand.sprite.image, np.clip(gain, 0.3, 1.8)), hand.sprite.alpha)
    size = middle.shape[1::-1]

    def drawn(number: int, _: Points) -> tuple[Image, Image]:
        far = _away(number / frames)
        turn = _turned(scale, script.angle + 2.5 * np.sin(number / 9) + 8 * far)
        along = turn[:, 1] / scale
        sway = np.array([5 * np.sin(number / 7), 3 * np.sin(number / 5)]) * eyes_px / 76.8
        held = np.array([hand.width / 2, 0.35 * hand.height])
        at = target + sway + along * far * _reach(target, along, size, scale * hand.height)
        return _warped(sprite, np.hstack([turn, (at - turn @ held)[:, None]]), size)

    return drawn


def mask(data: Path, script: MaskScript, middle: Image, landmarks: Points) -> Thing:
    """A mask with its straps, worn from the first frame on: it turns with the face."""
    sprite = load(data / "occluders" / "mask_templates" / f"{script.template}.png")
    light = FaceGeometry(min(middle.shape[:2]), landmarks, middle).light
    sprite = Sprite(scaled(sprite.image, np.full(3, light)), sprite.alpha)
    size = middle.shape[1::-1]

    def drawn(_: int, points: Points) -> tuple[Image, Image]:
        to_template = similarity(points)
        factor = max(1.0, 1 / float(np.hypot(to_template[0, 0], to_template[1, 0])))
        to_field = (to_template + np.array([[0, 0, _WIDE_AT[0]], [0, 0, _WIDE_AT[1]]], np.float32)) * np.float32(factor)
        scene = FaceGeometry(round(_WIDE_PX * factor), transform_points(points, to_field))
        field = _worn(sprite, script, scene, light)
        return _warped(field, cv2.invertAffineTransform(to_field), size)

    return drawn


def _away(share: float) -> float:
    """How far from its place the thing is at this share of the film: 1 out of the picture, 0 in front of the face."""
    way = float(np.clip(min((share - COMES) / (THERE - COMES), (GONE - share) / (GONE - GOES)), 0, 1))
    return 1 - way * way * (3 - 2 * way)


def _turned(scale: float, degrees: float) -> NDArray[np.float64]:
    cosine, sine = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def _reach(at: NDArray[np.float64], along: NDArray[np.float64], size: tuple[int, int], hand_px: float) -> float:
    """How far something at `at` goes in the direction `along` until its hand has left the picture, in pixels."""
    ends = [((limit if step > 0 else 0) - place) / step for place, step, limit in zip(at, along, size, strict=True)]
    return float(min(end for end in ends if end > 0)) + 1.2 * hand_px


def _worn(sprite: Sprite, script: MaskScript, scene: FaceGeometry, light: float) -> Sprite:
    """The mask over its straps, in the wide field."""
    alpha = np.zeros((scene.size, scene.size), np.uint8)
    for side in (-1, 1):
        for strap in _HEAD_BANDS if script.bands else _EAR_LOOPS:
            points = np.array([scene.point(side * u, v) for u, v in strap])
            whole = [np.round(points * 16).astype(np.int32)]
            cv2.polylines(alpha, whole, False, 255, line_width(3.2 * scene.unit), cv2.LINE_AA, 4)
    image = np.empty((scene.size, scene.size, 3), np.uint8)
    image[:] = np.clip(np.array(script.strap) * light, 0, 255)
    x, y = face_maps(scene, _HALF, _TOP, _BOTTOM, 0.05, sprite.alpha.shape)
    cloth, cover = remap(sprite.image, x, y, cv2.BORDER_REPLICATE), remap(sprite.alpha, x, y, cv2.BORDER_CONSTANT)
    weight = cover.astype(np.float32) / 255
    return Sprite(cv2.blendLinear(cloth, image, weight, 1 - weight), cv2.max(alpha, cover))


def _warped(sprite: Sprite, matrix: Affine | NDArray[np.float64], size: tuple[int, int]) -> tuple[Image, Image]:
    colours = cv2.warpAffine(sprite.image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return colours, cv2.GaussianBlur(cv2.warpAffine(sprite.alpha, matrix, size), (0, 0), _EDGE_PX)
