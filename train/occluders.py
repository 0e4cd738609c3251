"""Things that hide faces, composited on aligned crops: what the segmenter learns from and the others are tried on.

Cut-outs of real things and drawn ones, fitted to the five landmarks, in the light of the picture, with a soft shadow.
What somebody wears as part of the own look (glasses, sunglasses, hats, headphones) is drawn too and never marked:
only what hides the face is. Where the mask is 255 the face is hidden.

A new occluder is a function from (Cutouts, Scene, Generator) to layers, and a line in OCCLUDERS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from engines.contract import Image, Points
from train import drawn
from train.data import DataError
from train.drawn import Colour, Sprite

#: Where a layer is more opaque than this, what is behind it counts as hidden.
HIDDEN_ALPHA = 77
_LARGEST_PX = 256
#: What the folder `object` holds beside things that one holds: by file name.
_MASK_OBJECTS = ("object (18)", "object (19)", "object (20)", "object (21)", "object (5)", "object (6)", "kisspng-3m")
_HAT_OBJECTS = ("object (12)", "object (13)", "object (7)")
_HAND_OBJECTS = ("object (3)", "object (4)", "5a1d3", "kisspng-finger")
_NO_OBJECTS = ("object (8)",)  # a wig around a face
_HELD_OUT_MASK = "KN95"


@dataclass(frozen=True, slots=True)
class Layer:
    """Something at its place in the crop: BGR and alpha of the crop's size. `own` things are not marked."""

    image: Image
    alpha: Image
    own: bool = False
    relit: bool = True  # False: its colours were already chosen to suit the picture


class Scene:
    """The face that is to be hidden: where it is, the colour of its skin and how light it is."""

    def __init__(self, size: int, landmarks: Points, image: Image | None = None) -> None:
        self.size = size
        left, right, self.nose, *mouth = landmarks.astype(np.float64)
        self.eyes = (left + right) / 2
        self.across = right - left
        self.down = (mouth[0] + mouth[1]) / 2 - self.eyes
        self.unit = float(np.hypot(*self.across)) / 76.8  # 1.0 for the template at 256 px
        #: How far the nose stands from the middle, in eye distances: the head's turn.
        self.turn = float((self.nose - self.eyes) @ self.across / max(self.across @ self.across, 1.0))
        self.angle = float(np.degrees(np.arctan2(self.across[1], self.across[0])))
        self.skin = np.array([120.0, 150.0, 200.0])
        if image is not None:
            patches = [self._patch(image, self.point(u, 0.6)) for u in (-0.42, 0.42)]
            self.skin = np.maximum(np.mean(patches, axis=0), 8.0)
        self.light = float(np.clip(self.skin.mean() / 150, 0.25, 1.4))

    def point(self, u: float, v: float) -> np.ndarray:
        """`u` eye distances to the right of the point between the eyes, `v` eye-to-mouth distances below it."""
        return self.eyes + u * self.across + v * self.down

    def _patch(self, image: Image, at: np.ndarray) -> np.ndarray:
        x, y = np.clip(at.astype(int), 4, self.size - 5)
        return image[y - 4 : y + 5, x - 4 : x + 5].reshape(-1, 3).mean(axis=0)


class Cutouts:
    """The RGBA cut-outs of one split, by kind; files of the evaluation are never trained with."""

    def __init__(self, data: Path, split: Literal["train", "eval"]) -> None:
        folder = data / "occluders"
        if not (folder / split).is_dir():
            raise DataError(f"no occluders in {folder / split}; give the data folder with --data")
        objects = _named(folder / split / "object")
        templates = _named(folder / "mask_templates")
        textures = sorted(_named(folder / "mask_textures").items())
        keep = 0 if split == "eval" else 1
        self.hands = [*_all(folder / split / "hand"), *_chosen(objects, _HAND_OBJECTS)]
        self.masks = [*_all(folder / split / "mask_flat"), *_chosen(objects, _MASK_OBJECTS)]
        self.masks += [s for name, s in templates.items() if name.startswith(_HELD_OUT_MASK) == (split == "eval")]
        self.hats = _chosen(objects, _HAT_OBJECTS)
        not_objects = _MASK_OBJECTS + _HAT_OBJECTS + _HAND_OBJECTS + _NO_OBJECTS
        self.objects = [sprite for name, sprite in objects.items() if not name.startswith(not_objects)]
        self.scarves = _all(folder / split / "scarf")
        self.sunglasses = _all(folder / split / "sunglasses")
        self.eyeglasses = _all(folder / split / "eyeglasses")
        self.textures = [s.image for i, (_, s) in enumerate(textures) if min(i % 4, 1) == keep]
        for kind, sprites in vars(self).items():
            if not sprites and kind != "hats":  # hats are drawn too
                raise DataError(f"no {kind} among the occluders in {folder / split}; give the data folder with --data")


