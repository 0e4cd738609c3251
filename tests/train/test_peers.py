"""A peer's own examples: brought to the template whole, and judged as our restorers are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX
from train.data.face_set import DataError
from train.evaluation.metrics import psnr
from train.evaluation.restoration import peers
from train.occlusion.masks import hidden_share
from train.onnx_runner import Arrays


@pytest.fixture(scope="module")
def folder(data: Path) -> Path:
    if not (data / peers.FOLDER).is_dir():
        pytest.skip("the peer's examples are not in the data folder")
    return data


def greyed(feeds: Mapping[str, np.ndarray]) -> Arrays:
    return {"restored": np.where(feeds["mask"] > 0, np.uint8(128), feeds["face"])}


def test_picture_hole_and_result_lie_on_each_other(folder: Path) -> None:
    examples = peers.peer_examples(folder)
    assert len(examples) == 18
    for case, result in examples:
        assert 0.4 < hidden_share(case.hole) <= 1.0
        seen = case.valid & ~cv2.dilate(case.hole, np.ones((9, 9), np.uint8))
        if np.count_nonzero(seen) > 0.01 * CROP_PX**2:
            assert psnr(result, case.face, seen) > 30, "outside of its hole the peer changes nothing"
        assert psnr(result, case.face, case.region) < 25


def test_the_peer_is_judged_beside_a_restorer(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = peers.peer_examples(folder)[:6]
    monkeypatch.setattr(peers, "peer_examples", lambda data: few)
    found = peers.peer_figures({"grey": greyed}, folder, 1, tmp_path)
    assert found["grey"]["cases"] == found[peers.PEER]["cases"] == 6
    assert (
        found["grey"]["psnr"] < found[peers.PEER]["psnr"] and found["grey"]["identity"] < found[peers.PEER]["identity"]
    )
    assert all(0 <= figures["critic_auc"] <= 1 for figures in found.values())
    sheet = cv2.imread(str(tmp_path / "restore_peer.png"))
    assert sheet is not None and sheet.shape[1] == 4 * CROP_PX


def test_a_picture_without_its_mask_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").symlink_to(folder / "weights")
    (tmp_path / peers.FOLDER).mkdir(parents=True)
    for kind in ("image", "migan"):
        (tmp_path / peers.FOLDER / f"01.{kind}.webp").symlink_to(folder / peers.FOLDER / f"01.{kind}.webp")
    with pytest.raises(DataError, match="lacks its mask"):
        peers.peer_examples(tmp_path)
