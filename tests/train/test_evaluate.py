"""The evaluation of restorers: its cases never change, the truth measures as perfect, and reports are whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from engines.contract import CROP_PX, TEMPLATE
from train import checkpoint
from train.config import RECIPES
from train.data.face_set import DataError, FaceSet
from train.evaluation.metrics import psnr
from train.evaluation.report import EvalReport, by_kind_tables
from train.evaluation.restoration import evaluate
from train.evaluation.restoration.cases import EVAL_SHAPES, GRAINS, TONES, EvalCase, eval_cases
from train.evaluation.restoration.meter import RestorationMeter
from train.evaluation.restoration.methods import methods_of, restore
from train.evaluation.runners import names_of, open_runner, torch_runner
from train.onnx_runner import Arrays, onnx_runner
from train.task import load_task

SHIPPED = Path(__file__).resolve().parents[2] / "engines" / "models" / "restore.fp32.onnx"


def greyed(feeds: Mapping[str, np.ndarray]) -> Arrays:
    """Fills the hole with grey, or with the reference."""
    known = np.where(feeds["reference_mask"] > 0, feeds["reference"], np.uint8(128))
    return {"restored": np.where(feeds["mask"] > 0, known, feeds["face"])}


@pytest.fixture(scope="module")
def meter(data: Path) -> RestorationMeter:
    return RestorationMeter(data / "weights", 1)


def test_cases_repeat_and_a_limit_takes_some_of_the_same(data: Path) -> None:
    faces = FaceSet(data, "eval")
    every = list(eval_cases(faces, EVAL_SHAPES["hand"]))
    assert len(every) == len(faces)
    few = list(eval_cases(faces, EVAL_SHAPES["hand"], 5))
    assert len(few) == 5
    holes = {case.hole.tobytes() for case in every}
    assert all(case.hole.tobytes() in holes for case in few)
    assert any(case.reference is not None for case in every) and any(case.reference is None for case in every)


def test_the_truth_is_judged_perfect_and_a_blur_soft(data: Path, meter: RestorationMeter) -> None:
    cases = list(eval_cases(FaceSet(data, "eval"), EVAL_SHAPES["mask"], 3))
    blurred = [np.where(c.hole[..., None] > 0, cv2.GaussianBlur(c.face, (0, 0), 4), c.face) for c in cases]
    pictures = {"truth": [case.face for case in cases], "blurred": blurred, "none": [None] * 3}
    measured = meter(cases, pictures)
    assert measured["none"] == [None] * 3
    for truth, blur in zip(measured["truth"], measured["blurred"], strict=True):
        assert truth is not None and blur is not None
        assert truth.figures["psnr"] > 90 and truth.figures["seam"] == 0
        for name in ("ssim", "ssim_whole", "sharpness", "skin_energy", "identity"):
            assert truth.figures[name] == pytest.approx(1, abs=1e-4)
        for name in ("pd_mobilenet", "pd_mobilenet_whole", "pd_squeeze", "pd_squeeze_whole"):
            assert truth.figures[name] == pytest.approx(0, abs=1e-4) and blur.figures[name] > 0.005
        assert blur.figures["skin_energy"] < 0.5 and blur.figures["sharpness"] < 0.7
        assert blur.figures["psnr_whole"] > blur.figures["psnr"]


def test_skin_is_in_the_hole_and_no_eye_or_mouth(data: Path) -> None:
    for case in eval_cases(FaceSet(data, "eval"), EVAL_SHAPES["mask"], 6):
        assert not (case.skin & ~case.region).any()
        assert (case.skin > 0).sum() > 500
        for x, y in np.round(case.landmarks).astype(int):
            assert case.skin[y, x] == 0


def test_tones_are_told_by_the_skin_alone() -> None:
    """Median colours of light, olive and dark skin after the classes' own definition; the background does not count."""
    hole = np.zeros((CROP_PX, CROP_PX), np.uint8)
    valid = np.full_like(hole, 255)
    for tone, colour in (
        ("light skin", (180, 205, 240)),
        ("medium skin", (110, 150, 195)),
        ("dark skin", (40, 60, 95)),
    ):
        face = np.zeros((CROP_PX, CROP_PX, 3), np.uint8)
        case = EvalCase(face, hole, valid, TEMPLATE)
        face[case.bare > 0] = colour
        assert case.tone == tone


def test_soft_and_sharp_photographs_are_told_by_the_grain_of_the_skin() -> None:
    hole = np.zeros((CROP_PX, CROP_PX), np.uint8)
    noise = np.random.default_rng(1).normal(0, 1, (CROP_PX, CROP_PX, 1))  # its Laplacian's is sqrt(20) times as strong
    for strength, grain in ((1.5, "soft photograph"), (2.1, "sharp photograph")):
        face = np.round(128 + strength * noise).astype(np.uint8).repeat(3, axis=2)
        assert EvalCase(face, hole, hole + 255, TEMPLATE).grain == grain


