"""Hands before a face, with the arms that they hang on."""

from __future__ import annotations

import cv2
import numpy as np

from engines.contract import Image
from train.occlusion import drawn_occluders
from train.occlusion.compositing import FaceGeometry, Layer, place, scaled
from train.occlusion.photo_cutouts import Cutouts
from train.occlusion.photographed_hands import HAND_TARGETS
from train.occlusion.sprites import Sprite

#: How often a hand is a photograph with its own arm, where there are any, and how often such a hand holds something.
PHOTOGRAPHED_CHANCE, HOLDING_CHANCE = 0.5, 0.3


def hand(cutouts: Cutouts, scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
    """A hand over mouth, cheek, nose, eye, chin or forehead, with its arm or sleeve, of any skin or of the face's."""
    if cutouts.photographed and rng.random() < PHOTOGRAPHED_CHANCE:
        hands = cutouts.photographed
        return (hands.holding if rng.random() < HOLDING_CHANCE else hands.hand)(scene, rng)
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
    forearm = drawn_occluders.arm(scene, wrist, angle + scene.angle, sprite.alpha.shape[1] * scale, tone, rng)
    return [forearm, Layer(layer.image, layer.alpha, relit=choice >= 0.8)]


def _recoloured(sprite: Sprite, tone: np.ndarray) -> Image:
    mean = np.maximum(np.array(cv2.mean(sprite.image, sprite.alpha)[:3]), 20)
    return scaled(sprite.image, tone / mean)
