"""How something is put in front of a face: where it goes, in what light, with what shadow and edge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from engines.contract import EYE_DISTANCE_PX, Image, Points
from train.occlusion.sprites import Sprite

Colour = tuple[float, float, float]

#: Where a layer is more opaque than this, what is behind it counts as hidden.
HIDDEN_ALPHA = 77
#: How often an occluder moves while the picture is taken, and how far at most, in pixels of the template.
_MOVES_CHANCE, _MOVES_PX = 0.15, 9.0
#: Below this mean Laplacian a face is soft, and so is what is put in front of it.
_SHARP_LAPLACIAN = 9.0
#: Cells a side of the grid on which smooth functions of the place are worked out.
_GRID = 64


@dataclass(frozen=True, slots=True)
class Layer:
    """Something at its place in the crop: BGR and alpha of the crop's size. `own` things are not marked."""

    image: Image
    alpha: Image
    own: bool = False
    relit: bool = True  # False: its colours were already chosen to suit the picture


class FaceGeometry:
    """The face that is to be hidden: where it is, the colour of its skin and how light it is."""

    def __init__(self, size: int, landmarks: Points, image: Image | None = None) -> None:
        self.size = size
        left, right, self.nose, *mouth = landmarks.astype(np.float64)
        self.eyes = (left + right) / 2
        self.across = right - left
        self.down = (mouth[0] + mouth[1]) / 2 - self.eyes
        self.unit = float(np.hypot(*self.across)) / EYE_DISTANCE_PX  # 1.0 for the template at 256 px
        #: How far the nose stands from the middle, in eye distances: the head's turn.
        self.turn = float((self.nose - self.eyes) @ self.across / max(self.across @ self.across, 1.0))
        self.angle = float(np.degrees(np.arctan2(self.across[1], self.across[0])))
        self.skin = np.array([120.0, 150.0, 200.0])
        if image is not None:
            patches = [self._patch(image, self.point(u, 0.6)) for u in (-0.42, 0.42)]
            self.skin = np.maximum(np.mean(patches, axis=0), 8.0)
        self.light = float(np.clip(self.skin.mean() / 150, 0.25, 1.4))
        #: Sigma of the blur that makes a sharp cut-out as soft as this picture.
        self.softness = 0.0 if image is None else _softness(image) * self.unit

    def point(self, u: float, v: float) -> np.ndarray:
        """`u` eye distances to the right of the point between the eyes, `v` eye-to-mouth distances below it."""
        return self.eyes + u * self.across + v * self.down

    def _patch(self, image: Image, at: np.ndarray) -> np.ndarray:
        x, y = np.clip(at.astype(int), 4, self.size - 5)
        return image[y - 4 : y + 5, x - 4 : x + 5].reshape(-1, 3).mean(axis=0)


def composite(image: Image, layer: Layer, scene: FaceGeometry, rng: np.random.Generator, mask: Image) -> Image:
    """Shadow, light, the picture's softness, soft or moving edge, blend; marks in `mask` what is hidden."""
    # A generator of its own: whether something moves changes nothing about where the next thing goes.
    chance = rng.spawn(1)[0]
    alpha = cv2.GaussianBlur(layer.alpha, (0, 0), max(0.3, rng.uniform(0.4, 1.3) * scene.unit))
    colours = layer.image
    if layer.relit:
        gain = scene.light ** rng.uniform(0.3, 1.0) * rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, 3)
        colours = scaled(colours, gain)
    if scene.softness > 0.2:
        colours = cv2.GaussianBlur(colours, (0, 0), scene.softness * chance.uniform(0.5, 1.0))
    if chance.random() < _MOVES_CHANCE:
        kernel = _motion(chance.uniform(3, _MOVES_PX) * scene.unit, chance.uniform(0, np.pi))
        alpha, colours = cv2.filter2D(alpha, -1, kernel), cv2.filter2D(colours, -1, kernel)
    if rng.random() < 0.6:
        image = _shadowed(image, alpha, scene, rng)
    weight = alpha.astype(np.float32) * (1 / 255)
    hidden = cv2.compare(alpha, HIDDEN_ALPHA, cv2.CMP_GT)
    if layer.own:
        cv2.subtract(mask, hidden, dst=mask)
    else:
        np.bitwise_or(mask, hidden, out=mask)
    return cv2.blendLinear(colours, image, weight, 1 - weight)


def _softness(image: Image) -> float:
    quarter = image.shape[0] // 4
    grey = cv2.cvtColor(image[quarter:-quarter, quarter:-quarter], cv2.COLOR_BGR2GRAY)
    detail = float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean())
    return float(np.clip(1.2 * (1 - detail / _SHARP_LAPLACIAN), 0, 1.2))


