"""Shapes of what is hidden, on aligned crops: 255 = hidden. Pixels do not matter here, only where the hole is."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from engines.contract import CROP_PX, HIDDEN, TEMPLATE, Image, Points

MaskShape = Callable[[Points, np.random.Generator], Image]


def medical_mask(landmarks: Points, rng: np.random.Generator) -> Image:
    """From the bridge of the nose, over the cheeks, down to under the chin; sometimes worn below the nose."""
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks.astype(np.float64)
    across = right_eye - left_eye
    distance = float(np.hypot(*across))
    across /= distance
    down = np.array([-across[1], across[0]])
    centre = (left_mouth + right_mouth) / 2
    top = (left_eye + right_eye) / 2 + down * distance * rng.uniform(0.12, 0.42)
    if rng.random() < 0.12:
        top = nose + down * distance * rng.uniform(0.0, 0.15)
    chin = centre + down * distance * rng.uniform(0.50, 0.75)
    half, dip = distance * rng.uniform(0.80, 1.05), distance * rng.uniform(0.08, 0.3)
    jaw = distance * rng.uniform(0.35, 0.55)
    outline = [
        top - across * half + down * dip,
        top - across * distance * 0.35 + down * dip * 0.4,
        top,
        top + across * distance * 0.35 + down * dip * 0.4,
        top + across * half + down * dip,
        centre + across * half * rng.uniform(0.9, 1.0) + down * distance * rng.uniform(-0.15, 0.1),
        chin + across * jaw,
        chin + down * distance * 0.06,
        chin - across * jaw,
        centre - across * half * rng.uniform(0.9, 1.0) + down * distance * rng.uniform(-0.15, 0.1),
    ]
    return _fill(_rounded(np.array(outline)))


def hand(landmarks: Points, rng: np.random.Generator) -> Image:
    """A palm with fingers or a fist, coming in from a side or from below, over a part of the face."""
    target = landmarks[rng.choice([0, 1, 2, 2, 3, 4])] + rng.normal(0, 14, 2)
    angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.3 else rng.uniform(0.1, np.pi - 0.1)
    towards = np.array([np.cos(angle), np.sin(angle)])  # y grows downwards: arms come from below
    across = np.array([-towards[1], towards[0]])
    palm_px = rng.uniform(24, 42)
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    palm = target + towards * palm_px * rng.uniform(0.0, 0.8)
    cv2.ellipse(mask, _box(palm, palm_px * 2.0, palm_px * 2.3, np.degrees(angle) + 90), HIDDEN, -1, cv2.LINE_AA)
    _stroke(mask, palm, palm + towards * 260, palm_px * 1.25)
    spread, length = rng.uniform(0.02, 0.28), palm_px * rng.uniform(0.7, 2.3)
    for finger in range(4):
        side = finger - 1.5
        root = palm + across * side * palm_px * 0.45 - towards * palm_px * 0.6
        tip = root - (towards - across * side * spread) * length * rng.uniform(0.85, 1.05)
        _stroke(mask, root, tip, palm_px * rng.uniform(0.38, 0.5))
    side = rng.choice([-1, 1])
    thumb = palm + across * side * palm_px * 0.8
    _stroke(mask, thumb, thumb + (across * side * 0.8 - towards * 0.7) * palm_px, palm_px * 0.5)
    return _threshold(mask)


def rectangle(landmarks: Points, rng: np.random.Generator) -> Image:
    """One box with sides of 60 to 120 px, over the inner face."""
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    width, height = rng.integers(60, 121, 2)
    x = int(rng.integers(40, 216 - width + 1))
    y = int(rng.integers(50, 230 - height + 1))
    mask[y : y + height, x : x + width] = HIDDEN
    return mask


def rectangles(landmarks: Points, rng: np.random.Generator) -> Image:
    """Two to four smaller boxes."""
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    for _ in range(int(rng.integers(2, 5))):
        width, height = rng.integers(25, 80, 2)
        x, y = rng.integers(20, 236 - width), rng.integers(30, 246 - height)
        mask[y : y + height, x : x + width] = HIDDEN
    return mask


def strokes(landmarks: Points, rng: np.random.Generator) -> Image:
    """Free-form thick lines, like a cable, a microphone's arm or strands."""
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        point, heading = rng.uniform(40, 216, 2), rng.uniform(0, 2 * np.pi)
        width = rng.uniform(12, 40)
        for _ in range(int(rng.integers(2, 7))):
            heading += rng.normal(0, 0.7)
            onward = point + rng.uniform(20, 60) * np.array([np.cos(heading), np.sin(heading)])
            _stroke(mask, point, onward, width)
            point = onward
    return _threshold(mask)


