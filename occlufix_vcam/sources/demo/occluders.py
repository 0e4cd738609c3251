"""What passes in front of the demo's face, drawn by formula: a medical mask, a hand, a mug that a hand lifts.

A thing is a height above the picture, a colour and an outline; the height gives the light. Coordinates are stage
pixels from the thing's own upper left corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from engines.contract import Affine, Image
from occlufix_vcam.sources.demo.portrait import Floats, on_stage

#: From the upper left, in front: as the photograph's own light falls.
_LIGHT = np.array([-0.42, -0.5, 0.76], np.float32)
_SKIN, _SLEEVE = (172, 194, 236), (40, 84, 226)
_CLOTH, _BINDING = (214, 198, 160), (224, 214, 190)
_GLAZE = (120, 84, 32)


@dataclass(frozen=True, slots=True, eq=False)
class DemoOccluder:
    """`layer` is HxWx4: BGR times its opacity, then 255 - opacity, shadow included; `solid` is opacity without it.

    `grip` is the point that is put onto the face; for the mask, its place on the stage.
    """

    layer: Image
    solid: Image
    grip: tuple[float, float]


def paste(occluder: DemoOccluder, to_stage: Affine, picture: Image) -> None:
    """Lays the occluder over `picture`, moved by the 2x3 matrix `to_stage`."""
    rows, columns = _touched(occluder, to_stage, picture)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    size = (columns.stop - columns.start, rows.stop - rows.start)
    local = to_stage.copy()
    local[:, 2] -= (columns.start, rows.start)
    window = picture[rows, columns]
    # One picture of four channels is moved four times as fast as two of three.
    layer = cv2.warpAffine(occluder.layer, local, size, borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0, 255))
    through = cv2.cvtColor(cv2.extractChannel(layer, 3), cv2.COLOR_GRAY2BGR)
    cv2.multiply(window, through, dst=window, scale=1 / 255)
    cv2.add(window, cv2.cvtColor(layer, cv2.COLOR_BGRA2BGR), dst=window)


def paste_solid(occluder: DemoOccluder, to_stage: Affine, mask: Image) -> None:
    """Marks with 255 what the occluder hides in `mask`; its shadow hides nothing."""
    solid = cv2.warpAffine(occluder.solid, to_stage, (mask.shape[1], mask.shape[0]))
    np.maximum(mask, np.where(solid > 127, 255, 0).astype(np.uint8), out=mask)


def _touched(occluder: DemoOccluder, to_stage: Affine, picture: Image) -> tuple[slice, slice]:
    height, width = occluder.solid.shape
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float32) @ to_stage[:, :2].T
    low, high = np.floor(corners.min(0) + to_stage[:, 2]), np.ceil(corners.max(0) + to_stage[:, 2])
    rows = slice(max(0, int(low[1])), min(picture.shape[0], int(high[1])))
    return rows, slice(max(0, int(low[0])), min(picture.shape[1], int(high[0])))


# ---- light, noise and edges ----


def _noise(shape: tuple[int, int], sigma_px: float, seed: int) -> Floats:
    """Smooth noise of about -1..1, the same in every run."""
    grain = max(1, int(sigma_px / 2))  # coarse noise is made small: a wide blur takes long
    size = (shape[1] // grain + 2, shape[0] // grain + 2)
    raw = np.random.default_rng(seed).standard_normal(size[::-1], np.float32)
    smooth = cv2.GaussianBlur(raw, (0, 0), sigma_px / grain)
    smooth = cv2.resize(smooth, None, fx=grain, fy=grain, interpolation=cv2.INTER_CUBIC)[: shape[0], : shape[1]]
    return np.asarray(smooth / smooth.std() / 2, np.float32)


def _light(height: Floats) -> Floats:
    """How bright a surface of this height is, about 1 where it faces the viewer; dents are darker."""
    slope_x, slope_y = (
        cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8),
        cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8),
    )
    facing = (_LIGHT[2] - slope_x * _LIGHT[0] - slope_y * _LIGHT[1]) / np.sqrt(1 + slope_x**2 + slope_y**2)
    dent = np.clip((cv2.GaussianBlur(height, (0, 0), 9) - height) / 22, 0, 0.35)
    return np.asarray(0.42 + 0.76 * np.maximum(facing, 0) - dent, np.float32)


def _tint(colour: tuple[int, int, int], light: Floats, warmth: float = 0.0) -> Floats:
    """`colour` in this light; with `warmth`, shadows turn red, as skin's do."""
    powers = np.array([1 + warmth, 1 + warmth / 3, 1 - warmth / 2], np.float32)
    return np.asarray(np.array(colour, np.float32) * np.maximum(light, 0.02)[:, :, None] ** powers, np.float32)


