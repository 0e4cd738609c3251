"""Things that hide faces, composited on aligned crops: what the segmenter learns from and the others are tried on.

Cut-outs of real things and drawn ones, fitted to the five landmarks, in the light of the picture, with a soft shadow.
What people wear as part of their look (glasses, sunglasses, hats, headphones, strands of hair) is drawn too and
not marked: only what hides the face is. Where the mask is 255 the face is hidden. To remove sunglasses or hair, pass
`worn_hides`; the restorer fills such holes too (train/occlusion/masks.py).

A new occluder is a function from (Cutouts, Scene, Generator) to layers, and a line in OCCLUDERS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from engines.contract import EYE_DISTANCE_PX, Image, Points
from train.occlusion import drawn_occluders
from train.occlusion.compositing import (
    Colour,
    FaceGeometry,
    Layer,
    blank,
    composite,
    ellipse_box,
    face_coordinates,
    face_maps,
    line_width,
    multiplied,
    pattern,
    place,
    remap,
    rounded,
    scaled,
    shaded,
)
from train.occlusion.hands import hand
from train.occlusion.photo_cutouts import Cutouts
from train.occlusion.sprites import Sprite


def medical_mask(cutouts: Cutouts, scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
    """A medical or cloth mask with its straps; one in eight is worn below the nose."""
    top, bottom = rng.uniform(0.1, 0.48), rng.uniform(1.42, 1.85)
    if rng.random() < 0.12:
        top = rng.uniform(0.6, 0.8)
    half, sides = rng.uniform(0.75, 1.15), top + rng.uniform(0.02, 0.3)
    straps = _straps(scene, rng, half, sides)
    if rng.random() < 0.55:
        sprite = cutouts.masks[rng.integers(len(cutouts.masks))]
        if rng.random() < 0.5:
            sprite = Sprite(sprite.image[:, ::-1], sprite.alpha[:, ::-1])
        bend = rng.uniform(-0.05, 0.12)
        x, y = face_maps(scene, half * 1.02, top, bottom, bend, sprite.alpha.shape)
        image = _dyed(remap(sprite.image, x, y, cv2.BORDER_REPLICATE), rng, cutouts.textures, chance=0.5)
        mask = Layer(image, remap(sprite.alpha, x, y, cv2.BORDER_CONSTANT))
    else:
        mask = _drawn_mask(cutouts, scene, rng, (half, top, sides, bottom))
    return [*straps, mask]


def cup(cutouts: Cutouts, scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
    """A cup at the mouth, sometimes with the hand that holds it."""
    return _held(drawn_occluders.cup(rng), scene, rng, (0.55, 1.05), tilt=20, held=0.6)


def phone(cutouts: Cutouts, scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
    """A telephone in front of the face or at the ear."""
    return _held(drawn_occluders.phone(rng), scene, rng, (0.6, 1.25), tilt=45, held=0.6)


def microphone(cutouts: Cutouts, scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
    """A microphone at the mouth, held or on a stand."""
    return _held(drawn_occluders.microphone(rng), scene, rng, (0.4, 1.0), tilt=50, held=0.4)


def headset(cutouts: Cutouts, scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
    """A boom with its foam from an ear to the mouth; the ear cups and the band are the wearer's own."""
    layers, side = [], float(rng.choice([-1, 1]))
    colour, ear = drawn_occluders.any_colour(rng), scene.point(side * rng.uniform(0.9, 1.08), rng.uniform(0.2, 0.5))
    if rng.random() < 0.7:
        worn = blank(scene, colour)
        for other in (-1, 1):
            at = scene.point(other * rng.uniform(1.0, 1.15), 0.3)
            box = ellipse_box(at, rng.uniform(14, 22) * scene.unit, rng.uniform(26, 38) * scene.unit, scene.angle)
            cv2.ellipse(worn.alpha, box, 255, -1, cv2.LINE_AA)
        crown = ellipse_box(scene.point(0, 0.2), 80 * scene.unit, 150 * scene.unit, scene.angle)
        span = (round(crown[0][0]), round(crown[0][1])), (round(crown[1][0] / 2), round(crown[1][1] / 2))
        cv2.ellipse(worn.alpha, *span, scene.angle, 180, 360, 255, line_width(10 * scene.unit), cv2.LINE_AA)
        layers.append(Layer(shaded(worn.image, rng), worn.alpha, own=True))
    boom = blank(scene, colour)
    end = scene.point(side * rng.uniform(0.1, 0.55), rng.uniform(0.95, 1.3))
    middle = (ear + end) / 2 + rng.uniform(0, 0.2) * scene.down
    thickness = line_width(rng.uniform(2.5, 7) * scene.unit)
    cv2.polylines(boom.alpha, [rounded(np.array([ear, middle, end]))], False, 255, thickness, cv2.LINE_AA)
    foam = rng.uniform(5, 14) * scene.unit
    cv2.ellipse(boom.alpha, ellipse_box(end, foam * 1.4, foam, rng.uniform(0, 180)), 255, -1, cv2.LINE_AA)
    return [*layers, Layer(shaded(boom.image, rng), boom.alpha)]


