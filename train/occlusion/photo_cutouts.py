"""Cut-outs of real things that hide faces, read from the data folder by kind and split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from engines.contract import Image
from train.data.face_set import DataError

_LARGEST_PX = 256
#: What the folder `object` holds beside things that one holds: by file name.
_MASK_OBJECTS = ("object (18)", "object (19)", "object (20)", "object (21)", "object (5)", "object (6)", "kisspng-3m")
_HAT_OBJECTS = ("object (12)", "object (13)", "object (7)")
_HAND_OBJECTS = ("object (3)", "object (4)", "5a1d3", "kisspng-finger")
_NO_OBJECTS = ("object (8)",)  # a wig around a face
_HELD_OUT_MASK = "KN95"


@dataclass(frozen=True, slots=True)
class Sprite:
    """Something cut out: BGR uint8 whose colours go on beyond the edge, and alpha uint8."""

    image: Image
    alpha: Image


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


def _named(folder: Path) -> dict[str, Sprite]:
    return {path.stem: load_sprite(path) for path in sorted(folder.glob("*.*"))}


def _all(folder: Path) -> list[Sprite]:
    return list(_named(folder).values())


def _chosen(sprites: dict[str, Sprite], beginnings: tuple[str, ...]) -> list[Sprite]:
    return [sprite for name, sprite in sprites.items() if name.startswith(beginnings)]


def load_sprite(path: Path) -> Sprite:
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