def _finish(
    colour: Floats, opacity: Floats, grip: tuple[float, float], shadow_px: float, shadow_shift: tuple[int, int]
) -> DemoOccluder:
    """Adds the soft shadow that the thing throws on what is behind it."""
    shift = np.array([[1, 0, shadow_shift[0]], [0, 1, shadow_shift[1]]], np.float32)
    moved = cv2.warpAffine(opacity, shift, (opacity.shape[1], opacity.shape[0]))
    shadow = 0.38 * cv2.GaussianBlur(moved, (0, 0), shadow_px) * (1 - opacity)
    layer = np.dstack([np.clip(colour, 0, 255) * opacity[:, :, None], (1 - opacity - shadow) * 255])
    return DemoOccluder(np.rint(layer).astype(np.uint8), np.rint(opacity * 255).astype(np.uint8), grip)


def _smooth_outline(points: Floats, steps: int = 12) -> Floats:
    """A closed curve through `points` (Catmull-Rom)."""
    before, here = np.roll(points, 1, axis=0), points
    after, beyond = np.roll(points, -1, axis=0), np.roll(points, -2, axis=0)
    curve = [
        here
        + 0.5
        * t
        * (
            after
            - before
            + t * (2 * before - 5 * here + 4 * after - beyond + t * (3 * (here - after) + beyond - before))
        )
        for t in np.linspace(0, 1, steps, endpoint=False, dtype=np.float32)
    ]
    return np.asarray(np.stack(curve, axis=1).reshape(-1, 2), np.float32)


def _fill(shape: tuple[int, int], outline: Floats, soft_px: float) -> Floats:
    """1 inside the outline, 0 outside, with a soft edge."""
    fixed_point = np.rint(outline * 16).astype(np.int32)
    filled = cv2.fillPoly(np.zeros(shape, np.uint8), [fixed_point], 255, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(filled, (0, 0), soft_px).astype(np.float32) / 255, np.float32)


# ---- rounded limbs: fingers, palm, arm ----


@dataclass(slots=True)
class _Clay:
    """A height field that limbs are pressed onto; `opacity` is where there is any."""

    height: Floats
    opacity: Floats

    @staticmethod
    def of(shape: tuple[int, int]) -> _Clay:
        return _Clay(np.zeros(shape, np.float32), np.zeros(shape, np.float32))

    def add(self, start: Sequence[float], end: Sequence[float], radii: tuple[float, float], lift: float = 0.0) -> None:
        """A round limb from `start` to `end`, its radius going from one to the other, `lift` above the rest."""
        widest = max(radii) + 3
        x0, x1 = int(max(0, min(start[0], end[0]) - widest)), int(max(start[0], end[0]) + widest)
        y0, y1 = int(max(0, min(start[1], end[1]) - widest)), int(max(start[1], end[1]) + widest)
        height, opacity = self.height[y0:y1, x0:x1], self.opacity[y0:y1, x0:x1]
        y, x = np.mgrid[y0 : y0 + height.shape[0], x0 : x0 + height.shape[1]].astype(np.float32)
        along = np.array(end, np.float32) - np.array(start, np.float32)
        t = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / max(float(along @ along), 1e-6), 0, 1)
        distance = np.hypot(x - start[0] - t * along[0], y - start[1] - t * along[1])
        radius = radii[0] + t * (radii[1] - radii[0])
        bulge = np.sqrt(np.maximum(radius**2 - distance**2, 0))
        np.maximum(height, np.where(bulge > 0, bulge + lift, 0), out=height)
        np.maximum(opacity, np.clip(radius - distance + 0.5, 0, 1), out=opacity)

    def chain(self, points: Sequence[Sequence[float]], radii: Sequence[float], lift: float = 0.0) -> None:
        for i in range(len(points) - 1):
            self.add(points[i], points[i + 1], (radii[i], radii[i + 1]), lift)


def _skin(clay: _Clay, seed: int) -> Floats:
    shape = clay.height.shape
    height = cv2.GaussianBlur(clay.height, (0, 0), 2.2) + 0.10 * _noise((shape[0], shape[1]), 1.8, seed)
    blotches = 1 + 0.035 * _noise((shape[0], shape[1]), 14, seed + 1)
    return _tint(_SKIN, np.asarray(_light(np.asarray(height, np.float32)) * blotches, np.float32), warmth=0.35)


