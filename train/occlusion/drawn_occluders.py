"""Occluders that no photograph is needed for: hands, cups, phones and microphones drawn with a little shading.

Most functions give a sprite: upright, what it holds or is held by at the bottom, colours also where alpha is 0. Arms
are layers: they reach out of the picture.
They add shapes and colours that the cut-outs lack, at no cost in disk and in about a millisecond each.
"""

from __future__ import annotations

import cv2
import numpy as np

from engines.contract import Image
from train.occlusion.compositing import Colour, FaceGeometry, Layer, blank, line_width, shaded
from train.occlusion.sprites import Sprite

#: Skin from light to dark, BGR.
SKIN_TONES: tuple[Colour, ...] = (
    (198, 216, 244),
    (170, 192, 232),
    (148, 176, 224),
    (122, 152, 206),
    (96, 128, 186),
    (74, 100, 156),
    (54, 74, 122),
    (40, 54, 90),
)

_SIDE = 192


def skin_tone(rng: np.random.Generator) -> Colour:
    tone = np.array(SKIN_TONES[rng.integers(len(SKIN_TONES))]) * rng.uniform(0.85, 1.1) + rng.normal(0, 4, 3)
    return tuple(np.clip(tone, 10, 250))  # type: ignore[return-value]


def any_colour(rng: np.random.Generator) -> Colour:
    """Often a black, grey or white thing; else any colour, more often dull than loud."""
    if rng.random() < 0.5:
        return tuple(np.clip(rng.choice([18, 60, 130, 235]) + rng.normal(0, 12) + rng.normal(0, 4, 3), 2, 253))
    hue_saturation_value = np.uint8([[[rng.integers(180), 255 * rng.random() ** 0.7, rng.integers(40, 256)]]])
    return tuple(float(c) for c in cv2.cvtColor(hue_saturation_value, cv2.COLOR_HSV2BGR)[0, 0])


def hand(rng: np.random.Generator, tone: Colour) -> Sprite:
    """Fingers up, wrist down: flat, spread, bent or a fist; seen from the back or the palm."""
    shade, alpha = np.zeros((2, _SIDE, _SIDE), np.uint8)
    palm = np.array([96.0, 118.0])
    half = rng.uniform(24, 32)
    _limb(shade, alpha, [palm + (0, 10), (96 + rng.normal(0, 6), 200)], half * rng.uniform(1.15, 1.45))
    _limb(shade, alpha, [palm + (-half * 0.42, 0), palm + (-half * 0.3, 26)], half * 1.15)
    _limb(shade, alpha, [palm + (half * 0.42, 0), palm + (half * 0.3, 26)], half * 1.15)
    spread, length, bend = rng.uniform(0.0, 0.22), rng.uniform(26, 62), rng.normal(0, 0.25)
    curled = rng.random(4) < rng.choice([0.0, 0.25, 0.8])
    for finger in rng.permutation(4):
        side = finger - 1.5
        reach = length * (1.0, 1.12, 1.08, 0.85)[finger] * (0.35 if curled[finger] else 1.0)
        root = palm + (side * half * 0.5, -half * 0.55 + abs(side) * 2)
        angle = side * spread
        middle = root + reach * 0.5 * np.array([np.sin(angle), -np.cos(angle)])
        tip = middle + reach * 0.5 * np.array([np.sin(angle + bend), -np.cos(angle + bend)])
        _limb(shade, alpha, [root, middle, tip], half * rng.uniform(0.43, 0.5))
    if rng.random() < 0.8:
        side = rng.choice([-1, 1])
        root = palm + (side * half * 0.75, 14)
        tip = root + (side * rng.uniform(-4, 30), -rng.uniform(14, 44))
        _limb(shade, alpha, [root, (root + tip) / 2 + (side * 5, 2), tip], half * 0.5)
    texture = cv2.resize(rng.normal(0, 9, (24, 24)).astype(np.float32), (_SIDE, _SIDE))
    light = cv2.add(cv2.GaussianBlur(shade, (0, 0), 2.0), texture, dtype=cv2.CV_8U)
    return Sprite(_tinted(light, tone), alpha)