def medical_mask(cutouts: Cutouts, scene: Scene, rng: np.random.Generator) -> list[Layer]:
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
        x, y = _face_maps(scene, half * 1.02, top, bottom, bend, sprite.alpha.shape)
        image = _dyed(_remap(sprite.image, x, y, cv2.BORDER_REPLICATE), rng, cutouts.textures, chance=0.5)
        mask = Layer(image, _remap(sprite.alpha, x, y, cv2.BORDER_CONSTANT))
    else:
        mask = _drawn_mask(cutouts, scene, rng, (half, top, sides, bottom))
    return [*straps, mask]


def hand(cutouts: Cutouts, scene: Scene, rng: np.random.Generator) -> list[Layer]:
    """A hand over mouth, cheek, nose, eye, chin or forehead, with its arm or sleeve, of any skin or of the face's."""
    choice = rng.random()
    tone = np.array(drawn.skin_tone(rng)) if choice < 0.4 else scene.skin * rng.uniform(0.75, 1.15)
    if rng.random() < 0.5:
        sprite = cutouts.hands[rng.integers(len(cutouts.hands))]
        if choice < 0.8:
            sprite = Sprite(_recoloured(sprite, tone), sprite.alpha)
    else:
        sprite = drawn.hand(rng, tuple(tone))
    target = scene.point(*_TARGETS[rng.integers(len(_TARGETS))]) + rng.normal(0, 10 * scene.unit, 2)
    angle = rng.normal(0, 25) if rng.random() < 0.35 else rng.choice([-1, 1]) * rng.uniform(20, 115)
    grip = (0.5, rng.uniform(0.1, 0.65))
    scale = rng.uniform(0.85, 1.6) * scene.unit * 176 / sprite.alpha.shape[0]
    layer, wrist = _placed(scene, sprite, target, angle + scene.angle, scale, grip, rng)
    arm = _arm(scene, wrist, angle + scene.angle, sprite.alpha.shape[1] * scale, tone, rng)
    return [arm, Layer(layer.image, layer.alpha, relit=choice >= 0.8)]


def cup(cutouts: Cutouts, scene: Scene, rng: np.random.Generator) -> list[Layer]:
    """A cup at the mouth, sometimes with the hand that holds it."""
    return _held(drawn.cup(rng), scene, rng, (0.55, 1.05), tilt=20, held=0.6)


def phone(cutouts: Cutouts, scene: Scene, rng: np.random.Generator) -> list[Layer]:
    """A telephone in front of the face or at the ear."""
    return _held(drawn.phone(rng), scene, rng, (0.6, 1.25), tilt=45, held=0.6)


def microphone(cutouts: Cutouts, scene: Scene, rng: np.random.Generator) -> list[Layer]:
    """A microphone at the mouth, held or on a stand."""
    return _held(drawn.microphone(rng), scene, rng, (0.4, 1.0), tilt=50, held=0.4)


