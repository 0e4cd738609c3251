"""Hands before a face, with the arms that they hang on."""

from __future__ import annotations

import cv2
import numpy as np

from engines.contract import Image
from train.occlusion import drawn_occluders
from train.occlusion.compositing import FaceGeometry, Layer, blank, line_width, place, scaled, shaded
from train.occlusion.photo_cutouts import Cutouts
from train.occlusion.sprites import Sprite

#: Where hands go, as Scene.point takes it: mouth, nose, cheeks, eyes, chin, forehead.
HAND_TARGETS = ((0, 1.0), (0, 1.0), (0, 0.55), (-0.6, 0.7), (0.6, 0.7), (-0.5, 0.0), (0.5, 0.0), (0, 1.45), (0, -0.5))
#: How often a hand holds something, where there are pictures of such hands.
_HOLDING_CHANCE = 0.15
#: What has all three colours above this is a screen that shines: who films with a telephone is shown its back.
_SHINING = 200


def hand(cutouts: Cutouts, scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
    """A hand over mouth, cheek, nose, eye, chin or forehead, with its arm or sleeve, of any skin or of the face's."""
    if cutouts.holding and rng.random() < _HOLDING_CHANCE:
        return _holding(cutouts, scene, rng)
    choice = rng.random()
    tone = np.array(drawn_occluders.skin_tone(rng)) if choice < 0.4 else scene.skin * rng.uniform(0.75, 1.15)
    if rng.random() < 0.5:
        sprite = cutouts.hands[rng.integers(len(cutouts.hands))]
        if choice < 0.8:
            sprite = Sprite(_recoloured(sprite, tone), sprite.alpha)
    else:
        sprite = drawn_occluders.hand(rng, tuple(tone))
    target = scene.point(*HAND_TARGETS[rng.integers(len(HAND_TARGETS))]) + rng.normal(0, 10 * scene.unit, 2)
    angle = rng.normal(0, 25) if rng.random() < 0.35 else rng.choice([-1, 1]) * rng.uniform(20, 115)
    grip = (0.5, rng.uniform(0.1, 0.65))
    scale = rng.uniform(0.85, 1.6) * scene.unit * 176 / sprite.alpha.shape[0]
    layer, wrist = place(scene, sprite, target, angle + scene.angle, scale, grip, rng)
    forearm = arm(scene, wrist, angle + scene.angle, sprite.alpha.shape[1] * scale, tone, rng)
    return [forearm, Layer(layer.image, layer.alpha, relit=choice >= 0.8)]


def _holding(cutouts: Cutouts, scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
    """A hand with what it holds at the mouth, the nose or a cheek, in the colours that it has."""
    sprite = cutouts.holding[rng.integers(len(cutouts.holding))]
    target = scene.point(rng.normal(0, 0.4), rng.uniform(0.3, 1.3))
    angle, scale = rng.normal(0, 30), rng.uniform(0.9, 1.5) * scene.unit * 176 / max(sprite.alpha.shape)
    image = _dimmed(sprite.image, rng)
    layer, _ = place(scene, Sprite(image, sprite.alpha), target, angle + scene.angle, scale, (0.5, 0.4), rng)
    return [layer]


def arm(
    scene: FaceGeometry, wrist: np.ndarray, angle: float, width: float, tone: np.ndarray, rng: np.random.Generator
) -> Layer:
    """From the wrist out of the picture: bare, or in a sleeve."""
    sleeve = rng.random() < 0.6
    colour = np.array(drawn_occluders.any_colour(rng)) if sleeve else tone * 0.9
    away = np.array([-np.sin(np.radians(angle)), np.cos(np.radians(angle))])
    start = wrist - away * (rng.uniform(0, 18) if sleeve else 8) * scene.unit
    thickness = width * (rng.uniform(0.6, 1.0) if sleeve else rng.uniform(0.5, 0.65))
    return limb(scene, start, away, thickness, colour, rng, sleeve)


def limb(
    scene: FaceGeometry,
    start: np.ndarray,
    away: np.ndarray,
    thickness: float,
    colour: np.ndarray,
    rng: np.random.Generator,
    sleeve: bool,
) -> Layer:
    """A bare arm or a sleeve from a round end at `start` out of the picture, in the unit direction `away`."""
    layer = blank(scene, tuple(colour))
    ends = [tuple(np.round(p).astype(int).tolist()) for p in (start + away * thickness / 2, start + away * 600)]
    cv2.line(layer.alpha, *ends, 255, line_width(thickness), cv2.LINE_AA)
    return Layer(shaded(layer.image, rng, folds=0.25 if sleeve else 0.05), layer.alpha, relit=sleeve)


def _recoloured(sprite: Sprite, tone: np.ndarray) -> Image:
    mean = np.maximum(np.array(cv2.mean(sprite.image, sprite.alpha)[:3]), 20)
    return scaled(sprite.image, tone / mean)


def _dimmed(image: Image, rng: np.random.Generator) -> Image:
    """With bright screens and cards made as dark as anything is, half of the time."""
    if rng.random() < 0.5:
        return image
    shines = cv2.inRange(image, (_SHINING,) * 3, (255,) * 3)
    dark = scaled(image, rng.uniform(0.08, 0.9) * rng.uniform(0.85, 1.15, 3))
    return cv2.copyTo(dark, shines, image.copy())