def cup(rng: np.random.Generator) -> Sprite:
    """A mug, a paper cup or a glass, with or without handle, lid and band."""
    image, alpha = _blank(any_colour(rng))
    top, bottom = rng.uniform(0.28, 0.4) * _SIDE, rng.uniform(0.2, 0.36) * _SIDE
    upper, lower, flat = rng.uniform(20, 50), rng.uniform(130, 170), rng.uniform(0.08, 0.3)
    middle = _SIDE / 2
    if rng.random() < 0.5:
        side = rng.choice([-1, 1])
        centre = (round(middle + side * (top + bottom) / 2), round((upper + lower) / 2))
        axes = (round(rng.uniform(16, 28)), round((lower - upper) * 0.3))
        cv2.ellipse(alpha, centre, axes, 0, 0, 360, 255, round(rng.uniform(7, 12)), cv2.LINE_AA)
    body = np.array([[middle - top, upper], [middle + top, upper], [middle + bottom, lower], [middle - bottom, lower]])
    cv2.fillPoly(alpha, [body.round().astype(np.int32)], 255, cv2.LINE_AA)
    if rng.random() < 0.4:
        band = (int(upper + rng.uniform(15, 50)), int(lower - rng.uniform(5, 30)))
        image[band[0] : max(band[1], band[0] + 5)] = any_colour(rng)
    image = _round_shading(image, rng, middle, top)
    for y, radius in ((lower, bottom), (upper, top)):
        cv2.ellipse(alpha, _oval(middle, y, radius, flat), 255, -1, cv2.LINE_AA)
    rim = tuple(0.6 * c for c in any_colour(rng))
    cv2.ellipse(image, _oval(middle, upper, top * 0.95, flat), rim, -1, cv2.LINE_AA)
    return Sprite(image, alpha)


def phone(rng: np.random.Generator) -> Sprite:
    """Its back with cameras, or its screen."""
    image, alpha = _blank(any_colour(rng))
    width, height = rng.uniform(76, 100), rng.uniform(150, 184)
    left, top = (_SIDE - width) / 2, (_SIDE - height) / 2
    _rounded_box(alpha, left, top, width, height, rng.uniform(5, 16), 255)
    image = _slope(image, rng)
    if rng.random() < 0.5:
        _rounded_box(image, left + 5, top + 7, width - 10, height - 14, 6, any_colour(rng))
    else:
        bump = (left + 6, top + 6, rng.uniform(22, 36), rng.uniform(22, 50))
        _rounded_box(image, *bump, 6, tuple(float(c) for c in image[96, 96] * 0.7))
        for row in range(int(rng.integers(1, 4))):
            lens = (round(bump[0] + 11), round(bump[1] + 10 + 15 * row))
            cv2.circle(image, lens, 6, (20, 18, 18), -1, cv2.LINE_AA)
            cv2.circle(image, (lens[0] - 2, lens[1] - 2), 2, (120, 110, 100), -1, cv2.LINE_AA)
    return Sprite(image, alpha)


def microphone(rng: np.random.Generator) -> Sprite:
    """A hand microphone with its grille, a foam ball on a stick, or a studio microphone's capsule."""
    image, alpha = _blank(any_colour(rng))
    middle, radius = _SIDE / 2, rng.uniform(24, 40)
    head = (middle, rng.uniform(44, 60))
    slim = rng.uniform(0.35, 0.8)
    body = np.array(
        [
            [middle - radius * slim, head[1]],
            [middle + radius * slim, head[1]],
            [middle + radius * slim * 0.75, _SIDE],
            [middle - radius * slim * 0.75, _SIDE],
        ]
    )
    cv2.fillPoly(alpha, [body.round().astype(np.int32)], 255, cv2.LINE_AA)
    image = _round_shading(image, rng, middle, radius)
    stretch = rng.choice([1.0, 1.0, 1.5])
    oval = _oval(*head, radius, stretch)
    cv2.ellipse(alpha, oval, 255, -1, cv2.LINE_AA)
    ball = np.empty_like(image)
    ball[:] = any_colour(rng)
    ball = cv2.add(ball, rng.normal(0, 22, ball.shape[:2] + (1,)).astype(np.float32).repeat(3, 2), dtype=cv2.CV_8U)
    if rng.random() < 0.5:
        ball[::4] //= 2
        ball[:, ::4] //= 2
    inside = np.zeros((_SIDE, _SIDE), np.uint8)
    cv2.ellipse(inside, oval, 255, -1, cv2.LINE_AA)
    image = np.where(inside[..., None] > 127, _round_shading(ball, rng, middle, radius), image)
    return Sprite(image, alpha)


