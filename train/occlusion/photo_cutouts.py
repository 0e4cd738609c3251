"""Cut-outs of real things that hide faces, read from the data folder by kind and split."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from train.data.face_set import DataError
from train.occlusion.photographed_hands import PhotographedHands
from train.occlusion.sprites import Sprite, load

#: What the folder `object` holds beside things that one holds: by file name.
_MASK_OBJECTS = ("object (18)", "object (19)", "object (20)", "object (21)", "object (5)", "object (6)", "kisspng-3m")
_HAT_OBJECTS = ("object (12)", "object (13)", "object (7)")
_HAND_OBJECTS = ("object (3)", "object (4)", "5a1d3", "kisspng-finger")
_NO_OBJECTS = ("object (8)",)  # a wig around a face
_HELD_OUT_MASK = "KN95"
_DISPENSABLE = ("hats", "photographed")  # hats are drawn too, and so are hands


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
        #: To train with; what is evaluated with stays what it was.
        self.photographed = PhotographedHands(data / "hands") if split == "train" else None
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
            if not sprites and kind not in _DISPENSABLE:
                raise DataError(f"no {kind} among the occluders in {folder / split}; give the data folder with --data")


def _named(folder: Path) -> dict[str, Sprite]:
    return {path.stem: load(path) for path in sorted(folder.glob("*.*"))}


def _all(folder: Path) -> list[Sprite]:
    return list(_named(folder).values())


def _chosen(sprites: dict[str, Sprite], beginnings: tuple[str, ...]) -> list[Sprite]:
    return [sprite for name, sprite in sprites.items() if name.startswith(beginnings)]
