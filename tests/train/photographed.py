"""Drawn photographs of covered faces: a folder of each set, as the data has them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from engines.contract import TEMPLATE, WIDE_OFFSET, WIDE_PX, Image

LANDMARKS = (TEMPLATE + WIDE_OFFSET).tolist()
WHOLE = [[0, 0], [WIDE_PX, 0], [WIDE_PX, WIDE_PX], [0, WIDE_PX]]
#: Where the thing of each drawn photograph is, in the wide field: x, y, x, y.
THING = (150, 220, 250, 330)
RED = (20, 20, 230)


def thing_mask() -> Image:
    return cv2.rectangle(np.zeros((WIDE_PX, WIDE_PX), np.uint8), THING[:2], THING[2:], 255, -1)


def photographed(seed: int) -> Image:
    """Something blurred and blue that stands for a face, behind a red thing."""
    rng = np.random.default_rng(seed)
    picture = cv2.GaussianBlur(rng.integers(90, 200, (WIDE_PX, WIDE_PX, 3), dtype=np.uint8), (0, 0), 9)
    picture[..., 2] //= 2
    return cv2.rectangle(picture, THING[:2], THING[2:], RED, -1)


def write_things(data: Path) -> None:
    folder = data / "things"
    folder.mkdir()
    lines = []
    for number, (split, thing, tone) in enumerate(
        [("train", "hand", "light"), ("train", "cup", "dark"), ("dev", "hand", "brown"), ("dev", "none", "light")]
    ):
        mask = thing_mask() if thing != "none" else np.zeros((WIDE_PX, WIDE_PX), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), photographed(number))
        cv2.imwrite(str(folder / f"{number}_mask.png"), mask)
        facts = {"file": f"{number}.png", "mask": f"{number}_mask.png", "thing": thing, "tone": tone, "split": split}
        lines.append({**facts, "landmarks": LANDMARKS, "valid_quad": WHOLE})
    (folder / "things.jsonl").write_text("\n".join(json.dumps(line) for line in lines))


def write_masks_worn(data: Path) -> None:
    """Scenes twice as large as the wide field that is cut out of them."""
    folder = data / "masks_worn"
    folder.mkdir()
    (data / "scenes").mkdir()
    lines = []
    for number, (split, worn) in enumerate([("train", "covering"), ("dev", "covering"), ("dev", "chin")]):
        scene = cv2.resize(photographed(10 + number), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(data / "scenes" / f"{number}.png"), scene)
        cv2.imwrite(str(folder / f"{number}.png"), thing_mask())
        facts = {"scene": f"../scenes/{number}.png", "mask": f"{number}.png", "worn": worn, "split": split}
        matrix = [[0.5, 0, 0], [0, 0.5, 0]]
        lines.append({**facts, "matrix": matrix, "landmarks": LANDMARKS, "valid_quad": WHOLE, "tone": "light"})
    (folder / "masks_worn.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
