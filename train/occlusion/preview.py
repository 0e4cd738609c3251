"""A contact sheet of everything that hides faces, and masks for the user's own pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from engines.contract import CROP_PX, Image, similarity
from train.data.face_set import DataError, FaceSet
from train.data.importers import PictureFaceFinder, picture_files
from train.occlusion import masks
from train.occlusion.camera import webcam
from train.occlusion.occluders import OCCLUDERS, WORN, Occluders
from train.occlusion.served_views import ServedViews

_COLUMNS = 10
_CELL_PX = 144
_LABEL_PX = 110


def write_preview(data: Path, out: Path, seed: int = 0) -> None:
    """Rows of what the restorer is served; one for each occluder, for what is worn, and for each shape of a hole.

    Outlined is where the face is hidden. Of what is served, the hole is black in the second row, and what is left
    of the thing beside it, which no loss counts, is red; the third is the truth.
    """
    faces, occluders = FaceSet(data, "eval"), Occluders(data, "train")
    rows = _served_rows(faces, ServedViews(data), seed)
    for name, is_shape in [(name, False) for name in (*OCCLUDERS, *WORN)] + [(name, True) for name in masks.SHAPES]:
        cells = []
        for column in range(_COLUMNS):
            rng = np.random.default_rng([seed, column])
            index = int(rng.integers(len(faces)))
            image, landmarks = faces.image(index), faces.rows[index].landmarks
            if is_shape:
                mask = masks.SHAPES[name][0](landmarks, rng)
                shown = np.where(mask[..., None] > 0, 0, image).astype(np.uint8)
            else:
                shown, mask = occluders.occlude(image, landmarks, rng, [name])
                shown = webcam(shown, rng)
            cells.append(_cell(_outlined(shown, mask)))
        rows.append(np.hstack([_label(name + (" (hole)" if is_shape else " (own)" if name in WORN else "")), *cells]))
    out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(out), np.vstack(rows)):
        raise DataError(f"{out} can't be written; name a .png in a folder that can be")


def write_masks(pictures: Path, out: Path, shape: str | None = None, seed: int = 0) -> Iterator[str]:
    """For each picture a mask of its own size, NAME.png, white where a face would be hidden; a line for each.

    The shape is one of train/occlusion/masks.py, or a random one; the same seed makes the same masks. Raises DataError.
    """
    if shape is not None and shape not in masks.SHAPES:
        raise DataError(f"there is no shape {shape}; there are: {', '.join(masks.SHAPES)}")
    finder, skipped = PictureFaceFinder(), 0
    files = picture_files(pictures)
    for number, file in enumerate(files):
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        finds = [] if image is None else finder(image)
        if image is None or not finds:
            skipped += 1
            yield f"{file}: {'no picture' if image is None else 'no face was found'}; skipped"
            continue
        mask, rng = np.zeros(image.shape[:2], np.uint8), np.random.default_rng([seed, number])
        for find in finds:
            to_crop = similarity(find.landmarks)
            landmarks = (find.landmarks @ to_crop[:, :2].T + to_crop[:, 2]).astype(np.float32)
            draw = masks.SHAPES[shape][0] if shape is not None else masks.random_mask
            hole = draw(landmarks, rng)
            size = (image.shape[1], image.shape[0])
            mask |= cv2.warpAffine(hole, to_crop, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
        target = (out / file.relative_to(pictures)).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(target), mask):
            raise DataError(f"{target} can't be written; is the disk full?")
        yield f"{target}: {len(finds)} face{'s' * (len(finds) > 1)}"
    yield f"{len(files) - skipped} masks in {out}, {skipped} pictures skipped"


def _served_rows(faces: FaceSet, views: ServedViews, seed: int) -> list[Image]:
    columns = []
    for column in range(_COLUMNS):
        rng = np.random.default_rng([seed, column])
        index = int(rng.integers(len(faces)))
        view = views.draw(faces.image(index), faces.rows[index].landmarks, rng)
        hollow = view.shown.copy()
        hollow[view.hole > 0] = 0
        hollow[(view.hole == 0) & (view.clean == 0), 2] = 255
        columns.append([_cell(picture) for picture in (_outlined(view.shown, view.hole), hollow, view.truth)])
    names = ("served", "its hole", "its truth")
    return [np.hstack([_label(name), *cells]) for name, cells in zip(names, zip(*columns, strict=True), strict=True)]


def _outlined(image: Image, mask: Image) -> Image:
    outline, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.array(image), outline, -1, (0, 255, 255), 1)


def _cell(image: Image) -> Image:
    return cv2.resize(image, (_CELL_PX, _CELL_PX), interpolation=cv2.INTER_AREA)


def _label(name: str) -> Image:
    label = np.zeros((_CELL_PX, _LABEL_PX, 3), np.uint8)
    cv2.putText(label, name, (4, CROP_PX // 4), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (255, 255, 255), 1, cv2.LINE_AA)
    return label