def headset(cutouts: Cutouts, scene: Scene, rng: np.random.Generator) -> list[Layer]:
    """A boom with its foam from an ear to the mouth; the ear cups and the band are the wearer's own."""
    layers, side = [], float(rng.choice([-1, 1]))
    colour, ear = drawn.any_colour(rng), scene.point(side * rng.uniform(0.9, 1.08), rng.uniform(0.2, 0.5))
    if rng.random() < 0.7:
        worn = _blank(scene, colour)
        for other in (-1, 1):
            at = scene.point(other * rng.uniform(1.0, 1.15), 0.3)
            box = _oval(at, rng.uniform(14, 22) * scene.unit, rng.uniform(26, 38) * scene.unit, scene.angle)
            cv2.ellipse(worn.alpha, box, 255, -1, cv2.LINE_AA)
        crown = _oval(scene.point(0, 0.2), 80 * scene.unit, 150 * scene.unit, scene.angle)
        span = (round(crown[0][0]), round(crown[0][1])), (round(crown[1][0] / 2), round(crown[1][1] / 2))
        cv2.ellipse(worn.alpha, *span, scene.angle, 180, 360, 255, _thick(10 * scene.unit), cv2.LINE_AA)
        layers.append(Layer(_shaded(worn.image, rng), worn.alpha, own=True))
    boom = _blank(scene, colour)
    end = scene.point(side * rng.uniform(0.1, 0.55), rng.uniform(0.95, 1.3))
    middle = (ear + end) / 2 + rng.uniform(0, 0.2) * scene.down
    thickness = _thick(rng.uniform(2.5, 7) * scene.unit)
    cv2.polylines(boom.alpha, [_smooth(np.array([ear, middle, end]))], False, 255, thickness, cv2.LINE_AA)
    foam = rng.uniform(5, 14) * scene.unit
    cv2.ellipse(boom.alpha, _oval(end, foam * 1.4, foam, rng.uniform(0, 180)), 255, -1, cv2.LINE_AA)
    return [*layers, Layer(_shaded(boom.image, rng), boom.alpha)]


def scarf(cutouts: Cutouts, scene: Scene, rng: np.random.Generator) -> list[Layer]:
    """A scarf or a collar drawn up over the mouth, sometimes over the nose."""
    sprite = cutouts.scarves[rng.integers(len(cutouts.scarves))]
    top = rng.uniform(0.35, 0.95)
    u = np.linspace(-1.5, 1.5, 9)
    edge = [scene.point(x, top + 0.12 * x * x * rng.uniform(-1, 2) + rng.normal(0, 0.02)) for x in u]
    outline = np.array([*edge, scene.point(1.6, 3.5), scene.point(-1.6, 3.5)])
    alpha = np.zeros((scene.size, scene.size), np.uint8)
    cv2.fillPoly(alpha, [_smooth(outline)], 255, cv2.LINE_AA)
    cloth = sprite.image if rng.random() < 0.7 else cutouts.textures[rng.integers(len(cutouts.textures))]
    return [Layer(_shaded(_cloth(cloth, scene, rng), rng, folds=0.35), alpha)]


def thing(cutouts: Cutouts, scene: Scene, rng: np.random.Generator) -> list[Layer]:
    """Anything else: a cut-out object, something thin like a pen, or cloth or paper of any outline."""
    choice = rng.random()
    if choice < 0.5:
        sprite = cutouts.objects[rng.integers(len(cutouts.objects))]
        target = scene.point(rng.uniform(-0.6, 0.6), rng.uniform(-0.1, 1.4))
        scale = rng.uniform(60, 170) * scene.unit / max(sprite.alpha.shape)
        return [_placed(scene, sprite, target, rng.uniform(-60, 60), scale, (0.5, 0.5), rng)[0]]
    layer = _blank(scene, drawn.any_colour(rng))
    centre = scene.point(rng.uniform(-0.7, 0.7), rng.uniform(-0.2, 1.5))
    if choice < 0.65:
        _draw_stick(layer.alpha, centre, scene, rng)
        return [Layer(_shaded(layer.image, rng), layer.alpha)]
    corners = int(rng.integers(4, 10))
    turns = np.arange(corners) * 2 * np.pi / corners
    if rng.random() < 0.5:
        turns = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = rng.uniform(25, 75) * scene.unit * rng.uniform(0.7, 1.3, corners)
    outline = centre + np.stack([np.cos(turns), np.sin(turns)], axis=1) * reach[:, None]
    outline = _smooth(outline) if rng.random() < 0.6 else outline.round().astype(np.int32)
    cv2.fillPoly(layer.alpha, [outline], 255, cv2.LINE_AA)
    image = layer.image
    if rng.random() < 0.5:
        image = _cloth(cutouts.textures[rng.integers(len(cutouts.textures))], scene, rng)
    return [Layer(_shaded(image, rng, folds=0.2), layer.alpha)]