def arm(
    scene: FaceGeometry, wrist: np.ndarray, angle: float, width: float, tone: np.ndarray, rng: np.random.Generator
) -> Layer:
    """From the wrist out of the picture: bare, or in a sleeve."""
    sleeve = rng.random() < 0.6
    colour = np.array(any_colour(rng)) if sleeve else tone * 0.9
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


def _blank(colour: Colour) -> tuple[Image, Image]:
    image = np.empty((_SIDE, _SIDE, 3), np.uint8)
    image[:] = colour
    return image, np.zeros((_SIDE, _SIDE), np.uint8)


def _limb(shade: Image, alpha: Image, joints: list[np.ndarray | tuple[float, float]], width: float) -> None:
    """A rounded limb: strokes from the dark rim to the light middle."""
    points = [np.round(np.asarray(joints) * 16).astype(np.int32)]
    cv2.polylines(alpha, points, False, 255, max(1, round(width)), cv2.LINE_AA, 4)
    for share, value in ((1.0, 150), (0.86, 188), (0.66, 212), (0.4, 226)):
        cv2.polylines(shade, points, False, value, max(1, round(width * share)), cv2.LINE_AA, 4)


def _tinted(light: Image, tone: Colour) -> Image:
    """Grey shading in the colour of skin: shadows on it are redder than the skin is."""
    level = np.arange(256, dtype=np.float32) / 220
    table = np.stack([tone[channel] * level ** (1.25, 1.1, 0.85)[channel] for channel in range(3)], axis=-1)
    return cv2.LUT(cv2.merge([light] * 3), np.clip(table, 0, 255).astype(np.uint8)[None])


def _round_shading(image: Image, rng: np.random.Generator, middle: float, radius: float) -> Image:
    """Light on something round that stands upright: dark towards its sides, a streak of light somewhere."""
    across = (np.arange(_SIDE, dtype=np.float32) - middle) / radius
    gain = 1.05 - rng.uniform(0.2, 0.6) * np.clip(np.abs(across - rng.uniform(-0.5, 0.5)), 0, 1.3) ** 2
    gain += rng.uniform(0, 0.5) * np.exp(-(((across - rng.uniform(-0.7, 0.7)) * 7) ** 2))
    return cv2.multiply(image, np.broadcast_to(gain[None, :, None], image.shape).astype(np.float32), dtype=cv2.CV_8U)


def _slope(image: Image, rng: np.random.Generator) -> Image:
    """Light that falls off along a random direction."""
    corners = rng.uniform(0.65, 1.25, (2, 2)).astype(np.float32)
    gain = cv2.resize(corners, (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(image, cv2.merge([gain] * 3), dtype=cv2.CV_8U)


def _oval(x: float, y: float, radius: float, flat: float) -> tuple[tuple[float, float], tuple[float, float], float]:
    return (float(x), float(y)), (2 * float(radius), 2 * float(radius) * float(flat)), 0.0


def _rounded_box(
    canvas: Image, left: float, top: float, width: float, height: float, radius: float, colour: Colour | int
) -> None:
    inner = np.array([[left, top], [left + width, top], [left + width, top + height], [left, top + height]])
    inner += np.array([[radius, radius], [-radius, radius], [-radius, -radius], [radius, -radius]])
    points = [inner.round().astype(np.int32)]
    cv2.fillPoly(canvas, points, colour)
    cv2.polylines(canvas, points, True, colour, max(1, round(2 * radius)), cv2.LINE_AA)
