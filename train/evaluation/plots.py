"""Draws when which loss begins to count."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from train.hardware import TrainingError
from train.task import Illustrated, Task

SIZE = (900, 560)  # width, height
LEFT, RIGHT, TOP, BOTTOM = 60, 250, 30, 60
#: BGR, told apart by colour-blind eyes too (M. Okabe and K. Ito, 2008), darker where the ground is white.
COLOURS = (
    (0, 0, 0), (0, 110, 200), (200, 140, 40), (90, 140, 0), (40, 180, 190), (160, 80, 0), (0, 60, 190), (150, 90, 180),
)  # fmt: skip


def draw_schedule(task: Task, steps: int, file: Path) -> None:
    """Weight of each loss over the run, each as a share of its own final weight, which the legend gives.

    Raises TrainingError for a task whose losses have no schedule, and for a file that can't be written.
    """
    if not isinstance(task, Illustrated):
        raise TrainingError(f"`{task.name}` has no schedule of losses: nothing to draw")
    width, height = SIZE
    picture = np.full((height, width, 3), 255, np.uint8)
    progress = np.linspace(0, 1, width - LEFT - RIGHT)
    weights = [task.schedule.at(float(share)) for share in progress]
    _axes(picture, steps)
    for row, (name, last) in enumerate(weights[-1].items()):
        colour = COLOURS[row % len(COLOURS)]
        shares = [weight[name] / last if last else 0.0 for weight in weights]
        lift = row * 4.0  # lines that lie on one another stay visible
        points = [
            (LEFT + x, height - BOTTOM - share * (height - TOP - BOTTOM - 40) - lift) for x, share in enumerate(shares)
        ]
        cv2.polylines(picture, [np.round(points).astype(np.int32)], False, colour, 2, cv2.LINE_AA)
        y = TOP + 20 + row * 26
        cv2.line(picture, (width - RIGHT + 18, y - 4), (width - RIGHT + 46, y - 4), colour, 3, cv2.LINE_AA)
        _text(picture, f"{name}  {last:g}", (width - RIGHT + 56, y))
    file.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(file), picture):
        raise TrainingError(f"can't write {file}; give a name that ends with .png")


def _axes(picture: np.ndarray, steps: int) -> None:
    height, width = picture.shape[:2]
    end = width - RIGHT
    cv2.rectangle(picture, (LEFT, TOP), (end, height - BOTTOM), (170, 170, 170), 1)
    for tick in range(5):
        x = LEFT + (end - LEFT) * tick // 4
        cv2.line(picture, (x, height - BOTTOM), (x, height - BOTTOM + 6), (170, 170, 170), 1)
        _text(picture, f"{steps * tick // 4:,}", (x - 20, height - BOTTOM + 24))
    _text(picture, "step", ((LEFT + end) // 2 - 16, height - 12))
    _text(picture, "weight as a share of its last, which stands on the right", (LEFT, TOP - 10))


def _text(picture: np.ndarray, text: str, place: tuple[int, int]) -> None:
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
