"""The segmenter's training: it learns, its losses and figures mean what they say, and the shipped model is good."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.contract import TEMPLATE_PART, WIDE_OFFSET, WIDE_PX, Image
from engines.offline import import_offline
from train.config import RECIPES
from train.data.face_set import FaceSet
from train.evaluation.hidden import figures
from train.evaluation.mask_figures import boundary_f, iou, is_thin, marked
from train.networks.imagenet_encoder import ImageNetEncoder
from train.occlusion.camera import misalignment, relight, webcam, wide_misalignment
from train.tasks import hidden_data
from train.tasks.hidden import HiddenExport, HiddenTask, HiddenUNet, dice, importance, masked_bce
from train.tasks.hidden_data import COVERED, EVAL_SEED, EvalComposites, SegmentationSample

onnxruntime = import_offline("onnxruntime")

MODELS = Path(__file__).resolve().parents[2] / "engines" / "models"
EVERYWHERE = np.full((WIDE_PX, WIDE_PX), 255, np.uint8)


def box(left: int, top: int, width: int, height: int) -> Image:
    """A box in the wide field, placed in pixels of the template."""
    mask = np.zeros((WIDE_PX, WIDE_PX), np.uint8)
    left, top = left + WIDE_OFFSET[0], top + WIDE_OFFSET[1]
    mask[top : top + height, left : left + width] = 255
    return mask


def test_a_debug_run_lowers_the_loss(small_data: Path) -> None:
    torch.manual_seed(0)
    recipe = RECIPES["hidden", "debug"]
    task = HiddenTask(recipe, small_data)
    rng = np.random.default_rng(0)
    samples = [task.sample(rng) for _ in range(8)]
    batch = {name: torch.from_numpy(np.stack([s[name] for s in samples])) for name in samples[0]}
    assert batch["face"].shape == (8, recipe.size_px, recipe.size_px, 3)
    assert batch["hidden"].shape == batch["valid"].shape == (8, recipe.size_px, recipe.size_px)
    records = [task.train_step(batch, step / 12) for step in range(12)]
    assert records[-1]["bce"] < 0.8 * records[0]["bce"]
    assert records[-1]["dice"] < records[0]["dice"]


def test_samples_are_the_same_for_the_same_seed(small_data: Path) -> None:
    task = HiddenTask(RECIPES["hidden", "debug"], small_data)
    first, second = (task.sample(np.random.default_rng(6)) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_inputs_and_outputs_are_those_of_the_contract(small_data: Path) -> None:
    task = HiddenTask(RECIPES["hidden", "debug"], small_data)
    model_io = task.model_io(task.modules["network"])
    assert model_io.inputs == {"face": (1, 416, 416, 3)} and model_io.outputs == {"hidden": (1, 416, 416, 1)}
    with torch.no_grad():
        seen = model_io.module.eval()(torch.zeros((2, 416, 416, 3), dtype=torch.uint8))
    assert seen.shape == (2, 416, 416, 1) and seen.dtype == torch.uint8


def test_the_map_is_doubled_as_a_picture_is() -> None:
    torch.manual_seed(0)
    network = HiddenUNet().eval()
    picture = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        seen = HiddenExport(network).eval()(picture)
        logits = network(picture.permute(0, 3, 1, 2) / 255)
        smooth = torch.nn.functional.interpolate(logits * 1.0, scale_factor=2.0, mode="bilinear", align_corners=False)
    expected = (torch.sigmoid(smooth) * 255).round().permute(0, 2, 3, 1)
    assert (seen.float() - expected).abs().max() <= 1
    assert seen.float().std() > 0


def test_the_graph_itself_scales_and_transposes() -> None:
    network = HiddenUNet().eval()
    picture = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    bgr = picture.permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        expected = torch.nn.functional.interpolate(network(bgr), scale_factor=2.0, mode="bilinear").sigmoid() * 255
        seen = HiddenExport(network)(picture)[..., 0].float()
    assert (seen - expected[:, 0]).abs().max() < 0.51


def test_the_network_stays_small() -> None:
    assert sum(parameter.numel() for parameter in HiddenUNet().parameters()) < 2_100_000


def test_losses_look_only_inside_the_photograph() -> None:
    truth, valid = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    truth[..., :4] = 1
    right = (truth - 0.5) * 40
    assert masked_bce(right, truth, valid) < 1e-6 and dice(right, truth, valid) < 1e-6
    wrong_outside = right.clone()
    wrong_outside[..., 6:] = 20
    assert masked_bce(wrong_outside, truth, valid) > 1
    valid[..., 6:] = 0
    assert masked_bce(wrong_outside, truth, valid) < 1e-6 and dice(wrong_outside, truth, valid) < 1e-6


def test_the_template_outlines_and_thin_things_count_more() -> None:
    truth = torch.zeros(1, 1, 208, 208)
    truth[..., 60:100, 60:100] = 1
    truth[..., 20, 20:40] = 1
    weight = importance(truth)[0, 0]
    assert weight[200, 10] == 1 and weight[140, 100] == 2, "beyond the template and inside"
    assert weight[80, 80] == 2 and weight[61, 80] == 4, "inside a thing and at its rim"
    assert weight[20, 30] == 4 and weight[23, 30] == 1, "on something thin, and beside it"


def test_what_imagenet_taught_is_read_and_stays(data: Path) -> None:
    task = HiddenTask(RECIPES["hidden", "debug"], data)
    network = task.modules["network"]
    assert isinstance(network, HiddenUNet) and not any(each.requires_grad for each in network.encoder.parameters())
    before = [each.clone() for each in network.encoder.parameters()]
    rng = np.random.default_rng(0)
    samples = [task.sample(rng) for _ in range(2)]
    task.train_step({name: torch.from_numpy(np.stack([s[name] for s in samples])) for name in samples[0]}, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, network.encoder.parameters(), strict=True))
    assert network.known4.weight.abs().sum() > 0


def test_without_imagenet_all_of_the_network_learns(tmp_path: Path) -> None:
    encoder = ImageNetEncoder()
    encoder.read(tmp_path)
    assert all(each.requires_grad for each in encoder.parameters())
    given = encoder(torch.zeros(1, 3, 64, 64))
    assert [each.shape[1:] for each in given] == [(128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_composites_are_measured_inside_the_template_alone(data: Path) -> None:
    (case,) = EvalComposites(data).fixed(["hand"], 1)
    assert case.face.shape == (WIDE_PX, WIDE_PX, 3) and case.mask.any()
    assert case.valid[TEMPLATE_PART].mean() > 150 and np.count_nonzero(case.valid) < 1.35 * 256**2


def test_booms_and_pens_are_thin_and_masks_are_not() -> None:
    assert is_thin(box(10, 10, 200, 8)) and not is_thin(box(60, 60, 80, 80)) and not is_thin(box(0, 0, 0, 0))


def test_iou_and_outline() -> None:
    case = SegmentationSample(np.zeros((WIDE_PX, WIDE_PX, 3), np.uint8), box(60, 60, 80, 80), EVERYWHERE)
    assert iou(case.mask, case) == 1.0 and boundary_f(case.mask, case) == 1.0
    assert iou(box(100, 60, 80, 80), case) == pytest.approx(1 / 3)
    assert boundary_f(box(62, 61, 80, 80), case) == 1.0
    assert boundary_f(box(60, 60, 120, 80), case) < 0.8
    nothing = SegmentationSample(case.face, np.zeros_like(case.mask), EVERYWHERE)
    assert iou(nothing.mask, nothing) == boundary_f(nothing.mask, nothing) == 1.0
    assert iou(case.mask, nothing) == 0.0


def test_only_the_face_inside_the_photograph_counts_as_marked() -> None:
    case = SegmentationSample(
        np.zeros((WIDE_PX, WIDE_PX, 3), np.uint8), np.zeros((WIDE_PX, WIDE_PX), np.uint8), box(0, 128, 256, 128)
    )
    assert marked(box(0, 0, 256, 128), case) == 0.0
    assert marked(box(0, 0, 10, 256), case) == 0.0
    assert marked(EVERYWHERE, case) == 1.0


def test_misalignment_stays_within_what_landmarks_do() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        matrix = misalignment(rng, 128)
        middle = matrix @ np.array([128, 128, 1])
        assert np.abs(middle - 64).max() < 7
        assert 0.35 < np.hypot(matrix[0, 0], matrix[1, 0]) < 0.7


def test_the_wide_field_is_misaligned_as_the_template_is() -> None:
    for seed in range(20):
        small, wide = (make(np.random.default_rng(seed), 256) for make in (misalignment, wide_misalignment))
        point = np.array([100.0, 150.0])
        at = small @ (*point, 1) + WIDE_OFFSET
        assert wide @ (*(point + WIDE_OFFSET), 1) * WIDE_PX / 256 == pytest.approx(at, abs=0.01)


def test_light_and_camera_keep_the_kind_of_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        seen = webcam(relight(picture, rng), rng)
        assert seen.shape == picture.shape and seen.dtype == np.uint8


def test_faces_that_are_hidden_already_are_not_evaluated_on(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = FaceSet(data, "eval")
    assert {row.file for row in faces.rows} >= COVERED, "a name that is none would leave nothing out"
    assert len(list(EvalComposites(data).clean())) == len(faces) - len(COVERED)
    firsts = [int(np.random.default_rng([EVAL_SEED, number]).integers(len(faces))) for number in range(40)]
    number = next(number for number, index in enumerate(firsts) if faces.rows[index].file in COVERED)
    drawn: list[str] = []
    examples = EvalComposites(data)
    monkeypatch.setattr(hidden_data, "aligned_portrait", lambda row, image: drawn.append(row.file))
    monkeypatch.setattr(hidden_data, "composite_view", lambda *given: None)
    list(examples.fixed([], number + 1))
    assert len(drawn) == number + 1 and not set(drawn) & COVERED


def test_the_shipped_model_sees_what_hides_and_leaves_faces_alone(data: Path) -> None:
    """Loose bounds: they catch a model that was exported wrongly or trained badly, not a bad day."""
    entry = tomllib.loads((MODELS / "models.toml").read_text(encoding="utf-8"))["hidden"]
    session = onnxruntime.InferenceSession(str(MODELS / entry["fp32"]["file"]), providers=["CPUExecutionProvider"])
    found = figures(lambda face: session.run(None, {"face": face[None]})[0][0, :, :, 0], data, each_kind=8, limit=60)
    assert found["iou"] > 0.80
    assert found["iou_medical_mask"] > 0.90
    assert found["clean_marked"] < 0.002
    assert found["eyeglasses_marked"] < 0.01
    assert found["iou_real_silver"] > 0.7
    assert found["things_iou"] > 0.88 and found["things_wide_iou"] > 0.72
    assert found["masks_worn_iou"] > 0.82 and found["masks_worn_wide_iou"] > 0.72
    assert found["portraits_over_1_percent"] < 0.04