def eyeglasses(cutouts: Cutouts, scene: Scene, rng: np.random.Generator) -> list[Layer]:
    """Glasses that somebody wears: the face's own."""
    return _worn_on_eyes(cutouts.eyeglasses, scene, rng)


def sunglasses(cutouts: Cutouts, scene: Scene, rng: np.random.Generator) -> list[Layer]:
    """Sunglasses that somebody wears: the face's own too."""
    return _worn_on_eyes(cutouts.sunglasses, scene, rng)


def hat(cutouts: Cutouts, scene: Scene, rng: np.random.Generator) -> list[Layer]:
    """A hat, a cap's rim or a fringe over the forehead: the face's own."""
    if cutouts.hats and rng.random() < 0.4:
        sprite = cutouts.hats[rng.integers(len(cutouts.hats))]
        scale = rng.uniform(2.1, 2.8) * 76.8 * scene.unit / sprite.alpha.shape[1]
        at = scene.point(rng.normal(0, 0.05), rng.uniform(-0.75, -0.5))
        layer, _ = _placed(scene, sprite, at, scene.angle, scale, (0.5, 0.9), rng)
        return [Layer(layer.image, layer.alpha, own=True)]
    u, rim = np.linspace(-1.4, 1.4, 7), rng.uniform(-0.75, -0.35)
    edge = [scene.point(x, rim + 0.15 * rng.uniform(-1, 1) * x * x + rng.normal(0, 0.02)) for x in u]
    outline = np.array([*edge, scene.point(1.5, -3), scene.point(-1.5, -3)])
    layer = _blank(scene, drawn.any_colour(rng))
    cv2.fillPoly(layer.alpha, [_smooth(outline)], 255, cv2.LINE_AA)
    image = layer.image
    if rng.random() < 0.4:
        image = _cloth(cutouts.textures[rng.integers(len(cutouts.textures))], scene, rng)
    return [Layer(_shaded(image, rng, folds=0.15), layer.alpha, own=True)]


Occluder = Callable[[Cutouts, Scene, np.random.Generator], list[Layer]]

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
    "eyeglasses": (eyeglasses, 0.5),
    "sunglasses": (sunglasses, 0.3),
    "hat": (hat, 0.2),
}

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

#: Where hands go, as Scene.point takes it: mouth, nose, cheeks, eyes, chin, forehead.
_TARGETS = ((0, 1.0), (0, 1.0), (0, 0.55), (-0.6, 0.7), (0.6, 0.7), (-0.5, 0.0), (0.5, 0.0), (0, 1.45), (0, -0.5))


class Occluders:
    """Puts occluders on faces. The cut-outs are loaded once; the same generator state gives the same picture."""

    def __init__(self, data: Path, split: Literal["train", "eval"]) -> None:
        self._cutouts = Cutouts(data, split)

    def occlude(
        self, image: Image, landmarks: Points, rng: np.random.Generator, names: Sequence[str] | None = None
    ) -> tuple[Image, Image]:
        """`image` (square, BGR) with something in front of the face, and the mask of what that hides (0 or 255).

        `names` of OCCLUDERS and WORN, drawn in this order; None takes a random one, sometimes two, or glasses first.
        """
        scene = Scene(image.shape[0], landmarks, image)
        mask = np.zeros(image.shape[:2], np.uint8)
        for name in random_names(rng) if names is None else names:
            occluder, _ = OCCLUDERS[name] if name in OCCLUDERS else WORN[name]
            for layer in occluder(self._cutouts, scene, rng):
                image = _composite(image, layer, scene, rng, mask)
        return image, mask

    def silhouette(self, rng: np.random.Generator, size: int, landmarks: Points) -> Image:
        """Only the mask (size x size) of a random occluder."""
        scene = Scene(size, landmarks)
        mask = np.zeros((size, size), np.uint8)
        occluder, _ = OCCLUDERS[_draw(OCCLUDERS, rng)]
        for layer in occluder(self._cutouts, scene, rng):
            if not layer.own:
                np.bitwise_or(mask, cv2.compare(layer.alpha, HIDDEN_ALPHA, cv2.CMP_GT), out=mask)
        return mask


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