def _nail(colour: Floats, centre: tuple[float, float], radii: tuple[float, float], angle: float) -> None:
    """A nail, paler than the skin, with a glint, in place."""
    left, top = round(centre[0]) - 40, round(centre[1]) - 40
    patch = colour[top : top + 80, left : left + 80]
    x, y = centre[0] - left, centre[1] - top
    nail = _ellipse((x, y), radii, angle, 1.2)
    patch *= 1 - 0.64 * nail * (1 - nail)
    patch += nail * (np.array([168, 176, 226], np.float32) - patch) * 0.45
    patch += 26 * _ellipse((x - 2, y - 3), (2.5, 5), angle, 2)


def _ellipse(centre: tuple[float, float], radii: tuple[float, float], angle: float, soft_px: float) -> Floats:
    """80x80x1: 1 inside, 0 outside."""
    canvas, fixed_point = np.zeros((80, 80), np.uint8), 16
    where = (round(centre[0] * fixed_point), round(centre[1] * fixed_point))
    axes = (round(radii[0] * fixed_point), round(radii[1] * fixed_point))
    cv2.ellipse(canvas, where, axes, angle, 0, 360, (255,), -1, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), soft_px).astype(np.float32)[:, :, None] / 255, np.float32)


def _sleeve(
    shape: tuple[int, int], start: Sequence[float], end: Sequence[float], radii: tuple[float, float]
) -> tuple[Floats, Floats]:
    """An orange sleeve with folds and a dark cuff at `start`: colour and opacity."""
    clay = _Clay.of(shape)
    clay.add(start, end, radii)
    along = np.array(end, np.float32) - np.array(start, np.float32)
    along /= float(np.hypot(*along))
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    way = (x - start[0]) * along[0] + (y - start[1]) * along[1]
    across = (y - start[1]) * along[0] - (x - start[0]) * along[1]
    folds = 3.2 * np.sin(way / 15 + 1.5 * np.sin(across / 34)) * np.clip(way / 60, 0.15, 1) + 2.0 * _noise(shape, 9, 5)
    light = _light(np.asarray(cv2.GaussianBlur(clay.height * 0.8, (0, 0), 3) + folds, np.float32))
    colour = _tint(_SLEEVE, light, warmth=0.15)
    cuff = np.clip((14 - way) / 2, 0, 1)[:, :, None]
    opacity = clay.opacity * np.clip(way + 4, 0, 1)  # cut straight, where the hand comes out
    return np.asarray(colour * (1 - 0.62 * cuff), np.float32), np.asarray(opacity, np.float32)