def scarf(cutouts: Cutouts, scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
    """A scarf or a collar drawn up over the mouth, sometimes over the nose."""
    sprite = cutouts.scarves[rng.integers(len(cutouts.scarves))]
    top = rng.uniform(0.35, 0.95)
    u = np.linspace(-1.5, 1.5, 9)
    edge = [scene.point(x, top + 0.12 * x * x * rng.uniform(-1, 2) + rng.normal(0, 0.02)) for x in u]
    outline = np.array([*edge, scene.point(1.6, 3.5), scene.point(-1.6, 3.5)])
    alpha = np.zeros((scene.size, scene.size), np.uint8)
    cv2.fillPoly(alpha, [rounded(outline)], 255, cv2.LINE_AA)
    cloth = sprite.image if rng.random() < 0.7 else cutouts.textures[rng.integers(len(cutouts.textures))]
    return [Layer(shaded(pattern(cloth, scene, rng), rng, folds=0.35), alpha)]


def thing(cutouts: Cutouts, scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
    """Anything else: a cut-out object, something thin like a pen, or cloth or paper of any outline."""
    choice = rng.random()
    if choice < 0.5:
        sprite = cutouts.objects[rng.integers(len(cutouts.objects))]
        target = scene.point(rng.uniform(-0.6, 0.6), rng.uniform(-0.1, 1.4))
        scale = rng.uniform(60, 170) * scene.unit / max(sprite.alpha.shape)
        return [place(scene, sprite, target, rng.uniform(-60, 60), scale, (0.5, 0.5), rng)[0]]
    layer = blank(scene, drawn_occluders.any_colour(rng))
    centre = scene.point(rng.uniform(-0.7, 0.7), rng.uniform(-0.2, 1.5))
    if choice < 0.65:
        _draw_stick(layer.alpha, centre, scene, rng)
        return [Layer(shaded(layer.image, rng), layer.alpha)]
    corners = int(rng.integers(4, 10))
    turns = np.arange(corners) * 2 * np.pi / corners
    if rng.random() < 0.5:
        turns = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = rng.uniform(25, 75) * scene.unit * rng.uniform(0.7, 1.3, corners)
    outline = centre + np.stack([np.cos(turns), np.sin(turns)], axis=1) * reach[:, None]
    outline = rounded(outline) if rng.random() < 0.6 else outline.round().astype(np.int32)
    cv2.fillPoly(layer.alpha, [outline], 255, cv2.LINE_AA)
    image = layer.image
    if rng.random() < 0.5:
        image = pattern(cutouts.textures[rng.integers(len(cutouts.textures))], scene, rng)
    return [Layer(shaded(image, rng, folds=0.2), layer.alpha)]


def eyeglasses(cutouts: Cutouts, scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
    """Glasses as people wear them: part of the face."""
    return _worn_on_eyes(cutouts.eyeglasses, scene, rng)


def sunglasses(cutouts: Cutouts, scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
    """Sunglasses as people wear them: part of the face, too."""
    return _worn_on_eyes(cutouts.sunglasses, scene, rng)


def hat(cutouts: Cutouts, scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
    """A hat, a cap's rim or a fringe over the forehead: the face's own."""
    if cutouts.hats and rng.random() < 0.4:
        sprite = cutouts.hats[rng.integers(len(cutouts.hats))]
        scale = rng.uniform(2.1, 2.8) * EYE_DISTANCE_PX * scene.unit / sprite.alpha.shape[1]
        at = scene.point(rng.normal(0, 0.05), rng.uniform(-0.75, -0.5))
        layer, _ = place(scene, sprite, at, scene.angle, scale, (0.5, 0.9), rng)
        return [Layer(layer.image, layer.alpha, own=True)]
    u, rim = np.linspace(-1.4, 1.4, 7), rng.uniform(-0.75, -0.35)
    edge = [scene.point(x, rim + 0.15 * rng.uniform(-1, 1) * x * x + rng.normal(0, 0.02)) for x in u]
    outline = np.array([*edge, scene.point(1.5, -3), scene.point(-1.5, -3)])
    layer = blank(scene, drawn_occluders.any_colour(rng))
    cv2.fillPoly(layer.alpha, [rounded(outline)], 255, cv2.LINE_AA)
    image = layer.image
    if rng.random() < 0.4:
        image = pattern(cutouts.textures[rng.integers(len(cutouts.textures))], scene, rng)
    return [Layer(shaded(image, rng, folds=0.15), layer.alpha, own=True)]


def hair_strands(cutouts: Cutouts, scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
    """Strands of hair that fall over the forehead, an eye or a cheek: the face's own."""
    layer = blank(scene, tuple(np.array(_HAIR_COLOURS[rng.integers(len(_HAIR_COLOURS))]) * rng.uniform(0.7, 1.3)))
    root, side = rng.uniform(-0.6, 0.6), float(rng.choice([-1, 1]))
    for _ in range(int(rng.integers(3, 16))):
        u, length = root + rng.normal(0, 0.12), rng.uniform(0.5, 1.9)
        sway, curl = side * rng.uniform(0.1, 0.7), rng.normal(0, 0.12)
        steps = np.linspace(0, 1, 12)
        path = [scene.point(u + sway * t * t + curl * np.sin(4 * t), -1.1 + length * t) for t in steps]
        width = rng.uniform(1.5, 5.0) * scene.unit
        for number, (start, end) in enumerate(pairwise(path)):
            ends = [tuple(np.round(at * 16).astype(int).tolist()) for at in (start, end)]
            thickness = line_width(width * (1 - 0.6 * number / len(path)))  # they end in a point
            cv2.line(layer.alpha, *ends, int(rng.integers(190, 256)), thickness, cv2.LINE_AA, 4)
    return [Layer(shaded(layer.image, rng, folds=0.3), layer.alpha, own=True)]


Occluder = Callable[[Cutouts, FaceGeometry, np.random.Generator], list[Layer]]

#: Everything that hides a face, and how often it is drawn.
OCCLUDERS: dict[str, tuple[Occluder, float]] = {
    "medical_mask": (medical_mask, 0.30),
    "hand": (hand, 0.30),
    "cup": (cup, 0.08),
    "phone": (phone, 0.07),
    "microphone": (microphone, 0.07),
    "headset": (headset, 0.05),
    "scarf": (scarf, 0.05),
    "thing": (thing, 0.08),
}
#: The face's own: drawn so that the segmenter learns to leave them alone.
WORN: dict[str, tuple[Occluder, float]] = {
    "eyeglasses": (eyeglasses, 0.45),
    "sunglasses": (sunglasses, 0.25),
    "hat": (hat, 0.15),
    "hair_strands": (hair_strands, 0.15),
}

#: Hair from black to white, BGR.
_HAIR_COLOURS: tuple[Colour, ...] = (
    (22, 24, 28),
    (30, 44, 66),
    (48, 76, 110),
    (110, 160, 200),
    (40, 70, 150),
    (190, 192, 196),
)

#: What masks are mostly made of, BGR: whites, blue, green, black, grey, pink, and beige, the hardest to tell from skin.
_MASK_COLOURS: tuple[Colour, ...] = (
    (240, 238, 235),
    (252, 250, 250),
    (225, 190, 130),
    (200, 205, 140),
    (28, 26, 26),
    (150, 145, 140),
    (195, 180, 238),
    (180, 205, 232),
)


class Occluders:
    """Puts occluders on faces. The cut-outs are loaded once; the same generator state gives the same picture."""

    def __init__(self, data: Path, split: Literal["train", "eval"]) -> None:
        self._cutouts = Cutouts(data, split)

    def occlude(
        self,
        image: Image,
        landmarks: Points,
        rng: np.random.Generator,
        names: Sequence[str] | None = None,
        worn_hides: bool = False,
    ) -> tuple[Image, Image]:
        """`image` (square, BGR) with something in front of the face, and the mask of what that hides (0 or 255).

        `names` of OCCLUDERS and WORN, drawn in this order; None takes a random one, sometimes two, or glasses first.
        With `worn_hides` the mask also has what is worn.
        """
        scene = FaceGeometry(image.shape[0], landmarks, image)
        mask = np.zeros(image.shape[:2], np.uint8)
        for name in random_names(rng) if names is None else names:
            occluder, _ = OCCLUDERS[name] if name in OCCLUDERS else WORN[name]
            for layer in occluder(self._cutouts, scene, rng):
                image = composite(image, replace(layer, own=layer.own and not worn_hides), scene, rng, mask)
        return image, mask


def random_names(rng: np.random.Generator) -> list[str]:
    """What one picture gets: mostly one occluder, sometimes two, one face in five wearing something below it."""
    names = [_draw(WORN, rng)] if rng.random() < 0.2 else []
    names.append(_draw(OCCLUDERS, rng))
    if rng.random() < 0.15:
        names.append("hand" if rng.random() < 0.6 else _draw(OCCLUDERS, rng))
    return names


def _draw(table: dict[str, tuple[Occluder, float]], rng: np.random.Generator) -> str:
    chances = np.array([chance for _, chance in table.values()])
    return list(table)[rng.choice(len(table), p=chances / chances.sum())]


def _draw_stick(alpha: Image, centre: np.ndarray, scene: FaceGeometry, rng: np.random.Generator) -> None:
    """A pen, a brush, a straw, a spoon: from a tip on the face to somewhere below."""
    turn, length = rng.normal(0, 0.7), rng.uniform(80, 260) * scene.unit
    end = centre + length * np.array([np.sin(turn), np.cos(turn)])
    thickness = line_width(rng.uniform(3, 11) * scene.unit)
    cv2.line(alpha, *[tuple(np.round(p).astype(int).tolist()) for p in (centre, end)], 255, thickness, cv2.LINE_AA)
    if rng.random() < 0.6:
        head = ellipse_box(centre, rng.uniform(4, 14) * scene.unit, rng.uniform(8, 26) * scene.unit, -np.degrees(turn))
        cv2.ellipse(alpha, head, 255, -1, cv2.LINE_AA)


def _held(
    sprite: Sprite, scene: FaceGeometry, rng: np.random.Generator, scales: tuple[float, float], tilt: float, held: float
) -> list[Layer]:
    """A thing at the lower face, with fingers around it with probability `held`."""
    target = scene.point(rng.normal(0, 0.3), rng.uniform(0.6, 1.4))
    angle = rng.uniform(-tilt, tilt) + scene.angle
    scale = rng.uniform(*scales) * scene.unit
    layer, below = place(scene, sprite, target, angle, scale, (0.5, rng.uniform(0.1, 0.6)), rng)
    if rng.random() >= held:
        return [layer]
    tone = np.array(drawn_occluders.skin_tone(rng)) if rng.random() < 0.4 else scene.skin * rng.uniform(0.75, 1.15)
    fist = drawn_occluders.hand(rng, tuple(tone))
    grip = target + (below - target) * rng.uniform(0.3, 1.0)
    turn = angle + rng.choice([-1, 1]) * rng.uniform(15, 90)
    holding, wrist = place(scene, fist, grip, turn, rng.uniform(0.75, 1.2) * scene.unit, (0.5, 0.5), rng)
    forearm = drawn_occluders.arm(scene, wrist, turn, 100 * scene.unit, tone, rng)
    return [layer, forearm, Layer(holding.image, holding.alpha, relit=False)]


def _worn_on_eyes(sprites: list[Sprite], scene: FaceGeometry, rng: np.random.Generator) -> list[Layer]:
    sprite = sprites[rng.integers(len(sprites))]
    scale = rng.uniform(1.85, 2.25) * EYE_DISTANCE_PX * scene.unit / sprite.alpha.shape[1]
    at = scene.point(scene.turn * 0.3, rng.uniform(0.0, 0.12))
    layer, _ = place(scene, sprite, at, scene.angle + rng.normal(0, 2), scale, (0.5, 0.5), rng)
    return [Layer(layer.image, layer.alpha, own=True)]


def _straps(scene: FaceGeometry, rng: np.random.Generator, half: float, sides: float) -> list[Layer]:
    if rng.random() < 0.3:
        return []
    layer = blank(scene, (235, 235, 235) if rng.random() < 0.6 else drawn_occluders.any_colour(rng))
    thickness = line_width(rng.uniform(1.0, 4.5) * scene.unit)
    for side in (-1, 1):
        ear = (rng.uniform(0.98, 1.2) * side, rng.uniform(0.0, 0.35))
        for start, drop in ((sides, 0.0), (rng.uniform(0.85, 1.1), rng.uniform(0.25, 0.5))):
            points = [scene.point(half * 0.85 * side, start), scene.point(ear[0], ear[1] + drop)]
            cv2.polylines(layer.alpha, [np.round(points).astype(np.int32)], False, 255, thickness, cv2.LINE_AA)
    return [layer]


def _drawn_mask(
    cutouts: Cutouts, scene: FaceGeometry, rng: np.random.Generator, shape: tuple[float, float, float, float]
) -> Layer:
    """Any cut between a pleated rectangle and a pointed cloth mask, plain or patterned."""
    half, top, sides, bottom = shape
    jaw, low, peak = rng.uniform(0.3, 0.6), bottom - rng.uniform(0.02, 0.3), rng.uniform(0.0, 0.15)
    right = [(0.0, top), (0.3, top + peak), (half, sides), (half * rng.uniform(0.85, 1.0), 1.1), (jaw, low)]
    outline = [*right, (0.0, bottom), *[(-u, v) for u, v in right[:0:-1]]]
    # The half that is turned away is seen shortened; both still end at the face's edge.
    points = np.array([scene.point(u + scene.turn * max(0.0, 1 - abs(u)), v) for u, v in outline])
    layer = blank(scene, _mask_colour(rng))
    cv2.fillPoly(layer.alpha, [rounded(points)], 255, cv2.LINE_AA)
    image = layer.image
    if rng.random() < 0.35:
        image = pattern(cutouts.textures[rng.integers(len(cutouts.textures))], scene, rng)
    u, v = face_coordinates(scene)
    gain = 1.05 - rng.uniform(0.1, 0.45) * np.clip(np.abs(u - scene.turn), 0, 1.2) ** 2
    if rng.random() < 0.5:
        pleats = rng.uniform(3, 5) * (v - top) / (bottom - top) + rng.uniform(-0.1, 0.1) * u * u
        gain -= rng.uniform(0.05, 0.3) * np.clip(np.sin(pleats * 2 * np.pi) - 0.5, 0, 1)
    gain -= rng.uniform(0, 0.3) * np.clip(v - 1.1, 0, 1)
    return Layer(shaded(multiplied(image, gain), rng, folds=0.1), layer.alpha)


def _mask_colour(rng: np.random.Generator) -> Colour:
    if rng.random() < 0.25:
        return drawn_occluders.any_colour(rng)
    tone = np.array(_MASK_COLOURS[rng.integers(len(_MASK_COLOURS))])
    return tuple(np.clip(tone + rng.normal(0, 14, 3), 2, 253))  # type: ignore[return-value]


def _dyed(image: Image, rng: np.random.Generator, textures: list[Image], chance: float) -> Image:
    """Sometimes another colour, or a pattern with the cut-out's own shading."""
    choice = rng.random()
    if choice > chance:
        return image
    if choice < chance * 0.4:
        texture = cv2.resize(textures[rng.integers(len(textures))], image.shape[1::-1])
        shading = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        return cv2.multiply(texture, shading, scale=1 / max(float(shading.mean()), 90.0))
    return scaled(image, np.array(_mask_colour(rng)) / max(float(image.mean()), 60.0))