def cup(landmarks: Points, rng: np.random.Generator) -> Image:
    """A cup, a phone or a microphone in front of mouth, nose or cheek: a tilted box or ellipse."""
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    centre = landmarks[rng.choice([2, 3, 4])] + rng.normal(0, 18, 2) + (0, rng.uniform(0, 40))
    width, height = rng.uniform(40, 100), rng.uniform(50, 130)
    box = _box(centre, width, height, rng.normal(0, 20))
    if rng.random() < 0.4:
        cv2.ellipse(mask, box, HIDDEN, -1, cv2.LINE_AA)
    else:
        cv2.fillPoly(mask, [_rounded(cv2.boxPoints(box).astype(np.float64), keep=0.8)], HIDDEN)
    _stroke(mask, centre, centre + (rng.normal(0, 60), 200), rng.uniform(20, 70))
    return _threshold(mask)


def half_face(landmarks: Points, rng: np.random.Generator) -> Image:
    """Everything on one side of a tilted line near the middle."""
    angle = rng.uniform(0, 2 * np.pi)
    normal = np.array([np.cos(angle), np.sin(angle)])
    offset = float(normal @ (landmarks[2] + rng.normal(0, 12, 2))) + rng.uniform(10, 45)
    y, x = np.mgrid[0:CROP_PX, 0:CROP_PX]
    return np.where(normal[0] * x + normal[1] * y > offset, HIDDEN, 0).astype(np.uint8)


def features(landmarks: Points, rng: np.random.Generator) -> Image:
    """One to three soft ellipses over eyes, nose or mouth."""
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    for index in rng.choice(5, int(rng.integers(1, 4)), replace=False):
        centre = landmarks[index] + rng.normal(0, 8, 2)
        box = _box(centre, rng.uniform(40, 90), rng.uniform(30, 70), rng.normal(0, 25))
        cv2.ellipse(mask, box, HIDDEN, -1, cv2.LINE_AA)
    return _threshold(mask)


def eyes(landmarks: Points, rng: np.random.Generator) -> Image:
    """A band over both eyes, as sunglasses or a visor hide them: two rounded boxes that touch or not."""
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    across = landmarks[1] - landmarks[0]
    distance, angle = float(np.hypot(*across)), float(np.degrees(np.arctan2(across[1], across[0])))
    width, height, drop = rng.uniform(0.7, 1.05), rng.uniform(0.4, 0.75), rng.uniform(-0.02, 0.12)
    for eye in landmarks[:2]:
        box = _box(eye + (0, drop * distance), width * distance, height * distance, angle)
        if rng.random() < 0.5:
            cv2.fillPoly(mask, [_rounded(cv2.boxPoints(box).astype(np.float64), keep=0.8)], HIDDEN)
        else:
            cv2.ellipse(mask, box, HIDDEN, -1, cv2.LINE_AA)
    _stroke(mask, landmarks[0], landmarks[1], max(4.0, 0.06 * distance))
    return _threshold(mask)


def lower_face(landmarks: Points, rng: np.random.Generator) -> Image:
    """Everything below a line across the nose, a scarf or a collar drawn up; its edge is wavy or straight."""
    nose, middle = landmarks[2], (landmarks[3] + landmarks[4]) / 2
    start = nose + (middle - nose) * rng.uniform(-0.5, 0.7)
    x = np.linspace(0, CROP_PX, 9)
    y = start[1] + (x - start[0]) * rng.normal(0, 0.12) + rng.normal(0, rng.choice([0.0, 4.0]), 9)
    edge = list(zip(x, y, strict=True))
    return _fill(np.round(np.array([*edge, (CROP_PX, CROP_PX + 9), (0, CROP_PX + 9)])).astype(np.int32))


