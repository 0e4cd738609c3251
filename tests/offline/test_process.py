"""`process` on pictures, folders and videos, with engines that paint every hole in one colour."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

import engines
from engines.base import BufferedEngine, EngineOptions, TensorSpec
from engines.contract import CROP_PX, HIDDEN, TEMPLATE, Image
from engines.manifest import find_model
from occlufix_vcam.core.errors import CameraNotFound, ConfigError, DeviceError, SinkUnavailable
from occlufix_vcam.core.frame import Crop, FaceTrack, HiddenCrop
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.offline.process import ProcessReport, StageOverrides, process
from occlufix_vcam.offline.whose import ComparedReference
from occlufix_vcam.people.keys import KeyFile
from occlufix_vcam.people.person import EnrolledView, EnrollmentError, Person
from occlufix_vcam.people.store import PeopleStore
from occlufix_vcam.stages.embed import Embedding
from occlufix_vcam.stages.memory import FixedReference

PAINT = (10, 200, 90)
PICTURE, MASK = (1, CROP_PX, CROP_PX, 3), (1, CROP_PX, CROP_PX, 1)
INPUTS = {
    "restore": {"face": PICTURE, "mask": MASK, "reference": PICTURE, "reference_mask": MASK},
    "hidden": {"face": PICTURE},
    "embed": {"face": PICTURE, "mask": MASK},
}
OUTPUTS = {"restore": {"restored": PICTURE}, "hidden": {"hidden": MASK}, "embed": {"embedding": (1, 128)}}


class PaintingEngine(BufferedEngine):
    """Restores holes in PAINT; sees nothing hidden, and one person. Remembers the reference that it was fed last."""

    backend = "painting"
    references: list[NDArray[np.uint8]]

    def __init__(self, model: str, references: list[NDArray[np.uint8]]) -> None:
        super().__init__("none", "none", _specs(INPUTS[model]), _specs(OUTPUTS[model]))
        self.references = references

    def _execute(self) -> None:
        if "restored" in self._results:
            self._results["restored"][:] = np.where(self._feeds["mask"] > 0, np.uint8(PAINT), self._feeds["face"])
            self.references.append(self._feeds["reference"][0].copy())
        elif "embedding" in self._results:
            self._results["embedding"][:] = np.eye(1, 128)  # a vector of length 1: one and the same person

    def _release(self) -> None:
        pass


def _specs(shapes: Mapping[str, tuple[int, ...]]) -> list[TensorSpec]:
    return [TensorSpec(name, shape, "uint8") for name, shape in shapes.items()]


@pytest.fixture(autouse=True)
def references(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.uint8]]:
    """The references that the restorer was fed; all engines of this file's tests paint."""
    fed: list[NDArray[np.uint8]] = []

    def load(model: str, options: EngineOptions) -> PaintingEngine:
        return PaintingEngine(model, fed)

    monkeypatch.setattr(engines, "load", load)
    return fed


@pytest.fixture
def face() -> NDArray[np.uint8]:
    """Something in the place of a face, of many colours, none of them PAINT."""
    return np.random.default_rng(0).integers(100, 180, (CROP_PX, CROP_PX, 3), np.uint8)


@pytest.fixture
def mask() -> NDArray[np.uint8]:
    drawn = np.zeros((CROP_PX, CROP_PX), np.uint8)
    drawn[150:220, 80:180] = 255
    return drawn


def write(path: Path, pixels: NDArray[np.generic]) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


def read(path: Path) -> NDArray[np.generic]:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def run(source: Path, target: Path, mask: Path | None = None, **swaps: object) -> ProcessReport:
    swaps = {"aligned": True, **swaps}
    return process(source, target, StageOverrides(mask=mask, **swaps), Settings(), lambda done, of: None)  # type: ignore[arg-type]