def _over(below: tuple[Floats, Floats], above: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """One layer on another: colour and opacity."""
    cover = above[1][:, :, None]
    return np.asarray(below[0] * (1 - cover) + above[0] * cover, np.float32), np.maximum(below[1], above[1])


# ---- the three occluders ----

#: The mask's outline on the face, clockwise from the upper left corner, in photograph pixels.
_MASK = (
    (182, 120), (195, 114), (210, 110.5), (223, 109), (237, 111.5), (252, 117), (269, 124), (268, 136), (265.5, 148),
    (260, 160), (253, 170), (243, 178.5), (232, 182.5), (223, 183), (212, 181.5), (202, 176.5), (192, 166),
    (186, 154), (183, 142), (181.5, 131),
)  # fmt: skip
_STRAPS = (
    ((184, 121), (178, 117)),
    ((267, 124), (273, 122)),
    ((190, 163), (184, 149), (179, 131)),
    ((256, 167), (266, 150), (272, 135)),
)


def draw_mask() -> DemoOccluder:
    """A pleated medical mask; `grip` is the stage pixel of its upper left corner when worn."""
    corner = np.array([410, 270], np.float32)
    shape = (250, 300)
    outline = _smooth_outline(on_stage(_MASK) - corner)
    cloth = _fill(shape, outline, 0.9)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    across, down = (x - 153) / 110, (y - 44) / 170
    height = 88 * np.sqrt(np.clip(1.25 - across**2, 0.02, None)) - 16 * (down - 0.45) ** 2 * 4
    height += 11 * np.exp(-((across / 0.16) ** 2) - ((down - 0.0) / 0.32) ** 2)  # the bridge of the nose
    height += 1.3 * _noise(shape, 16, 1) + 0.4 * _noise(shape, 5, 2)
    light = _light(np.asarray(cv2.GaussianBlur(height.astype(np.float32), (0, 0), 2), np.float32)) + 0.07
    for pleat in (0.36, 0.54, 0.72):
        gap = (down - pleat - 0.035 * (1 - across**2)) * 170  # pixels below the fold's edge
        light -= (
            0.26 * np.exp(-np.clip(gap, 0, None) / 5) * np.clip(gap + 0.5, 0, 1) * np.clip(1.15 - across**2, 0.25, 1)
        )
        light += 0.07 * np.exp(-((gap + 4) ** 2) / 14)
    weave = 1 + 0.012 * np.sin(x * 2.1) * np.sin(y * 2.1) + 0.012 * _noise(shape, 0.8, 3)
    colour = _tint(_CLOTH, np.asarray(light * weave, np.float32))
    inside = cv2.distanceTransform((cloth > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    band = np.clip((6 - inside) / 1.5, 0, 1)[:, :, None]
    seam = np.exp(-((inside - 6.5) ** 2) / 2)[:, :, None]
    colour = colour * (1 - band) + _tint(_BINDING, np.asarray(light, np.float32)) * band - 14 * seam
    straps = _fill_lines(shape, [on_stage(strap) - corner for strap in _STRAPS])
    white = np.full_like(colour, 226) * np.clip(light, 0.75, 1.05)[:, :, None]
    colour, opacity = _over((white, straps), (np.asarray(colour, np.float32), cloth))
    return _finish(colour, opacity, (float(corner[0]), float(corner[1])), 5, (2, 4))


def _fill_lines(shape: tuple[int, int], lines: Sequence[Floats]) -> Floats:
    canvas = np.zeros(shape, np.uint8)
    cv2.polylines(canvas, [np.rint(line * 16).astype(np.int32) for line in lines], False, 255, 4, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.8).astype(np.float32) / 255, np.float32)


#: Joints of thumb and fingers seen from the back of the hand, and the radii there.
_FINGERS = (
    (((176, 268), (152, 202), (141, 152), (136, 116)), (27, 24, 22, 17)),
    (((214, 254), (204, 176), (199, 116), (196, 70)), (27, 25, 23, 17)),
    (((254, 258), (257, 180), (259, 124), (260, 82)), (27, 24, 22, 17)),
    (((290, 276), (305, 214), (313, 170), (318, 136)), (24, 21, 19, 15)),
    (((190, 372), (136, 322), (108, 276), (95, 238)), (36, 29, 25, 19)),
)


def draw_hand() -> DemoOccluder:
    """The back of a hand with its fingers up, an arm below; `grip` is the middle of the fingers."""
    shape = (860, 430)
    clay = _Clay.of(shape)
    for joints, radii in _FINGERS:
        clay.chain(joints, radii)
    for joints, _radii in _FINGERS[:4]:
        clay.add((232 + (joints[0][0] - 232) * 0.5, 410), joints[0], (50, 31))
    clay.add((232, 400), (233, 500), (60, 55))
    clay.add((233, 480), (236, 640), (54, 58))
    palm = cv2.GaussianBlur(clay.height[250:], (0, 0), 7)
    blend = np.clip((np.arange(250, shape[0], dtype=np.float32) - 262) / 40, 0, 1)[:, None]
    clay.height[250:] += (palm - clay.height[250:]) * blend
    for joints, _radii in _FINGERS[:4]:
        _wrinkle(clay.height, joints)
    colour = _skin(clay, 11)
    for joints, radii in _FINGERS:
        (x0, y0), (x1, y1) = joints[2], joints[3]
        lean = float(np.degrees(np.arctan2(x1 - x0, y0 - y1)))
        _nail(colour, (x1 + (x1 - x0) * 0.05, y1 + 1), (radii[3] * 0.62, radii[3] * 0.95), lean)
    sleeve = _sleeve(shape, (235, 560), (242, 900), (74, 92))
    colour, opacity = _over((colour, clay.opacity), sleeve)
    return _finish(colour, cv2.GaussianBlur(opacity, (0, 0), 0.8).astype(np.float32), (230, 184), 12, (6, 12))


def _wrinkle(height: Floats, joints: Sequence[Sequence[float]]) -> None:
    """The folds over a finger's two joints, and its knuckle, in place."""
    for joint in (1, 2):
        (x0, y0), (x1, y1) = joints[joint], joints[joint + 1]
        patch, x, y = _around(height, x0, y0)
        way = (x * (x1 - x0) + y * (y1 - y0)) / float(np.hypot(x1 - x0, y1 - y0))
        folds = 1.1 * np.exp(-(way**2) / 3) + 0.9 * np.exp(-((way - 4) ** 2) / 3) + 0.8 * np.exp(-((way + 5) ** 2) / 3)
        patch -= folds * np.exp(-(x**2 + y**2) / 90)
    patch, x, y = _around(height, joints[0][0], joints[0][1])
    patch += 4.5 * np.exp(-(x**2 + y**2) / 260)


def _around(height: Floats, x: float, y: float, reach: int = 48) -> tuple[Floats, Floats, Floats]:
    """The part of `height` around a point, a view, and each pixel's distance from the point, right and down."""
    rows, columns = slice(int(y) - reach, int(y) + reach), slice(int(x) - reach, int(x) + reach)
    down, right = np.mgrid[rows, columns].astype(np.float32)
    return height[rows, columns], right - x, down - y


def draw_mug() -> DemoOccluder:
    """A mug that a hand holds from the right; `grip` is its rim, where the mouth is."""
    shape = (640, 560)
    mug = _mug_body(shape)
    clay = _Clay.of(shape)
    clay.add((300, 190), (362, 330), (46, 52))
    clay.add((362, 330), (440, 500), (50, 54))
    for i, (reach, radius) in enumerate(((150, 19), (138, 20), (144, 19), (158, 16))):
        y = 108 + 37 * i
        clay.chain(
            ((306, y + 20), (250, y - 1), (198, y), (reach, y + 5)), (23, radius + 2, radius, radius * 0.8), lift=18
        )
    colour = _skin(clay, 21)
    for i, reach in enumerate((150, 138, 144, 158)):
        _nail(colour, (reach - 2.0, 108 + 37 * i + 5.5), (8.5, 13), -83)
    layers = _over(_drop_shadow(mug, clay.opacity), (colour, clay.opacity))
    colour, opacity = _over(layers, _sleeve(shape, (418, 452), (560, 740), (76, 96)))
    return _finish(colour, cv2.GaussianBlur(opacity, (0, 0), 0.8).astype(np.float32), (150, 66), 10, (5, 10))


def _drop_shadow(below: tuple[Floats, Floats], caster: Floats) -> tuple[Floats, Floats]:
    shadow = cv2.GaussianBlur(np.roll(caster, (8, 3), (0, 1)), (0, 0), 7)[:, :, None]
    return np.asarray(below[0] * (1 - 0.42 * shadow), np.float32), below[1]


def _mug_body(shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """A glazed cylinder, its rim tipped away: colour and opacity."""
    middle, top, bottom, radius = 150.0, 62.0, 262.0, 84.0
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    narrowing = np.clip((y - top) / (bottom - top), 0, 1)
    across = (x - middle) / (radius - 9 * narrowing**2)
    bow = 15 * np.sqrt(np.clip(1 - across**2, 0, 1))
    inside = np.clip((1 - np.abs(across)) * radius + 0.5, 0, 1)
    opacity = inside * np.clip(y - (top - bow * 0.6) + 0.5, 0, 1) * np.clip(bottom + bow - y + 0.5, 0, 1)
    bulge = np.sqrt(np.clip(1 - across**2, 0, 1))
    light = 0.34 + 0.66 * np.clip(bulge * 0.78 - across * 0.46, 0, 1) + 0.05 * narrowing
    colour = _tint(_GLAZE, np.asarray(light * 1.18, np.float32))
    colour += (
        150
        * (
            np.exp(-(((across + 0.46) / 0.075) ** 2))
            * np.clip((y - top - 22) / 30, 0, 1)
            * np.clip((bottom - y) / 40, 0, 1)
        )[:, :, None]
    )
    colour += 34 * np.exp(-(((across - 0.78) / 0.09) ** 2))[:, :, None]
    rim = np.exp(-(((y - (top - bow * 0.6) - 4) / 2.6) ** 2))[:, :, None]
    colour += rim * (np.array([214, 206, 196], np.float32) * light[:, :, None] - colour) * 0.85
    foot = np.clip((y - (bottom + bow - 7)) / 2, 0, 1)[:, :, None]
    return np.asarray(colour * (1 - 0.45 * foot), np.float32), np.asarray(opacity, np.float32)