def much(landmarks: Points, rng: np.random.Generator) -> Image:
    """Shapes one over the other, until 60 to 90 % of the face's part of the crop is hidden; a twentieth stays seen."""
    share = rng.uniform(*MUCH_SHARE)
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    while hidden_share(mask) < share:
        more = mask | _MUCH_OF[int(rng.integers(len(_MUCH_OF)))](landmarks, rng)
        if hidden_share(more) <= MOST_SHARE:
            mask = more
    return mask


def hidden_share(mask: Image) -> float:
    """How much of the part of the crop that a face fills a mask hides, 0 to 1."""
    return float(np.count_nonzero(mask[FACE_WINDOW])) / mask[FACE_WINDOW].size


#: What a face fills of the crop, and how much of that `much` hides.
FACE_WINDOW = np.s_[24:248, 32:224]
MUCH_SHARE, MOST_SHARE = (0.6, 0.9), 0.95
_MUCH_OF: tuple[MaskShape, ...] = (rectangles, strokes, half_face, hand, lower_face)

#: How often each shape is drawn in training.
SHAPES: dict[str, tuple[MaskShape, float]] = {
    "medical_mask": (medical_mask, 0.32),
    "hand": (hand, 0.20),
    "rectangle": (rectangle, 0.14),
    "cup": (cup, 0.12),
    "features": (features, 0.07),
    "rectangles": (rectangles, 0.05),
    "strokes": (strokes, 0.05),
    "half_face": (half_face, 0.05),
    "eyes": (eyes, 0.04),
    "lower_face": (lower_face, 0.04),
}


def random_mask(landmarks: Points, rng: np.random.Generator) -> Image:
    """A 256x256 mask of a random shape, never empty."""
    names = list(SHAPES)
    chances = np.array([SHAPES[name][1] for name in names])
    mask = SHAPES[names[rng.choice(len(names), p=chances / chances.sum())]][0](landmarks, rng)
    return mask if mask.any() else rectangle(landmarks, rng)


def _box(centre: np.ndarray, width: float, height: float, angle: float) -> tuple[tuple[float, float], ...]:
    return (float(centre[0]), float(centre[1])), (float(width), float(height)), float(angle)  # type: ignore[return-value]


def _stroke(mask: Image, start: np.ndarray, end: np.ndarray, width: float) -> None:
    first, last = np.round(start).astype(int).tolist(), np.round(end).astype(int).tolist()
    cv2.line(mask, first, last, HIDDEN, max(1, int(width)), cv2.LINE_AA)


def _rounded(outline: np.ndarray, keep: float = 0.75) -> np.ndarray:
    """Corner cutting (G. Chaikin, 1974), twice: int32 points."""
    for _ in range(2):
        following = np.roll(outline, -1, axis=0)
        outline = np.stack(
            [outline * keep + following * (1 - keep), outline * (1 - keep) + following * keep], axis=1
        ).reshape(-1, 2)
    return np.round(outline).astype(np.int32)


def _fill(outline: np.ndarray) -> Image:
    mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
    cv2.fillPoly(mask, [outline], HIDDEN, cv2.LINE_AA)
    return _threshold(mask)


def _threshold(mask: Image) -> Image:
    return np.where(mask > 127, HIDDEN, 0).astype(np.uint8)


def bare_skin() -> Image:
    """255 where an aligned face shows skin: inside the face, and no eye, brow or mouth."""
    skin = np.zeros((CROP_PX, CROP_PX), np.uint8)
    left_eye, right_eye, _, left_mouth, right_mouth = TEMPLATE
    cv2.ellipse(skin, (128, 132), (74, 96), 0, 0, 360, 255, -1)
    for eye in (left_eye, right_eye):
        cv2.ellipse(skin, (round(float(eye[0])), round(float(eye[1])) - 8), (30, 24), 0, 0, 360, 0, -1)
    mouth = (left_mouth + right_mouth) / 2
    cv2.ellipse(skin, (round(float(mouth[0])), round(float(mouth[1]))), (42, 20), 0, 0, 360, 0, -1)
    return skin
