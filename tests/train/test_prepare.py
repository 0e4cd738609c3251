"""Preparing data: a drawn CelebA becomes shards that train, again and again; bad input is named."""

from __future__ import annotations

import errno
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import webdataset
from rich.console import Console

from engines.contract import CROP_PX, TEMPLATE, Image, similarity
from train import loop
from train.cli import said
from train.config import RECIPES
from train.data import prepare
from train.data.face_set import DataError, FaceSet, valid_mask
from train.data.importers import BrokenPicture, CelebA, PictureFolder, TemplateSet, align
from train.data.open_faces import open_faces
from train.data.prepare import Prepared, summary
from train.data.shards import FaceStream
from train.task import load_task

CONSOLE = Console(quiet=True)
#: Where CelebA's aligned pictures, 178x218, have eyes, nose and mouth.
CELEBA_POINTS = np.array([[69, 111], [108, 111], [88, 134], [72, 152], [105, 152]], np.float32)


def face(seed: int, size: tuple[int, int] = (178, 218), points: np.ndarray = CELEBA_POINTS) -> Image:
    """A blurred picture with a white spot at each landmark."""
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.integers(30, 160, (size[1], size[0], 3), dtype=np.uint8), (0, 0), 3)
    for x, y in np.round(points).astype(int):
        cv2.circle(image, (int(x), int(y)), 3, (255, 255, 255), -1)
    return image