def test_only_what_is_hidden_changes(tmp_path: Path, face: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    source, given = write(tmp_path / "in.png", face), write(tmp_path / "mask.png", mask)
    report = run(source, tmp_path / "out.png", given)
    restored = read(tmp_path / "out.png")
    np.testing.assert_array_equal(restored[mask == 0], face[mask == 0])
    assert (restored[mask > 0] != face[mask > 0]).any(axis=1).mean() > 0.9
    [one] = report.files
    assert (one.file, one.frames, one.faces, one.restored, one.error) == ("in.png", 1, 1, 1, None)
    assert 0.05 < one.coverage < 0.6 and one.ms > 0
    assert report.engine["restore"]["backend"] == "painting"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_a_picture_without_a_hidden_face_is_the_same_file(tmp_path: Path, face: NDArray[np.uint8], suffix: str) -> None:
    source = write(tmp_path / f"in{suffix}", face)
    assert run(source, tmp_path / f"out{suffix}").files[0].restored == 0
    assert (tmp_path / f"out{suffix}").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(lambda face: np.dstack([face, face[:, :, 0]]), id="alpha"),
        pytest.param(lambda face: face.astype(np.uint16) * 257 - 3, id="16 bits"),
        pytest.param(lambda face: np.dstack([face, face[:, :, 0]]).astype(np.uint16) * 257 - 3, id="16 bits, alpha"),
        pytest.param(lambda face: face[:, :, 0], id="grey"),
        pytest.param(lambda face: face[:, :, 0].astype(np.uint16) * 257 - 3, id="grey, 16 bits"),
    ],
)
def test_depth_alpha_and_grey_are_kept(tmp_path: Path, face: NDArray[np.uint8], mask: NDArray[np.uint8], kind) -> None:  # type: ignore[no-untyped-def]
    pixels = kind(face)
    given = write(tmp_path / "mask.png", mask)
    run(write(tmp_path / "in.png", pixels), tmp_path / "out.png", given)
    restored = read(tmp_path / "out.png")
    assert restored.dtype == pixels.dtype and restored.shape == pixels.shape
    np.testing.assert_array_equal(restored[mask == 0], pixels[mask == 0])
    assert (restored[mask > 0] != pixels[mask > 0]).any()
    if pixels.ndim == 3:
        np.testing.assert_array_equal(restored[:, :, 3:], pixels[:, :, 3:])


def test_a_folder_keeps_names_and_leaves_out_what_cannot_be_read(
    tmp_path: Path, face: NDArray[np.uint8], mask: NDArray[np.uint8]
) -> None:
    source, masks = tmp_path / "in", tmp_path / "masks"
    source.mkdir()
    masks.mkdir()
    for name in ("b 2.png", "a.jpg"):
        write(source / name, face)
        write(masks / f"{Path(name).stem}.png", mask)
    (source / "broken.png").write_bytes(b"no picture")
    (source / "notes.txt").write_text("not looked at")
    report = run(source, tmp_path / "out" / "deep", masks)
    assert sorted(path.name for path in (tmp_path / "out" / "deep").iterdir()) == ["a.jpg", "b 2.png"]
    assert {one.file: one.error is None for one in report.files} == {
        "a.jpg": True,
        "b 2.png": True,
        "broken.png": False,
    }
    report.save(tmp_path / "report.json")
    told = json.loads((tmp_path / "report.json").read_text())
    assert [one["restored"] for one in told["files"]] == [1, 1, 0]


