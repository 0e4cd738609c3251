"""int8: entered with its figures where it loses little, known pixels untouched; else nothing changes."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines.contract import CROP_PX
from engines.offline import import_offline
from tests.harness.small_restorer import SHAPES, SmallRestorer
from train.export import export, quantise
from train.export.export import ExportError
from train.task import Sample

onnxruntime = import_offline("onnxruntime")


class Sampled(SmallRestorer):
    """The small restorer, with samples of noise."""

    def sample(self, rng: np.random.Generator) -> Sample:
        pictures = {name: rng.integers(0, 256, (3, CROP_PX, CROP_PX), dtype=np.uint8) for name in ("face", "reference")}
        return pictures | {
            name: (rng.random((1, CROP_PX, CROP_PX)) < 0.3).astype(np.uint8) for name in ("hole", "reference_mask")
        }


@pytest.fixture
def models(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "models"))


def pretend_figures(monkeypatch: pytest.MonkeyPatch, int8_psnr: float) -> None:
    def evaluate(runners: Any, *_: object, split: str) -> Any:
        assert split == "dev"
        return SimpleNamespace(figures={"mask_psnr": 20.0 if "fp32" in runners else int8_psnr, "mask_telea": 1.0})

    monkeypatch.setattr(quantise, "load_evaluation", lambda name: evaluate)


@pytest.mark.usefixtures("quick_export")
def test_a_good_one_is_entered_and_keeps_known_pixels(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_figures(monkeypatch, 19.8)
    list(quantise.quantise_network(Sampled(), Path(), models, samples=4))

    entry = tomllib.loads((models / export.MANIFEST).read_text())["restore"]["int8"]
    assert entry["metrics"] == {"mask_psnr": 19.8} and entry["metrics_fp32"] == {"mask_psnr": 20.0}
    card = (models / "MODEL_CARD.md").read_text()
    assert "`restore.int8.onnx`" in card and "mask psnr 20 to 19.8" in card
    session = onnxruntime.InferenceSession(str(models / entry["file"]), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {name: rng.integers(0, 256, shape, dtype=np.uint8) for name, shape in SHAPES.items()}
    feeds["mask"] = np.where(feeds["mask"] > 127, 255, 0).astype(np.uint8)
    (restored,) = session.run(None, feeds)
    known = feeds["mask"][..., 0] == 0
    np.testing.assert_array_equal(restored[known], feeds["face"][known])

    list(export.export_network(SmallRestorer(), {"images": 6}, models, {}))
    assert not (models / entry["file"]).exists()


def test_one_that_loses_too_much_changes_nothing(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_figures(monkeypatch, 19.6)
    before, files = (models / export.MANIFEST).read_text(), sorted(models.iterdir())

    with pytest.raises(ExportError, match=r"0\.400 of mask_psnr"):
        list(quantise.quantise_network(Sampled(), Path(), models, samples=2))

    assert (models / export.MANIFEST).read_text() == before
    assert sorted(models.iterdir()) == files


@pytest.mark.parametrize(
    ("figure", "before", "after", "kept"),
    [
        ("recall", 0.99, 0.985, True),
        ("masked_recall", 0.99, 0.97, False),
        ("bare_landmark_error", 0.080, 0.082, True),
        ("bare_landmark_error", 0.080, 0.084, False),
        ("landmark_error_steady", 0.080, 0.084, False),
        ("landmark_error", 0.080, 0.070, True),
        ("landmark_error", 0.080, float("nan"), False),
        ("false_finds", 1.0, 2.0, True),
        ("false_finds", 1.0, 3.0, False),
    ],
)
def test_a_finder_may_neither_miss_more_faces_nor_place_landmarks_worse(
    figure: str, before: float, after: float, kept: bool
) -> None:
    others = {"ms_per_picture": 3.0, "yunet_recall": 1.0, "faces": 9.0}
    expected, found = others | {figure: before}, others | {figure: after}
    if kept:
        assert quantise.check_loss("faces", expected, found) == {figure: after}
    else:
        with pytest.raises(ExportError, match=rf"of {figure} in int8"):
            quantise.check_loss("faces", expected, found)


def test_without_a_network_there_is_nothing_to_quantise(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="export it first"):
        list(quantise.quantise_network(Sampled(), Path(), tmp_path))
