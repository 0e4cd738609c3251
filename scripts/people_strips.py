"""Strips of people whom nobody of the training has seen: covered, restored by the product, and the truth.

    python scripts/people_strips.py ../shared/data output/people.png

Hands with their arms, mugs, masks with straps and phones come before portraits of `wide/dev`, each person once. Every
picture stands alone, as a photograph: nothing is remembered. Look at the sheet at full size, and keep it out of git.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from engines.contract import Image, Points
from occlufix_vcam.assembly import build_pipeline
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.telemetry import Telemetry
from occlufix_vcam.inference import EngineSet
from train.data.wide import WideSet
from train.evaluation.films.things import ArmScript, MaskScript, arm, mask

THINGS: tuple[ArmScript | MaskScript, ...] = (
    ArmScript("hand_306.webp", (0.1, 1.0), 30),
    ArmScript("holding/o67.webp", (0.0, 1.0), 10),
    MaskScript("surgical_blue"),
    ArmScript("holding/o34.webp", (0.3, 0.8), -10, own_tone=True),
    ArmScript("tones/h006.webp", (-0.1, 0.9), -40, own_tone=True),
    MaskScript("KN95", bands=True),
)
PEOPLE, COLUMNS = 12, 2
#: An arm is before the face in the middle of its film.
FRAMES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    with closing(EngineSet(Settings())) as engines:
        strips = [
            np.hstack([covered(chosen.data, thing, truth, points), truth])
            for (truth, points), thing in zip(people(chosen.data), cycle(THINGS), strict=False)
        ]
        strips = [np.hstack([strip[:, :416], restored(strip[:, :416], engines), strip[:, 416:]]) for strip in strips]
    rows = [np.hstack(strips[at : at + COLUMNS]) for at in range(0, len(strips), COLUMNS)]
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(chosen.out), np.vstack(rows)):
        raise SystemExit(f"{chosen.out} cannot be written")


def people(data: Path) -> Iterator[tuple[Image, Points]]:
    """A portrait of each of PEOPLE people, and its landmarks."""
    portraits = WideSet(data, "dev")
    for members in islice(portraits.people.values(), PEOPLE):
        yield portraits.wide(members[0]), portraits.rows[members[0]].landmarks


def covered(data: Path, thing: ArmScript | MaskScript, image: Image, landmarks: Points) -> Image:
    """`image` with a thing in front."""
    drawn = (
        mask(data, thing, image, landmarks)
        if isinstance(thing, MaskScript)
        else arm(data, thing, FRAMES, image, landmarks)
    )
    colours, alpha = drawn(FRAMES * 3 // 5, landmarks)
    weight = alpha.astype(np.float32) / 255
    return np.asarray(cv2.blendLinear(colours, image, weight, 1 - weight), np.uint8)


def restored(image: Image, engines: EngineSet) -> Image:
    """What the product makes of a photograph."""
    with closing(build_pipeline(Settings(), Telemetry(), engines)) as pipeline:
        return pipeline(Frame(np.ascontiguousarray(image), 0, 0.0))[0].image


if __name__ == "__main__":
    main()
