"""What several tests of the training share: a small data folder of drawn pictures, and one exported network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE

OCCLUDER_KINDS = ("hand", "mask_flat", "sunglasses", "eyeglasses", "scarf", "object")


def write_occluders(data: Path) -> None:
    """Coloured ellipses on nothing for cut-outs, noise for textures."""
    rng = np.random.default_rng(0)
    folder = data / "occluders"
    kinds = [f"{split}/{kind}/{kind}_1" for split in ("train", "eval") for kind in OCCLUDER_KINDS]
    for name in [*kinds, "train/object/object (12)", "mask_templates/KN95", "mask_templates/surgical"]:
        picture = np.zeros((120, 90, 4), np.uint8)
        alpha = cv2.ellipse(np.zeros((120, 90), np.uint8), (45, 60), (40, 55), 0, 0, 360, 255, -1)
        picture[:] = (*rng.integers(0, 256, 3).tolist(), 0)
        picture[:, :, 3] = alpha
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{name}.png"), picture)
    (folder / "mask_textures").mkdir()
    for number in range(4):
        texture = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "mask_textures" / f"check_{number}.png"), texture)


def write_faces(data: Path) -> None:
    """Three blurred pictures that stand for faces, without their uppermost 40 rows, and occluders."""
    write_occluders(data)
    (data / "train").mkdir()
    rng, lines = np.random.default_rng(0), []
    for number in range(3):
        picture = cv2.GaussianBlur(rng.integers(60, 220, (CROP_PX, CROP_PX, 3), dtype=np.uint8), (0, 0), 9)
        cv2.imwrite(str(data / "train" / f"{number}.png"), picture)
        lines.append(
            {
                "file": f"{number}.png",
                "identity": None,
                "origin": "drawn",
                "landmarks": TEMPLATE.tolist(),
                "valid_quad": [[0, 40], [256, 40], [256, 256], [0, 256]],
            }
        )
    (data / "train" / "index.jsonl").write_text("\n".join(json.dumps(line) for line in lines))


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `write_faces` draws."""
    data = tmp_path_factory.mktemp("data")
    write_faces(data)
    return data


# Other lanes read this file where there is no torch, so fixtures import what needs it.


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the small restorer was exported; not to be written to."""
    from tests.harness.small_restorer import SmallRestorer
    from train.export.export import export_network

    folder = tmp_path_factory.mktemp("exported") / "models"
    list(export_network(SmallRestorer(), {"images": 5}, folder, {"mask_psnr": 20.0}))
    return folder


@pytest.fixture
def photographed_data(small_data: Path, tmp_path: Path) -> Path:
    """The same folder with drawn photographs of covered faces, in `things` and `masks_worn`."""
    from tests.train.photographed import write_masks_worn, write_things

    data = tmp_path / "data"
    shutil.copytree(small_data, data)
    write_things(data)
    write_masks_worn(data)
    return data


@pytest.fixture
def quick_export(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export of the small restorer copies the files of `exported`: tracing it again gives the same ones."""
    from train.export import export

    monkeypatch.setattr(export, "_write_onnx", lambda _, __, path: shutil.copy(exported / path.name, path))