def _motion(length_px: float, angle: float) -> np.ndarray:
    """The kernel of a straight movement during the exposure."""
    half = max(1, round(length_px / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    way = np.array([np.cos(angle), np.sin(angle)]) * length_px / 2
    ends = [tuple(np.round((half + sign * way) * 16).astype(int).tolist()) for sign in (-1, 1)]
    cv2.line(kernel, *ends, 1.0, 1, cv2.LINE_AA, 4)
    return kernel / kernel.sum()


def _shadowed(image: Image, alpha: Image, scene: FaceGeometry, rng: np.random.Generator) -> Image:
    side = max(16, scene.size // 8)
    small = cv2.resize(alpha, (side, side), interpolation=cv2.INTER_AREA)
    shift = np.float32([[1, 0, rng.normal(0, 0.6)], [0, 1, rng.uniform(-0.5, 1.2)]])
    small = cv2.warpAffine(cv2.GaussianBlur(small, (0, 0), rng.uniform(0.5, 1.5)), shift, (side, side))
    gain = 1 - rng.uniform(0.1, 0.45) / 255 * small.astype(np.float32)
    gain = cv2.resize(gain, (scene.size, scene.size), interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(image, cv2.merge([gain] * 3), dtype=cv2.CV_8U)


def place(
    scene: FaceGeometry,
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
    matrix = placement(sprite, target, angle, scale, grip, rng)
    return warped(scene, sprite, matrix), matrix @ (width / 2, height, 1)


def placement(
    sprite: Sprite, target: np.ndarray, angle: float, scale: float, grip: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """The 2x3 matrix with which `place` takes a sprite to the crop: mirrored half of the time, a little stretched."""
    height, width = sprite.alpha.shape
    cosine, sine = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    stretch = rng.uniform(0.85, 1.15) * (1 if rng.random() < 0.5 else -1)
    turn = np.array([[cosine * stretch, -sine], [sine * stretch, cosine]])
    held = np.array([grip[0] * width, grip[1] * height])
    return np.hstack([turn, (target - turn @ held)[:, None]])


def warped(scene: FaceGeometry, sprite: Sprite, matrix: np.ndarray) -> Layer:
    size = (scene.size, scene.size)
    image = cv2.warpAffine(sprite.image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return Layer(image, cv2.warpAffine(sprite.alpha, matrix, size, flags=cv2.INTER_LINEAR))


@lru_cache(maxsize=8)
def _grid(size: int) -> np.ndarray:
    """Crop coordinates of a coarse grid's cells: smooth functions of the place are worked out there."""
    centres = (np.arange(_GRID, dtype=np.float64) + 0.5) * size / _GRID - 0.5
    return np.stack(np.meshgrid(centres, centres), axis=-1)


def face_coordinates(scene: FaceGeometry) -> tuple[np.ndarray, np.ndarray]:
    """`u` and `v` of Scene.point on the coarse grid."""
    inverse = np.linalg.inv(np.stack([scene.across, scene.down], axis=1))
    coordinates = (_grid(scene.size) - scene.eyes) @ inverse.T
    return coordinates[..., 0], coordinates[..., 1]


def face_maps(
    scene: FaceGeometry, half: float, top: float, bottom: float, bend: float, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """For cv2.remap: a flat thing of `shape` laid on the face, its middle on the line of the nose."""
    u, v = face_coordinates(scene)
    middle = np.clip(scene.turn, -half * 0.5, half * 0.5)
    u = np.where(u > middle, (u - middle) / (half - middle), (u - middle) / (half + middle))
    x = (0.5 + 0.5 * u) * shape[1]
    y = ((v - top) / (bottom - top) - bend * u * u) * shape[0]
    size = (scene.size, scene.size)
    return cv2.resize(x.astype(np.float32), size), cv2.resize(y.astype(np.float32), size)


def remap(image: Image, x: np.ndarray, y: np.ndarray, border: int) -> Image:
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=border)


def pattern(texture: Image, scene: FaceGeometry, rng: np.random.Generator) -> Image:
    """A texture, somewhere, at some scale and angle, over the whole crop."""
    scale = rng.uniform(0.4, 1.3) * scene.unit
    matrix = cv2.getRotationMatrix2D(
        (float(texture.shape[1] / 2), float(texture.shape[0] / 2)), rng.uniform(0, 360), scale
    )
    matrix[:, 2] += rng.uniform(-20, scene.size * 0.5, 2)
    size = (scene.size, scene.size)
    return cv2.warpAffine(texture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def shaded(image: Image, rng: np.random.Generator, folds: float = 0.15) -> Image:
    """Uneven light: a slope over the whole, and folds."""
    gain = cv2.resize(rng.uniform(0.75, 1.2, (2, 2)).astype(np.float32), (_GRID, _GRID))
    if folds:
        cells = (int(rng.integers(3, 9)), int(rng.integers(3, 9)))
        gain += cv2.resize(
            rng.normal(0, folds, cells).astype(np.float32), (_GRID, _GRID), interpolation=cv2.INTER_CUBIC
        )
    return multiplied(image, gain)


def multiplied(image: Image, gain: np.ndarray) -> Image:
    full = cv2.resize(gain.astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(image, cv2.merge([full] * 3), dtype=cv2.CV_8U)


def scaled(image: Image, gain: np.ndarray) -> Image:
    table = np.clip(np.arange(256, dtype=np.float32)[:, None] * gain, 0, 255).astype(np.uint8)
    return cv2.LUT(image, table[None])


def blank(scene: FaceGeometry, colour: Colour) -> Layer:
    image = np.empty((scene.size, scene.size, 3), np.uint8)
    cv2.rectangle(image, (0, 0), (scene.size, scene.size), [float(c) for c in np.clip(colour, 0, 255)], -1)
    return Layer(image, np.zeros((scene.size, scene.size), np.uint8))


def ellipse_box(
    at: np.ndarray, across: float, down: float, angle: float
) -> tuple[tuple[float, float], tuple[float, float], float]:
    return (float(at[0]), float(at[1])), (2 * float(across), 2 * float(down)), float(angle)


def line_width(width: float) -> int:
    return max(1, min(255, round(width)))


def rounded(points: np.ndarray) -> np.ndarray:
    """Corner cutting (G. Chaikin, 1974) of a closed outline, twice: int32 points."""
    for _ in range(2):
        after = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], axis=1).reshape(-1, 2)
    return np.round(points).astype(np.int32)
