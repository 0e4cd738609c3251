"""The training of `embed`: it learns from its teacher, what is hidden has no effect, its figures mean what they say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from engines.contract import CROP_PX, TEMPLATE, TEMPLATE_PART, WIDE_OFFSET, WIDE_PX, Image
from engines.manifest import MODELS
from train.config import RECIPES
from train.data.face_set import DataError, FaceSet
from train.evaluation.embed import Pairs, cover, enrolled, pairs_by_cover, table, vectors_by_cover
from train.export.export import export_network
from train.occlusion.masks import medical_mask
from train.tasks.embed import INPUT_PX, EmbedExport, EmbedNet, EmbedTask, exported, metric
from train.tasks.embed_data import EmbedSamples, held_out_people, unit


def teacher(crops: Iterable[Image]) -> np.ndarray:
    """A vector from a face's colours in sixteen places."""
    small = [cv2.resize(crop, (4, 4), interpolation=cv2.INTER_AREA).reshape(-1) for crop in crops]
    return unit(np.pad(np.stack(small).astype(np.float32) - 128, ((0, 0), (0, 80))))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven people with two pictures each, one without a name."""
    data = tmp_path_factory.mktemp("people")
    (data / "train").mkdir()
    rng, lines = np.random.default_rng(0), []
    for number in range(23):
        if number % 2 == 0:
            face = rng.integers(30, 226, (6, 6, 3), dtype=np.uint8)
        picture = cv2.resize(face, (CROP_PX, CROP_PX), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(data / "train" / f"{number}.png"), picture)
        row = {"file": f"{number}.png", "origin": "drawn", "landmarks": TEMPLATE.tolist()}
        row |= {"identity": f"p{number // 2}" if number < 22 else None}
        lines.append(row | {"valid_quad": [[0, 0], [256, 0], [256, 256], [0, 256]]})
    (data / "train" / "index.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return data


@pytest.fixture
def task(people: Path, tmp_path: Path) -> EmbedTask:
    torch.manual_seed(0)
    return EmbedTask(RECIPES["embed", "debug"], people, teacher, tmp_path / "teacher.npz")


def test_a_debug_run_lowers_the_losses(task: EmbedTask) -> None:
    rng = np.random.default_rng(0)
    samples = [task.sample(rng) for _ in range(12)]
    batch = {name: torch.from_numpy(np.stack([s[name] for s in samples])) for name in samples[0]}
    assert batch["face"].shape == (12, 128, 128, 3) and batch["mask"].shape == (12, 128, 128)
    records = [task.train_step(batch, step / 12) for step in range(12)]
    assert records[-1]["distance"] < 0.7 * records[0]["distance"]
    assert records[-1]["metric"] < 0.8 * records[0]["metric"]


def test_held_out_people_teach_nothing(people: Path, tmp_path: Path) -> None:
    faces = FaceSet(people, "train")
    assert len(held_out_people(faces)) == 2
    lessons = EmbedSamples(people, teacher, tmp_path / "teacher.npz")
    assert len(lessons.people) == 11 - 2 + 1


def test_wide_pictures_teach_too_where_there_are_any(people: Path, tmp_path: Path) -> None:
    """Two pictures of one more person, drawn about as often as the recipe says."""
    data = tmp_path / "both"
    shutil.copytree(people, data)
    (data / "wide").mkdir()
    row = {"origin": "drawn", "identity": "w0", "landmarks": (TEMPLATE + WIDE_OFFSET).tolist()}
    row["valid_quad"] = [[0, 0], [416, 0], [416, 416], [0, 416]]
    for name, blue in (("a.png", 40), ("b.png", 60)):
        picture = np.full((WIDE_PX, WIDE_PX, 3), 128, np.uint8)
        picture[TEMPLATE_PART] = (blue, 200, 90)
        cv2.imwrite(str(data / "wide" / name), picture)
    rows = [json.dumps(row | {"file": name}) for name in ("a.png", "b.png")]
    (data / "wide" / "train.jsonl").write_text("\n".join(rows))
    lessons = EmbedSamples(data, teacher, tmp_path / "teacher.npz")
    assert len(lessons.people) == 11 - 2 + 1 + 1
    rng = np.random.default_rng(1)
    drawn = [lessons.random(rng, 128) for _ in range(60)]
    assert 5 < sum(lesson.person == 9 for lesson in drawn) < 40


def test_the_teacher_is_asked_once(people: Path, tmp_path: Path) -> None:
    asked = []

    def counted(crops: Iterable[Image]) -> np.ndarray:
        shown = list(crops)
        asked.append(len(shown))
        return teacher(shown)

    for _ in range(2):
        EmbedSamples(people, counted, tmp_path / "teacher.npz")
    assert asked == [19]


def test_a_lesson_shows_what_the_teacher_saw(people: Path, tmp_path: Path) -> None:
    lessons = EmbedSamples(people, teacher, tmp_path / "teacher.npz")
    rng = np.random.default_rng(3)
    cosines, hidden = [], 0
    for _ in range(40):
        lesson = lessons.random(rng, 128)
        (seen,) = teacher([cv2.resize(lesson.face, (CROP_PX, CROP_PX))])
        if not lesson.mask.any():
            cosines.append(float(seen @ lesson.vector))
        hidden += bool(lesson.mask.any())
        assert abs(float(np.linalg.norm(lesson.vector)) - 1) < 1e-5
    assert np.mean(cosines) > 0.15  # mirrored every other time, in another light; a stranger has about 0
    assert 12 < hidden < 32


def test_inputs_and_outputs_are_those_of_the_contract(task: EmbedTask) -> None:
    model_io = task.model_io(task.modules["network"])
    assert model_io.inputs == {"face": (1, 256, 256, 3), "mask": (1, 256, 256, 1)}
    assert model_io.outputs == {"embedding": (1, 128)}


def test_the_exported_network_comes_back_as_it_was(task: EmbedTask, tmp_path: Path) -> None:
    network = task.modules["network"]
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as training leaves them: none of it what it began with
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                torch.nn.init.uniform_(values, 0.5, 1.5)
    list(export_network(task, {"images": 0}, tmp_path, {}, licence="none", trained_on="nothing"))
    again = exported(tmp_path / "embed.fp32.onnx")
    face, hole = torch.rand(2, 3, INPUT_PX, INPUT_PX), (torch.rand(2, 1, INPUT_PX, INPUT_PX) > 0.5).float()
    with torch.no_grad():
        assert torch.allclose(again(face, hole), network.eval()(face, hole), atol=1e-4)
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_another_file_is_no_exported_network(tmp_path: Path) -> None:
    (tmp_path / "embed.fp32.onnx").write_bytes(b"no network")
    with pytest.raises(DataError, match="as `export embed` writes it"):
        exported(tmp_path / "embed.fp32.onnx")
    with pytest.raises(DataError, match="is no `embed` of this program"):
        exported(MODELS / "hidden.fp32.onnx")


def test_what_is_hidden_has_no_effect_and_what_is_seen_has() -> None:
    torch.manual_seed(0)
    model_io = EmbedExport(EmbedNet()).eval()
    face = torch.randint(0, 256, (1, 256, 256, 3), dtype=torch.uint8)
    mask = torch.zeros((1, 256, 256, 1), dtype=torch.uint8)
    mask[:, 141:] = 255  # an odd row: half of a pair of pixels is hidden
    other = face.clone()
    other[:, 141:] = 7
    with torch.no_grad():
        first, second = model_io(face, mask), model_io(other, mask)
        assert torch.allclose(first, second, atol=1e-6)
        assert abs(float(first.norm()) - 1) < 1e-5 and first.dtype == torch.float32
        assert not torch.allclose(first, model_io(face, torch.zeros_like(mask)), atol=1e-3)


def test_what_all_faces_have_in_common_does_not_count() -> None:
    """Two vectors that differ in a direction in which faces hardly vary are told apart as if it were any other."""
    torch.manual_seed(0)
    network = EmbedNet()
    common, spread = torch.randn(128), torch.cat((torch.full((8,), 0.1), torch.full((120,), 0.4)))
    seen = torch.nn.functional.normalize(common + torch.randn(20_000, 128) * spread, dim=1)
    for batch in seen.split(50):
        network.observe(batch)
    even = torch.nn.functional.normalize(EmbedExport(network).spread(seen), dim=1)
    assert (seen[:1000] @ seen[1000:2000].T).mean() > 0.5
    assert abs(float((even[:1000] @ even[1000:2000].T).mean())) < 0.05
    before, after = (float(each[:, :8].std(0).mean() / each[:, 8:].std(0).mean()) for each in (seen, even))
    assert before < 0.3 and after > 1.4 * before


def test_the_metric_wants_the_own_person_nearest_by_a_margin() -> None:
    people = torch.eye(3)
    person = torch.tensor([0, 1])
    right = metric(people[:2], people, person)
    wrong = metric(people[1:], people, person)
    assert right < 1e-4 < wrong


def test_figures_of_pairs() -> None:
    clear = Pairs(same=np.array([0.8, 0.9]), other=np.linspace(-0.5, 0.5, 1000))
    assert clear.accepted_at(0.001) == 1 and clear.equal_error() == 0
    chance = Pairs(same=np.linspace(0, 1, 1000), other=np.linspace(0, 1, 1000))
    assert chance.accepted_at(0.001) < 0.01 and abs(chance.equal_error() - 0.5) < 0.01


def test_pairs_are_of_two_different_pictures(people: Path) -> None:
    faces = FaceSet(people, "train")
    vectors, names = vectors_by_cover(lambda face, mask: teacher([face])[0], faces, ["p0", "p1", "p2"])
    pairs = pairs_by_cover(vectors, names)
    assert {name: len(found.same) for name, found in pairs.items()} == {"whole": 6, "mask": 6, "hand": 6}
    assert len(pairs["whole"].other) == 24
    np.testing.assert_allclose(pairs["whole"].same, 1, atol=1e-5)
    known = enrolled(vectors, names)
    assert len(known["mask"].same) == 3 and len(known["mask"].other) == 12
    found = table(vectors, names, known)
    assert found["threshold"] < 1 and found["enrolled_mask_accepted"] == 1 and found["enrolled_mask_strangers"] == 0


def test_what_hides_a_face_is_the_same_at_every_call(people: Path) -> None:
    faces = FaceSet(people, "train")
    first, second = (cover(faces, 3, medical_mask) for _ in range(2))
    assert np.array_equal(first, second) and 0.1 < (first > 0).mean() < 0.6
    assert not cover(faces, 3, None).any()