def write_celeba(folder: Path, people: int = 6, each: int = 3) -> list[str]:
    """A CelebA as it is downloaded: four people to train with, one each to validate and to test with."""
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(1, people * each + 1)]
    splits = {name: {4: 1, 5: 2}.get(index % people, 0) for index, name in enumerate(names)}
    for index, name in enumerate(names):
        cv2.imwrite(str(folder / "img_align_celeba" / name), face(index))
    flat = " ".join(str(int(value)) for value in CELEBA_POINTS.reshape(-1))
    heading = (
        "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    )
    lists = {
        "list_eval_partition": [f"{name} {split}" for name, split in splits.items()],
        "list_landmarks_align_celeba": [str(len(names)), heading, *(f"{name}  {flat}" for name in names)],
        "identity_CelebA": [f"{name} {index % people + 1}" for index, name in enumerate(names)],
    }
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return names


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    write_celeba(tmp_path / "celeba")
    return tmp_path / "celeba"


def prepared(celeba: Path, out: Path, in_a_shard: int = 7) -> Prepared:
    return prepare.prepare(CelebA(celeba), out, CONSOLE, workers=2, in_a_shard=in_a_shard)


def test_celeba_keeps_its_split_its_people_and_their_landmarks(celeba: Path, tmp_path: Path) -> None:
    found = prepared(celeba, tmp_path / "out")
    assert found.faces == {"train": 12, "valid": 3, "eval": 3} and not found.skipped
    assert sorted(path.name for path in (tmp_path / "out/train").glob("*.tar")) == [
        "celeba-00000.tar",
        "celeba-00001.tar",
    ]
    faces = FaceSet(tmp_path / "out", "eval")
    assert {row.identity for row in faces.rows} == {"celeba6"} and len(faces.people["celeba6"]) == 3
    image, row = faces.image(0), faces.rows[0]
    assert np.allclose(row.landmarks, TEMPLATE, atol=6)
    for x, y in np.round(row.landmarks).astype(int):
        assert image[y, x].min() > 200, "the spots lie on the landmarks"
    assert 0.6 < (valid_mask(row) > 0).mean() <= 1


def test_what_is_there_is_not_made_again(celeba: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    prepared(celeba, out)
    whole = {path: path.read_bytes() for path in out.rglob("*.tar")}
    lost, cut, *_ = sorted(whole)
    lost.unlink()
    cut.write_bytes(whole[cut][:1000])
    asked: list[str] = []
    read = CelebA.faces
    monkeypatch.setattr(CelebA, "faces", lambda self, picture: (asked.append(picture.name), read(self, picture))[1])
    assert prepared(celeba, out).faces == {"train": 12, "valid": 3, "eval": 3}
    assert {path: path.read_bytes() for path in out.rglob("*.tar")} == whole
    assert len(asked) == 9, "six of one shard and three of the other"
    with pytest.raises(DataError, match="other pictures"):
        prepared(celeba, out, in_a_shard=5)


def test_a_full_disk_is_said_and_leaves_only_whole_shards(
    celeba: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, write, made = tmp_path / "out", webdataset.TarWriter.write, []

    def short(self: object, sample: dict[str, object]) -> int:
        made.append(sample)
        if len(made) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, sample)

    monkeypatch.setattr(webdataset.TarWriter, "write", short)
    with pytest.raises(DataError, match="disk is full"):
        prepared(celeba, out)
    assert [path.name for path in (out / "train").iterdir()] == ["celeba-00000.tar"]
    monkeypatch.undo()
    assert prepared(celeba, out).faces["train"] == 12


def test_broken_pictures_are_skipped_counted_and_named(celeba: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (celeba / "img_align_celeba").iterdir())
    (celeba / "img_align_celeba" / names[0]).write_bytes(b"no picture")
    (celeba / "img_align_celeba" / names[1]).write_bytes(b"")
    found = prepared(celeba, tmp_path / "out")
    assert set(found.skipped) == {names[0], names[1]} and found.faces["train"] == 10
    lines = "\n".join(summary(found, tmp_path / "out"))
    assert "2 pictures skipped" in lines and f"{names[0]}: it is no picture" in lines
    assert prepared(celeba, tmp_path / "out").skipped == found.skipped, "also where nothing had to be made"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "identity_CelebA.txt").unlink(), "no identity_CelebA.txt"),
        (lambda folder: shutil.rmtree(folder / "img_align_celeba"), "no img_align_celeba"),
        (lambda folder: next((folder / "img_align_celeba").iterdir()).unlink(), "17 of 18 pictures"),
        (lambda folder: (folder / "list_eval_partition.txt").write_text("000001.jpg x\n"), "line 1"),
        (lambda folder: (folder / "list_eval_partition.txt").write_text("000001.jpg 7\n"), "names a part 7"),
        (lambda folder: (folder / "identity_CelebA.txt").write_text("000001.jpg 1\n"), "know nothing of"),
        (lambda folder: (folder / "list_landmarks_align_celeba.txt").write_text(""), "names no pictures"),
    ],
)
def test_a_wrong_celeba_is_refused_in_a_line(celeba: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(celeba)
    with pytest.raises(DataError, match=said):
        CelebA(celeba)


def test_celeba_may_be_partial_if_asked_and_zipped(celeba: Path, tmp_path: Path) -> None:
    folder = celeba / "img_align_celeba"
    next(folder.iterdir()).unlink()
    assert len(CelebA(celeba, partial=True).pictures) == 17
    with zipfile.ZipFile(celeba / "img_align_celeba.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"img_align_celeba/{path.name}")
    shutil.rmtree(folder)
    zipped = CelebA(celeba, partial=True)
    assert len(zipped.pictures) == 17 and len(zipped.faces(zipped.pictures[0])) == 1
    (celeba / "img_align_celeba.zip").write_bytes(b"PK half a zip")
    with pytest.raises(DataError, match="no whole zip"):
        CelebA(celeba, partial=True)


def test_small_and_cut_off_faces_are_no_faces() -> None:
    small = (CELEBA_POINTS * 0.4).astype(np.float32)
    with pytest.raises(BrokenPicture, match="too small: 15 pixels"):
        align(face(0, (80, 90), small), small)
    with pytest.raises(BrokenPicture, match="outside"):
        align(face(0), (CELEBA_POINTS - np.array([110, 100])).astype(np.float32))
    with pytest.raises(BrokenPicture, match="no face"):
        align(face(0), np.full((5, 2), 9, np.float32))


def test_a_large_picture_is_shrunk_into_the_template_where_it_belongs() -> None:
    large = (CELEBA_POINTS * 12).astype(np.float32)
    image = np.zeros((218 * 12, 178 * 12, 3), np.uint8)
    for x, y in np.round(large).astype(int):
        cv2.circle(image, (int(x), int(y)), 40, (255, 255, 255), -1)
    crop, quad = align(image, large)
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    matrix = similarity(large)
    for x, y in large @ matrix[:, :2].T + matrix[:, 2]:
        left, top = round(float(x)) - 10, round(float(y)) - 10
        spot = cv2.moments(grey[top : top + 21, left : left + 21])
        assert spot["m10"] / spot["m00"] + left == pytest.approx(x, abs=0.1)
        assert spot["m01"] / spot["m00"] + top == pytest.approx(y, abs=0.1)
    assert quad.shape == (4, 2)


def test_the_stream_gives_every_face_with_its_person(celeba: Path, tmp_path: Path) -> None:
    prepared(celeba, tmp_path / "out")
    stream, rng = FaceStream(tmp_path / "out"), np.random.default_rng(0)
    drawn = [stream.draw(rng) for _ in range(80)]
    assert {one.row.file for one in drawn} == {row.file for row in FaceSet(tmp_path / "out", "train").rows}
    for one in drawn[:12]:
        assert one.image.shape == (CROP_PX, CROP_PX, 3)
        other = one.sibling(rng)
        assert other is not None
        assert other[0].identity == one.row.identity and other[0].file != one.row.file
    again = FaceStream(tmp_path / "out")
    rng = np.random.default_rng(0)
    assert [again.draw(rng).row.file for _ in range(20)] == [one.row.file for one in drawn[:20]]


def test_a_stream_and_a_set_show_the_same_shares_of_origins(tmp_path: Path, small_data: Path) -> None:
    data = tmp_path / "set"
    shutil.copytree(small_data, data)
    lines = [json.loads(line) for line in (data / "train/index.jsonl").read_text().splitlines()]
    for line, origin in zip(lines, ("utk", "utk", "other"), strict=True):
        line["origin"] = origin
    (data / "train/index.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    shutil.copytree(data / "train", data / "eval")
    prepare.prepare(TemplateSet(data), tmp_path / "out", CONSOLE)
    rng, shares = np.random.default_rng(1), []
    for faces in (FaceSet(data, "train"), FaceStream(tmp_path / "out")):
        shares.append(np.mean([faces.draw(rng).row.origin == "utk" for _ in range(500)]))
    assert shares[0] == pytest.approx(0.625, abs=0.07), "a quarter for utk, 15 hundredths for the rest"
    assert shares[1] == pytest.approx(shares[0], abs=0.1)
    encoded = {row.file: row for row in FaceSet(tmp_path / "out", "train").rows}
    assert np.array_equal(FaceSet(tmp_path / "out", "train").image(0), FaceSet(data, "train").image(0))
    assert np.array_equal(encoded["0.png"].valid_quad, FaceSet(data, "train").rows[0].valid_quad)


def test_damaged_shards_are_named(celeba: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match="python -m train data"):
        FaceStream(out)
    prepared(celeba, out)
    shard = out / "train/celeba-00000.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[:-2048])
    with pytest.raises(DataError, match=r"celeba-00000.tar is missing or damaged"):
        open_faces(out)
    shard.write_bytes(b"\xff" * len(content))
    stream, rng = FaceStream(out), np.random.default_rng(0)
    with pytest.raises(DataError, match=r"celeba-00000.tar is missing or damaged"):
        for _ in range(40):
            stream.draw(rng)
    (out / "prepared/celeba.json").write_text("{}")
    with pytest.raises(DataError, match=r"celeba.json can't be read"):
        FaceStream(out)


def test_each_worker_reads_shards_in_an_order_of_its_own(celeba: Path, tmp_path: Path) -> None:
    prepared(celeba, tmp_path / "out")
    stream = FaceStream(tmp_path / "out")
    stream.draw(np.random.default_rng(0))
    orders = []
    for worker in range(2):  # what a worker process gets is pickled, in the middle of reading too
        own, rng = pickle.loads(pickle.dumps(stream)), np.random.default_rng([1, worker])
        orders.append([own.draw(rng).row.file for _ in range(12)])
    assert orders[0] != orders[1]


def test_an_error_of_a_worker_is_told_in_its_own_words() -> None:
    wrapped = "Caught DataError in DataLoader worker process 0.\nOriginal Traceback ...\ntrain.data.DataError: no shard"
    assert said(DataError(wrapped)) == "no shard"
    assert said(DataError("one line\nand another")) == "one line\nand another"


def test_shards_train(celeba: Path, tmp_path: Path, data: Path) -> None:
    prepared(celeba, tmp_path / "out")
    (tmp_path / "out/weights").symlink_to(data / "weights")
    recipe = RECIPES["restore", "debug"].but(steps=2)
    step = loop.fit(load_task(recipe, tmp_path / "out"), recipe, tmp_path / "run", console=CONSOLE)
    assert step == 2 and (tmp_path / "run" / loop.CHECKPOINT).is_file()


def test_a_folder_of_pictures_is_searched_for_faces(tmp_path: Path) -> None:
    skimage = pytest.importorskip("skimage.data")
    astronaut = cv2.cvtColor(skimage.astronaut(), cv2.COLOR_RGB2BGR)
    for name in ("eileen/one.png", "eileen/two.jpg", "empty/wall.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(tmp_path / "in/eileen/one.png"), astronaut)
    cv2.imwrite(str(tmp_path / "in/eileen/two.jpg"), cv2.resize(astronaut, None, fx=0.9, fy=0.9))
    cv2.imwrite(str(tmp_path / "in/empty/wall.png"), np.full((200, 200, 3), 90, np.uint8))
    (tmp_path / "in/notes.txt").write_text("not a picture")
    source = PictureFolder(tmp_path / "in", people=True, held_out=0)
    found = prepare.prepare(source, tmp_path / "out", CONSOLE, workers=2)
    assert found.faces == {"train": 2} and found.skipped == {"empty/wall.png": "no face was found in it"}
    rows = FaceSet(tmp_path / "out", "train").rows
    assert [row.identity for row in rows] == ["in/eileen", "in/eileen"]
    assert all(np.abs(row.landmarks - TEMPLATE).max() < 12 for row in rows)
    with pytest.raises(DataError, match="no pictures in"):
        PictureFolder(tmp_path / "out" / "prepared")
    with pytest.raises(DataError, match="no folder"):
        PictureFolder(tmp_path / "nowhere")


def test_a_share_of_a_folder_is_held_out_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(60):
        (tmp_path / "in" / f"{number}.png").touch()
    one, two = (PictureFolder(tmp_path / "in", held_out=0.3).pictures for _ in range(2))
    assert one == two and 8 <= sum(picture.split == "eval" for picture in one) <= 28