def test_side_by_side_shows_before_and_after(tmp_path: Path, face: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    source, given = write(tmp_path / "in.png", face), write(tmp_path / "mask.png", mask)
    run(source, tmp_path / "out.png", given, side_by_side=True)
    both = read(tmp_path / "out.png")
    assert both.shape == (CROP_PX, 2 * CROP_PX, 3)
    np.testing.assert_array_equal(both[:, :CROP_PX], face)


def test_a_reference_reaches_the_restorer(
    tmp_path: Path, face: NDArray[np.uint8], mask: NDArray[np.uint8], references: list[NDArray[np.uint8]]
) -> None:
    source, given = write(tmp_path / "in.png", face), write(tmp_path / "mask.png", mask)
    own = write(tmp_path / "me.png", 255 - face)
    run(source, tmp_path / "out.png", given, reference=own)
    run(source, tmp_path / "out.png", given)
    inside = slice(64, 192), slice(64, 192)
    change = references[0][inside].astype(float) - (255 - face)[inside]
    assert change.std() < 6  # the very picture, but for the light, which is that of the face around the hole
    assert abs(references[0][inside].mean() - face[inside].mean()) < 6
    assert not references[1].any()


def test_a_video_keeps_size_rate_and_length(tmp_path: Path, face: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    film = cv2.VideoWriter(str(tmp_path / "in.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (CROP_PX, CROP_PX))
    for _ in range(7):
        film.write(face)
    film.release()
    report = run(tmp_path / "in.mp4", tmp_path / "out.mp4", write(tmp_path / "mask.png", mask))
    assert (report.files[0].frames, report.files[0].restored) == (7, 7)
    out = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert out.get(cv2.CAP_PROP_FPS) == 25
    pictures = []
    while (answer := out.read())[0]:
        pictures.append(answer[1])
    assert [picture.shape for picture in pictures] == [(CROP_PX, CROP_PX, 3)] * 7
    hole = pictures[3][170:200, 100:160].mean(axis=(0, 1))
    assert abs(hole - face[mask > 0].mean(axis=0)).max() > 10


def test_a_video_that_breaks_off_leaves_what_was_there(tmp_path: Path, face: NDArray[np.uint8]) -> None:
    film = cv2.VideoWriter(str(tmp_path / "in.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (CROP_PX, CROP_PX))
    for _ in range(4):
        film.write(face)
    film.release()
    (tmp_path / "out.mp4").write_bytes(b"an older film")

    def progress(done: int, of: int | None) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process(tmp_path / "in.mp4", tmp_path / "out.mp4", StageOverrides(aligned=True), Settings(), progress)
    assert (tmp_path / "out.mp4").read_bytes() == b"an older film"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_a_picture_that_is_no_crop_is_told_its_size(tmp_path: Path, face: NDArray[np.uint8]) -> None:
    source = write(tmp_path / "in.png", face[:200])
    with pytest.raises(ConfigError, match="256x256 pixels, this one has 256x200"):
        run(source, tmp_path / "out.png")


def test_a_mask_of_another_size_is_told_both(tmp_path: Path, face: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    source, given = write(tmp_path / "in.png", face), write(tmp_path / "mask.png", mask[:100])
    with pytest.raises(ConfigError, match=r"mask\.png is 256x100, the image in\.png is 256x256"):
        run(source, tmp_path / "out.png", given)


def test_wrong_places_are_clear_errors(tmp_path: Path, face: NDArray[np.uint8]) -> None:
    source = write(tmp_path / "in.png", face)
    with pytest.raises(CameraNotFound, match="there is no"):
        run(tmp_path / "gone.png", tmp_path / "out.png")
    with pytest.raises(ConfigError, match="the same"):
        run(source, source)
    with pytest.raises(ConfigError, match="the same"):
        run(source, tmp_path)
    with pytest.raises(ConfigError, match="not an image file name"):
        run(source, tmp_path / "out.xyz")
    with pytest.raises(SinkUnavailable, match="cannot be written"):
        run(source, tmp_path / "no folder" / "out.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CameraNotFound, match="no images"):
        run(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(DeviceError, match=r"broken\.png"):
        run(tmp_path / "broken.png", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


ADA, BOB = np.eye(2, 128, dtype=np.float32)  # every face of these tests is Ada's


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PeopleStore:
    monkeypatch.setenv("OCCLUFIX_FACES_DIR", str(tmp_path / "faces"))
    return PeopleStore(tmp_path / "faces", KeyFile(tmp_path / "faces" / "key"))


def enroll(store: PeopleStore, name: str, vector: Embedding, face: NDArray[np.uint8]) -> None:
    whole = np.full((CROP_PX, CROP_PX), HIDDEN, np.uint8)
    model = find_model("embed").files["fp32"].sha256
    store.save(Person(name, vector[None], [EnrolledView(face, whole, TEMPLATE)], model))


@pytest.mark.parametrize(
    ("person", "recognised", "remembered"),
    [(None, ["Ada"], True), ("none", [], False), ("Bob", ["Bob"], True)],
)
def test_one_picture_is_enough_to_recognise_or_to_be_told(
    tmp_path: Path,
    store: PeopleStore,
    face: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    references: list[NDArray[np.uint8]],
    person: str | None,
    recognised: list[str],
    remembered: bool,
) -> None:
    enroll(store, "Ada", ADA, face)
    enroll(store, "Bob", BOB, face)
    source, given = write(tmp_path / "in.png", face), write(tmp_path / "mask.png", mask)
    [report] = run(source, tmp_path / "out.png", given, person=person).files
    assert report.recognised == recognised and report.restored == 1
    used = bool(references and references[-1].any()) or not references  # what is wholly remembered is not painted
    assert used == remembered


def test_a_stranger_is_nobody_and_a_name_that_is_not_enrolled_an_error(
    tmp_path: Path,
    store: PeopleStore,
    face: NDArray[np.uint8],
    mask: NDArray[np.uint8],
) -> None:
    enroll(store, "Bob", BOB, face)
    source, given = write(tmp_path / "in.png", face), write(tmp_path / "mask.png", mask)
    assert run(source, tmp_path / "out.png", given).files[0].recognised == []
    with pytest.raises(EnrollmentError, match="Cleo"):
        run(source, tmp_path / "out.png", given, person="Cleo")


class Telling:
    """Says whose face the test shows."""

    model, same_person = "fake", 0.4

    def __init__(self, vector: Embedding) -> None:
        self.vector = vector

    def __call__(self, crop: Crop, mask: Image) -> Embedding:
        return self.vector


@pytest.mark.parametrize(("seen", "doubted"), [(ADA, False), (BOB, True)], ids=["the same", "another"])
def test_a_reference_of_another_person_is_doubted_once_for_each_input(
    face: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    seen: Embedding,
    doubted: bool,
) -> None:
    reference = ComparedReference(FixedReference(face, TEMPLATE), ADA, Telling(seen))
    crop = Crop.of_template(FaceTrack(1, TEMPLATE, 1.0), face, np.eye(2, 3, dtype=np.float32))
    reference(HiddenCrop.of_template(crop, mask, 0.3))
    assert ("another person" in reference.note()) == doubted
    assert reference.note() == ""


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "GIF"])
def test_every_image_of_an_animation_is_restored_in_its_time(
    tmp_path: Path, face: NDArray[np.uint8], mask: NDArray[np.uint8], kind: str
) -> None:
    suffix = f".{kind.lower()}"
    source, given = animation(tmp_path / f"in{suffix}", face, kind), write(tmp_path / "mask.png", mask)
    report = run(source, tmp_path / f"out{suffix}", given)
    assert (report.files[0].frames, report.files[0].restored) == (3, 3)
    with Pillow.open(source) as before, Pillow.open(tmp_path / f"out{suffix}") as after:
        assert (after.format, after.n_frames, after.info["loop"]) == (kind, 3, 2)
        for number in range(3):
            one, other = (_shown(picture, number) for picture in (before, after))
            assert before.info["duration"] == after.info["duration"] == 50 + 10 * number
            near = 0 if kind != "GIF" else 12  # of 256 colours
            assert np.abs(one[mask == 0] - other[mask == 0]).max() <= near
            assert np.abs(np.median(other[170:200, 100:160], axis=(0, 1)) - PAINT[::-1]).max() <= near


def _shown(picture: Pillow.Image, number: int) -> NDArray[np.int64]:
    picture.seek(number)
    picture.load()
    return np.asarray(picture.convert("RGB")).astype(int)


def animation(path: Path, face: NDArray[np.uint8], kind: str) -> Path:
    images = [Pillow.fromarray(face // 24 * 24 + 5 * number) for number in range(3)]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    images[0].save(path, kind, save_all=True, append_images=images[1:], duration=[50, 60, 70], loop=2, **lossless)
    return path


def test_an_animation_without_a_hidden_face_is_the_same_file_and_becomes_no_still(
    tmp_path: Path, face: NDArray[np.uint8]
) -> None:
    source = animation(tmp_path / "in.gif", face, "GIF")
    run(source, tmp_path / "out.gif")
    assert (tmp_path / "out.gif").read_bytes() == source.read_bytes()
    with pytest.raises(ConfigError, match="cannot store an animation"):
        run(source, tmp_path / "out.jpg")
    assert not (tmp_path / "out.jpg").exists()