def _composite(image: Image, layer: Layer, scene: Scene, rng: np.random.Generator, mask: Image) -> Image:
    """Shadow, light, soft edge, blend; marks in `mask` what is hidden."""
    alpha = cv2.GaussianBlur(layer.alpha, (0, 0), max(0.3, rng.uniform(0.4, 1.3) * scene.size / 256))
    colours = layer.image
    if layer.relit:
        gain = scene.light ** rng.uniform(0.3, 1.0) * rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, 3)
        colours = _gain(colours, gain)
    if rng.random() < 0.6:
        image = _shadowed(image, alpha, scene, rng)
    weight = alpha.astype(np.float32) * (1 / 255)
    hidden = cv2.compare(alpha, HIDDEN_ALPHA, cv2.CMP_GT)
    if layer.own:
        cv2.subtract(mask, hidden, dst=mask)
    else:
        np.bitwise_or(mask, hidden, out=mask)
    return cv2.blendLinear(colours, image, weight, 1 - weight)


def _shadowed(image: Image, alpha: Image, scene: Scene, rng: np.random.Generator) -> Image:
    side = max(16, scene.size // 8)
    small = cv2.resize(alpha, (side, side), interpolation=cv2.INTER_AREA)
    shift = np.float32([[1, 0, rng.normal(0, 0.6)], [0, 1, rng.uniform(-0.5, 1.2)]])
    small = cv2.warpAffine(cv2.GaussianBlur(small, (0, 0), rng.uniform(0.5, 1.5)), shift, (side, side))
    gain = 1 - rng.uniform(0.1, 0.45) / 255 * small.astype(np.float32)
    gain = cv2.resize(gain, (scene.size, scene.size), interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(image, cv2.merge([gain] * 3), dtype=cv2.CV_8U)


def _placed(
    scene: Scene,
    sprite: Sprite,
    target: np.ndarray,
    angle: float,
    scale: float,
    grip: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[Layer, np.ndarray]:
    """The sprite with its point `grip` (shares of its sides) on `target`, turned by `angle` degrees clockwise.

    Also where the middle of its lower edge has gone.
    """
    height, width = sprite.alpha.shape
    cosine, sine = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    stretch = rng.uniform(0.85, 1.15) * (1 if rng.random() < 0.5 else -1)
    turn = np.array([[cosine * stretch, -sine], [sine * stretch, cosine]])
    held = np.array([grip[0] * width, grip[1] * height])
    matrix = np.hstack([turn, (target - turn @ held)[:, None]])
    size = (scene.size, scene.size)
    image = cv2.warpAffine(sprite.image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(sprite.alpha, matrix, size, flags=cv2.INTER_LINEAR)
    return Layer(image, alpha), target + turn @ (np.array([width / 2, height]) - held)


def _arm(
    scene: Scene, wrist: np.ndarray, angle: float, width: float, tone: np.ndarray, rng: np.random.Generator
) -> Layer:
    """From the wrist out of the picture: bare, or in a sleeve."""
    sleeve = rng.random() < 0.6
    colour = np.array(drawn.any_colour(rng)) if sleeve else tone * 0.9
    layer = _blank(scene, tuple(colour))
    away = np.array([-np.sin(np.radians(angle)), np.cos(np.radians(angle))])
    start = wrist - away * (rng.uniform(0, 18) if sleeve else 8) * scene.unit
    thickness = width * (rng.uniform(0.6, 1.0) if sleeve else rng.uniform(0.5, 0.65))
    ends = [tuple(np.round(p).astype(int).tolist()) for p in (start + away * thickness / 2, start + away * 600)]
    cv2.line(layer.alpha, *ends, 255, _thick(thickness), cv2.LINE_AA)
    return Layer(_shaded(layer.image, rng, folds=0.25 if sleeve else 0.05), layer.alpha, relit=sleeve)


def _draw_stick(alpha: Image, centre: np.ndarray, scene: Scene, rng: np.random.Generator) -> None:
    """A pen, a brush, a straw, a spoon: from a tip on the face to somewhere below."""
    turn, length = rng.normal(0, 0.7), rng.uniform(80, 260) * scene.unit
    end = centre + length * np.array([np.sin(turn), np.cos(turn)])
    thickness = _thick(rng.uniform(3, 11) * scene.unit)
    cv2.line(alpha, *[tuple(np.round(p).astype(int).tolist()) for p in (centre, end)], 255, thickness, cv2.LINE_AA)
    if rng.random() < 0.6:
        head = _oval(centre, rng.uniform(4, 14) * scene.unit, rng.uniform(8, 26) * scene.unit, -np.degrees(turn))
        cv2.ellipse(alpha, head, 255, -1, cv2.LINE_AA)


def _held(
    sprite: Sprite, scene: Scene, rng: np.random.Generator, scales: tuple[float, float], tilt: float, held: float
) -> list[Layer]:
    """A thing at the lower face, with fingers around it with probability `held`."""
    target = scene.point(rng.normal(0, 0.3), rng.uniform(0.6, 1.4))
    angle = rng.uniform(-tilt, tilt) + scene.angle
    scale = rng.uniform(*scales) * scene.unit
    layer, below = _placed(scene, sprite, target, angle, scale, (0.5, rng.uniform(0.1, 0.6)), rng)
    if rng.random() >= held:
        return [layer]
    tone = np.array(drawn.skin_tone(rng)) if rng.random() < 0.4 else scene.skin * rng.uniform(0.75, 1.15)
    fist = drawn.hand(rng, tuple(tone))
    grip = target + (below - target) * rng.uniform(0.3, 1.0)
    turn = angle + rng.choice([-1, 1]) * rng.uniform(15, 90)
    holding, wrist = _placed(scene, fist, grip, turn, rng.uniform(0.75, 1.2) * scene.unit, (0.5, 0.5), rng)
    arm = _arm(scene, wrist, turn, 100 * scene.unit, tone, rng)
    return [layer, arm, Layer(holding.image, holding.alpha, relit=False)]


def _worn_on_eyes(sprites: list[Sprite], scene: Scene, rng: np.random.Generator) -> list[Layer]:
    sprite = sprites[rng.integers(len(sprites))]
    scale = rng.uniform(1.85, 2.25) * 76.8 * scene.unit / sprite.alpha.shape[1]
    at = scene.point(scene.turn * 0.3, rng.uniform(0.0, 0.12))
    layer, _ = _placed(scene, sprite, at, scene.angle + rng.normal(0, 2), scale, (0.5, 0.5), rng)
    return [Layer(layer.image, layer.alpha, own=True)]


def _straps(scene: Scene, rng: np.random.Generator, half: float, sides: float) -> list[Layer]:
    if rng.random() < 0.3:
        return []
    layer = _blank(scene, (235, 235, 235) if rng.random() < 0.6 else drawn.any_colour(rng))
    thickness = _thick(rng.uniform(1.0, 4.5) * scene.unit)
    for side in (-1, 1):
        ear = (rng.uniform(0.98, 1.2) * side, rng.uniform(0.0, 0.35))
        for start, drop in ((sides, 0.0), (rng.uniform(0.85, 1.1), rng.uniform(0.25, 0.5))):
            points = [scene.point(half * 0.85 * side, start), scene.point(ear[0], ear[1] + drop)]
            cv2.polylines(layer.alpha, [np.round(points).astype(np.int32)], False, 255, thickness, cv2.LINE_AA)
    return [layer]


def _drawn_mask(
    cutouts: Cutouts, scene: Scene, rng: np.random.Generator, shape: tuple[float, float, float, float]
) -> Layer:
    """Any cut between a pleated rectangle and a pointed cloth mask, plain or patterned."""
    half, top, sides, bottom = shape
    jaw, low, peak = rng.uniform(0.3, 0.6), bottom - rng.uniform(0.02, 0.3), rng.uniform(0.0, 0.15)
    right = [(0.0, top), (0.3, top + peak), (half, sides), (half * rng.uniform(0.85, 1.0), 1.1), (jaw, low)]
    outline = [*right, (0.0, bottom), *[(-u, v) for u, v in right[:0:-1]]]
    # The half that is turned away is seen shortened; both still end at the face's edge.
    points = np.array([scene.point(u + scene.turn * max(0.0, 1 - abs(u)), v) for u, v in outline])
    layer = _blank(scene, _mask_colour(rng))
    cv2.fillPoly(layer.alpha, [_smooth(points)], 255, cv2.LINE_AA)
    image = layer.image
    if rng.random() < 0.35:
        image = _cloth(cutouts.textures[rng.integers(len(cutouts.textures))], scene, rng)
    u, v = _face_coordinates(scene)
    gain = 1.05 - rng.uniform(0.1, 0.45) * np.clip(np.abs(u - scene.turn), 0, 1.2) ** 2
    if rng.random() < 0.5:
        pleats = rng.uniform(3, 5) * (v - top) / (bottom - top) + rng.uniform(-0.1, 0.1) * u * u
        gain -= rng.uniform(0.05, 0.3) * np.clip(np.sin(pleats * 2 * np.pi) - 0.5, 0, 1)
    gain -= rng.uniform(0, 0.3) * np.clip(v - 1.1, 0, 1)
    return Layer(_shaded(_multiplied(image, gain), rng, folds=0.1), layer.alpha)


def _mask_colour(rng: np.random.Generator) -> Colour:
    if rng.random() < 0.25:
        return drawn.any_colour(rng)
    tone = np.array(_MASK_COLOURS[rng.integers(len(_MASK_COLOURS))])
    return tuple(np.clip(tone + rng.normal(0, 14, 3), 2, 253))  # type: ignore[return-value]


_GRID = 64


@lru_cache(maxsize=8)
def _grid(size: int) -> np.ndarray:
    """Crop coordinates of a coarse grid's cells: smooth functions of the place are worked out there."""
    centres = (np.arange(_GRID, dtype=np.float64) + 0.5) * size / _GRID - 0.5
    return np.stack(np.meshgrid(centres, centres), axis=-1)


def _face_coordinates(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """`u` and `v` of Scene.point on the coarse grid."""
    inverse = np.linalg.inv(np.stack([scene.across, scene.down], axis=1))
    coordinates = (_grid(scene.size) - scene.eyes) @ inverse.T
    return coordinates[..., 0], coordinates[..., 1]


def _face_maps(
    scene: Scene, half: float, top: float, bottom: float, bend: float, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """For cv2.remap: a flat thing of `shape` laid on the face, its middle on the line of the nose."""
    u, v = _face_coordinates(scene)
    middle = np.clip(scene.turn, -half * 0.5, half * 0.5)
    u = np.where(u > middle, (u - middle) / (half - middle), (u - middle) / (half + middle))
    x = (0.5 + 0.5 * u) * shape[1]
    y = ((v - top) / (bottom - top) - bend * u * u) * shape[0]
    size = (scene.size, scene.size)
    return cv2.resize(x.astype(np.float32), size), cv2.resize(y.astype(np.float32), size)


def _remap(image: Image, x: np.ndarray, y: np.ndarray, border: int) -> Image:
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=border)


def _dyed(image: Image, rng: np.random.Generator, textures: list[Image], chance: float) -> Image:
    """Sometimes another colour, or a pattern with the cut-out's own shading."""
    choice = rng.random()
    if choice > chance:
        return image
    if choice < chance * 0.4:
        texture = cv2.resize(textures[rng.integers(len(textures))], image.shape[1::-1])
        shading = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        return cv2.multiply(texture, shading, scale=1 / max(float(shading.mean()), 90.0))
    return _gain(image, np.array(_mask_colour(rng)) / max(float(image.mean()), 60.0))


def _recoloured(sprite: Sprite, tone: np.ndarray) -> Image:
    mean = np.maximum(np.array(cv2.mean(sprite.image, sprite.alpha)[:3]), 20)
    return _gain(sprite.image, tone / mean)


def _cloth(texture: Image, scene: Scene, rng: np.random.Generator) -> Image:
    """A texture, somewhere, at some scale and angle, over the whole crop."""
    scale = rng.uniform(0.4, 1.3) * scene.unit
    matrix = cv2.getRotationMatrix2D(
        (float(texture.shape[1] / 2), float(texture.shape[0] / 2)), rng.uniform(0, 360), scale
    )
    matrix[:, 2] += rng.uniform(-20, scene.size * 0.5, 2)
    size = (scene.size, scene.size)
    return cv2.warpAffine(texture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _shaded(image: Image, rng: np.random.Generator, folds: float = 0.15) -> Image:
    """Uneven light: a slope over the whole, and folds."""
    gain = cv2.resize(rng.uniform(0.75, 1.2, (2, 2)).astype(np.float32), (_GRID, _GRID))
    if folds:
        cells = (int(rng.integers(3, 9)), int(rng.integers(3, 9)))
        gain += cv2.resize(
            rng.normal(0, folds, cells).astype(np.float32), (_GRID, _GRID), interpolation=cv2.INTER_CUBIC
        )
    return _multiplied(image, gain)


def _multiplied(image: Image, gain: np.ndarray) -> Image:
    full = cv2.resize(gain.astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(image, cv2.merge([full] * 3), dtype=cv2.CV_8U)


def _gain(image: Image, gain: np.ndarray) -> Image:
    table = np.clip(np.arange(256, dtype=np.float32)[:, None] * gain, 0, 255).astype(np.uint8)
    return cv2.LUT(image, table[None])


def _blank(scene: Scene, colour: Colour) -> Layer:
    image = np.empty((scene.size, scene.size, 3), np.uint8)
    cv2.rectangle(image, (0, 0), (scene.size, scene.size), [float(c) for c in np.clip(colour, 0, 255)], -1)
    return Layer(image, np.zeros((scene.size, scene.size), np.uint8))


def _oval(
    at: np.ndarray, across: float, down: float, angle: float
) -> tuple[tuple[float, float], tuple[float, float], float]:
    return (float(at[0]), float(at[1])), (2 * float(across), 2 * float(down)), float(angle)


def _thick(width: float) -> int:
    return max(1, min(255, round(width)))


def _smooth(points: np.ndarray) -> np.ndarray:
    """Corner cutting (G. Chaikin, 1974) of a closed outline, twice: int32 points."""
    for _ in range(2):
        after = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], axis=1).reshape(-1, 2)
    return np.round(points).astype(np.int32)


def _named(folder: Path) -> dict[str, Sprite]:
    return {path.stem: _load(path) for path in sorted(folder.glob("*.*"))}


def _all(folder: Path) -> list[Sprite]:
    return list(_named(folder).values())


def _chosen(sprites: dict[str, Sprite], beginnings: tuple[str, ...]) -> list[Sprite]:
    return [sprite for name, sprite in sprites.items() if name.startswith(beginnings)]


def _load(path: Path) -> Sprite:
    """At most 256 px; colours continued outwards, so that no dark rim comes in when it is turned or scaled."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3:
        raise DataError(f"{path} is no colour picture")
    scale = _LARGEST_PX / max(picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if picture.shape[2] == 3:
        return Sprite(picture, np.full(picture.shape[:2], 255, np.uint8))
    image, alpha = np.ascontiguousarray(picture[..., :3]), np.ascontiguousarray(picture[..., 3])
    weight = alpha.astype(np.float32)[..., None] / 255 + 1e-4
    near = cv2.GaussianBlur(image * weight, (0, 0), 4) / cv2.GaussianBlur(weight, (0, 0), 4)[..., None]
    image = np.where(alpha[..., None] > 200, image, np.clip(near, 0, 255).astype(np.uint8))
    return Sprite(image, cv2.copyMakeBorder(alpha, 1, 1, 1, 1, cv2.BORDER_CONSTANT)[1:-1, 1:-1])
