"""Cut-outs laid over the faces of whole photographs, for the face finder.

Only landmarks say where the face is and how large; train/occlusion/occluders.py does the same on aligned crops, in
finer detail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from engines.contract import TEMPLATE, Affine, Image, Points, similarity, transform_points
from train.data.face_set import DataError

#: Mask cut-outs that only the evaluation uses.
HELD_OUT_MASKS = ("surgical_green", "KN95")


@dataclass(frozen=True)
class Cover:
    """Where a kind of cut-out lies on a face: middle and width (low, high) in template pixels, and its turn."""

    folder: str
    share: float
    x: tuple[float, float]
    y: tuple[float, float]
    width: tuple[float, float]
    turn_degrees: float


COVERS = (
    Cover("mask", 0.40, (122, 134), (178, 192), (140, 180), 5),
    Cover("hand", 0.22, (60, 196), (110, 240), (80, 170), 60),
    Cover("sunglasses", 0.14, (124, 132), (100, 112), (150, 185), 5),
    Cover("scarf", 0.08, (110, 146), (190, 240), (140, 240), 90),
    Cover("object", 0.16, (50, 206), (90, 240), (60, 170), 60),
)
#: What the evaluation covers: the lower face, or the region of one eye or both.
LOWER_FACE = (
    Cover("mask", 0.4, (124, 132), (180, 190), (150, 175), 4),
    Cover("hand", 0.3, (108, 148), (185, 215), (130, 170), 30),
    Cover("scarf", 0.2, (118, 138), (200, 225), (150, 200), 10),
    Cover("object", 0.1, (108, 148), (180, 205), (120, 160), 30),
)
EYE_REGION = (
    Cover("sunglasses", 0.5, (126, 130), (103, 109), (155, 175), 4),
    Cover("hand", 0.35, (70, 186), (95, 125), (90, 130), 45),
    Cover("object", 0.15, (70, 186), (95, 120), (90, 130), 45),
)


class CutOuts:
    """RGBA cut-outs of things that hide faces, laid over faces by their landmarks."""

    def __init__(self, data: Path, split: str) -> None:
        folder = data / "occluders"
        held_out = split == "eval"
        masks = [
            path
            for path in sorted(folder.glob("mask_templates/*.png"))
            if path.stem.startswith(HELD_OUT_MASKS) == held_out
        ]
        masks += sorted(folder.glob(f"{split}/mask_flat/*.png"))
        paths = {"mask": masks}
        for name in ("hand", "sunglasses", "scarf", "object"):
            paths[name] = sorted(folder.glob(f"{split}/{name}/*.png"))
        self._images = {name: [_read_cut_out(path) for path in files] for name, files in paths.items()}
        empty = [name for name, images in self._images.items() if not images]
        if empty:
            raise DataError(f"no cut-outs of {', '.join(empty)} in {folder}/{split}; give the data folder with --data")

    def cover(
        self, image: Image, landmarks: Points, rng: np.random.Generator, covers: Sequence[Cover] = COVERS
    ) -> None:
        """Lays one cut-out over the face in `image`, in place."""
        shares = np.array([cover.share for cover in covers])
        cover = covers[int(rng.choice(len(covers), p=shares / shares.sum()))]
        picture = self._pick(cover.folder, rng)
        to_template = placed(
            picture,
            rng.uniform(*cover.x),
            rng.uniform(*cover.y),
            rng.uniform(*cover.width),
            rng.normal(0, cover.turn_degrees / 2),
        )
        if cover.folder == "mask":  # a mask stretches with the face: taller or flatter
            stretch = np.float32(rng.uniform(0.85, 1.2))
            to_template[1] *= stretch
            to_template[1, 2] += (1 - stretch) * 185
        paste(image, picture, _chain(similarity(TEMPLATE, landmarks), to_template))

    def scatter(self, image: Image, rng: np.random.Generator) -> None:
        """Lays one cut-out anywhere: a mask alone is no face."""
        picture = self._pick(str(rng.choice(list(self._images))), rng)
        side = image.shape[0]
        paste(
            image,
            picture,
            placed(
                picture,
                rng.uniform(0, side),
                rng.uniform(0, side),
                side * np.exp(rng.uniform(np.log(0.08), np.log(0.6))),
                rng.normal(0, 30),
            ),
        )

    def _pick(self, name: str, rng: np.random.Generator) -> Image:
        images = self._images[name]
        picture = images[int(rng.integers(len(images)))]
        if name != "hand" and rng.random() < 0.5:  # things come in all colours, skin does not
            tint = rng.uniform(0.4, 1.1, 3) if rng.random() < 0.7 else np.full(3, rng.uniform(0.15, 1.0))
            picture = picture.copy()
            picture[..., :3] = np.clip(picture[..., :3] * tint, 0, 255)
        return picture[:, ::-1] if rng.random() < 0.5 else picture


def _read_cut_out(path: Path) -> Image:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4:
        raise DataError(f"{path} is no picture with an alpha channel")
    ys, xs = np.nonzero(image[..., 3] > 30)
    image = image[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    scale = min(1.0, 160 / max(image.shape[:2]))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.pad(image, ((1, 1), (1, 1), (0, 0)))


def placed(picture: Image, x: float, y: float, width: float, turn_degrees: float) -> Affine:
    """The matrix that puts `picture` with its middle at x, y, as wide (or, if tall, as high) as `width`."""
    height_px, width_px = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(
        (width_px / 2, height_px / 2), turn_degrees, width / max(width_px, 0.8 * height_px)
    )
    matrix[:, 2] += (x - width_px / 2, y - height_px / 2)
    return matrix.astype(np.float32)


def _chain(outer: Affine, inner: Affine) -> Affine:
    """The matrix that does `inner`, then `outer`."""
    square = np.vstack([inner, [0, 0, 1]])
    return (outer @ square).astype(np.float32)


def paste(image: Image, picture: Image, matrix: Affine) -> None:
    """Draws an RGBA `picture` through `matrix` onto `image`, in place, touching only where it lies."""
    height, width = picture.shape[:2]
    corners = transform_points(np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float32), matrix)
    x0, y0 = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(corners.max(axis=0)) + 1, image.shape[1::-1]).astype(int)
    if x1 <= x0 or y1 <= y0:
        return
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if scale < 0.5:
        shrink = max(scale, 0.05) * 1.2
        smaller = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        matrix = matrix.copy()
        matrix[:, :2] *= np.array([width / smaller.shape[1], height / smaller.shape[0]], np.float32)
        picture = smaller
    moved = matrix.copy()
    moved[:, 2] -= (x0, y0)
    drawn = cv2.warpAffine(picture, moved, (int(x1 - x0), int(y1 - y0)))
    alpha = drawn[..., 3:].astype(np.float32) / 255
    part = image[y0:y1, x0:x1]
    part[:] = part + (drawn[..., :3] - part.astype(np.float32)) * alpha
