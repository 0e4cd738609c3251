"""The plot of the weights: drawn for what has a schedule, refused for what has none."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from tests.harness.train_lines import RECIPE, Line
from train.config import RECIPES
from train.evaluation import plots
from train.hardware import TrainingError
from train.task import load_task


def test_every_loss_is_drawn(tmp_path: Path) -> None:
    task = load_task(RECIPES["restore", "base"], tmp_path)
    plots.draw_schedule(task, 7000, tmp_path / "plots" / "schedule.png")
    picture = cv2.imread(str(tmp_path / "plots" / "schedule.png"))
    assert picture.shape[:2] == plots.SIZE[::-1]
    inside = picture[plots.TOP : -plots.BOTTOM, plots.LEFT : -plots.RIGHT].reshape(-1, 3)
    for colour in plots.COLOURS:
        assert (inside == colour).all(axis=1).sum() > 100


def test_what_can_not_be_drawn_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to draw"):
        plots.draw_schedule(Line(RECIPE), 100, tmp_path / "schedule.png")