def test_a_report_holds_all_kinds_methods_and_figures(
    data: Path, meter: RestorationMeter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "more_figures", lambda *given: EvalReport({"more": 1.0}, "## More\n"))
    monkeypatch.setattr(evaluate, "RestorationMeter", lambda *given: meter)  # its networks take long to load
    report = evaluate.evaluate({"grey": greyed, "same": greyed}, data, tmp_path, limit=2, threads=1)
    report.write(tmp_path)
    detail = json.loads((tmp_path / "report.json").read_text())
    assert list(detail["all"]) == ["mask", "hand", "rectangle", "other"]
    assert list(detail["all"]["mask"]) == ["masked input", "telea", "ns", "grey", "same"]
    assert detail["all"]["hand"]["grey"] == detail["all"]["hand"]["same"]
    assert detail["paired"]["mask"]["grey + reference"] != detail["paired"]["mask"]["grey"]
    assert detail["all"]["mask"]["grey"]["cases"] == 2
    flat = json.loads((tmp_path / "figures.json").read_text())
    assert flat["mask_gain_over_telea"] == pytest.approx(flat["mask_psnr"] - flat["mask_telea"])
    assert flat["mask_kid_mobilenet"] == detail["all"]["mask"]["grey"]["kid_mobilenet"]
    assert flat["more"] == 1 and flat["mask_critic_auc"] is None, "two faces are too few for a critic"
    assert {"rectangle_identity_with_reference", "rectangle_identity_without_reference"} <= flat.keys()
    groups = detail["groups"]["mask"]
    for classes in (TONES, GRAINS):
        assert sum(groups[group]["cases"] for group in classes if group in groups) == 2
    assert {*TONES, *GRAINS} >= groups.keys()
    for group, values in groups.items():
        assert flat[f"mask_{group.replace(' ', '_')}_psnr"] == values["psnr"]
    table = (tmp_path / "report.md").read_text()
    assert "| telea | 2 |" in table and "pd mobilenet" in table and "lpips" not in table
    sheet = cv2.imread(str(tmp_path / "restore_mask.png"))
    assert sheet.shape[1] == 9 * CROP_PX


@pytest.mark.parametrize("split", evaluate.SPLITS)
def test_aligned_and_wide_faces_of_a_split_are_judged_as_served_and_with_references(data: Path, split: str) -> None:
    report = evaluate.more_figures({"grey": greyed}, data, split, 1, 1, None)
    assert {
        "as_served_hand_psnr",
        "wide_as_served_cup_psnr_clean",
        "wide_mask_recalled_identity",
    } <= report.figures.keys()
    assert report.figures["wide_mask_self_psnr"] > 40 > report.figures["wide_mask_unaided_psnr"]
    assert list(report.detail["references"]) == ["mask", "wide_mask"]
    assert "| grey as served |" in report.tables and "| grey + recalled |" in report.tables


def test_tables_show_a_dash_where_nothing_was_measured() -> None:
    table = by_kind_tables({"mask": {"a": {"psnr": 1.234, "seam": float("nan")}, "b": {"psnr": 2.0}}}, "All")
    assert "| a | 1.23 | - |" in table and "| b | 2.00 | - |" in table


def test_networks_are_told_apart_by_their_folders() -> None:
    assert list(names_of([Path("a/net.onnx"), Path("b/other.onnx")])) == ["net", "other"]
    assert list(names_of([Path("a/net.onnx"), Path("b/net.onnx")])) == ["a/net", "b/net"]
    with pytest.raises(DataError, match="twice"):
        names_of([Path("a/net.onnx"), Path("a/net.onnx")])


def test_runners_name_what_they_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no"):
        onnx_runner(tmp_path / "none.onnx", 1)
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    with pytest.raises(DataError, match="not a readable"):
        onnx_runner(tmp_path / "broken.onnx", 1)
    with pytest.raises(DataError, match="wants"):
        onnx_runner(SHIPPED, 1)({"frame": np.zeros((1, 64, 64, 3), np.uint8)})


def test_a_checkpoint_runs_like_its_network(data: Path) -> None:
    torch.manual_seed(0)
    task = load_task(RECIPES["restore", "debug"], data)
    run = torch_runner(task.model_io(task.modules["network"]))
    face = np.random.default_rng(0).integers(0, 256, (CROP_PX, CROP_PX, 3), dtype=np.uint8)
    hole = np.zeros((CROP_PX, CROP_PX), np.uint8)
    hole[100:160, 90:150] = 255
    made = restore(run, face, hole)
    assert np.array_equal(made[hole == 0], face[hole == 0]) and (made[hole > 0] != face[hole > 0]).any()


def test_a_checkpoint_brings_the_parts_it_was_trained_with(data: Path, tmp_path: Path) -> None:
    recipe = RECIPES["restore", "vit"]
    task = load_task(recipe, data)
    averaged = checkpoint.AveragedWeights(task.modules["network"], 0.9)
    state = {"averaged": averaged.state, "step": 1, "recipe": {"network": "restore", "blocks": recipe.blocks}}
    torch.save(state, tmp_path / "last.pt")
    run = open_runner(RECIPES["restore", "base"], data, tmp_path, 1)
    face, hole = np.full((CROP_PX, CROP_PX, 3), 90, np.uint8), np.full((CROP_PX, CROP_PX), 255, np.uint8)
    assert restore(run, face, hole).shape == face.shape
    with pytest.raises(checkpoint.CheckpointError, match="of `restore`, not of `hidden`"):
        open_runner(RECIPES["hidden", "base"], data, tmp_path, 1)
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint"):
        open_runner(recipe, data, tmp_path / "nowhere", 1)


@pytest.mark.parametrize(("kind", "least_db"), [("mask", 2.5), ("hand", 0.9), ("rectangle", 2.2)])
def test_the_shipped_network_beats_classical_inpainting(data: Path, kind: str, least_db: float) -> None:
    run = onnx_runner(SHIPPED, 1)
    methods = methods_of({"own": run})
    gains = []
    for case in eval_cases(FaceSet(data, "eval"), EVAL_SHAPES[kind], 25):
        made, telea = methods["own"](case), methods["telea"](case)
        assert made is not None and telea is not None
        gains.append(psnr(made, case.face, case.region) - psnr(telea, case.face, case.region))
    assert np.mean(gains) > least_db
