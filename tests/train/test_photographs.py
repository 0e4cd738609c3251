"""Photographs with masks by eye: read into the wide field, shown as a live crop would, cut out, and measured with."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE, TEMPLATE_PART, WIDE_PX, Image
from tests.train.photographed import LANDMARKS, RED, WHOLE, photographed, thing_mask
from train.data.face_set import DataError
from train.data.photographs import Photograph, Photographs, PhotographSet
from train.data.shipped_segmenter import ShippedSegmenter
from train.evaluation.photographs import BAND_PX, photograph_figures, portrait_figures
from train.evaluation.product_photographs import product_figures
from train.occlusion.transplants import Transplants
from train.tasks.hidden_data import Hide, SegmentationSample, composite_view
from train.tasks.hidden_samples import SegmentationSamples
from train.tasks.live_view import live_view


def see_red(face: Image) -> Image:
    """What a perfect segmenter would say of the drawn photographs."""
    return cv2.inRange(face, (0, 0, 180), (80, 80, 255))


def test_both_sets_are_read_into_the_wide_field(photographed_data: Path) -> None:
    sets = Photographs(photographed_data, "train").sets
    assert {name: len(each) for name, each in sets.items()} == {"things": 2, "masks_worn": 1}
    for photographs in sets.values():
        photograph = photographs[0]
        assert photograph.image.shape == (WIDE_PX, WIDE_PX, 3)
        assert np.count_nonzero(see_red(photograph.image) != photograph.mask) < 0.01 * WIDE_PX**2
        assert set(np.unique(photograph.mask)) == {0, 255}
        assert photograph.valid[TEMPLATE_PART].all()


def test_what_was_never_photographed_does_not_count(photographed_data: Path) -> None:
    index = photographed_data / "things/things.jsonl"
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    lines[0]["valid_quad"] = [[0, 100], [WIDE_PX, 100], [WIDE_PX, WIDE_PX], [0, WIDE_PX]]
    index.write_text("\n".join(json.dumps(line) for line in lines))
    valid = PhotographSet(photographed_data, "things", "train")[0].valid
    assert not valid[:102].any() and valid[104:].all()


def test_a_folder_without_photographs_has_none(small_data: Path) -> None:
    assert not Photographs(small_data, "train")
    assert photograph_figures(see_red, small_data) == {}


def test_broken_photographs_are_said_by_name(photographed_data: Path) -> None:
    (photographed_data / "things/0.png").write_bytes(b"")
    cv2.imwrite(str(photographed_data / "things/1.png"), np.zeros((40, 40, 3), np.uint8))
    photographs = PhotographSet(photographed_data, "things", "train")
    with pytest.raises(DataError, match=r"0\.png is no picture that can be read"):
        photographs[0]
    with pytest.raises(DataError, match=r"1\.png is no 416x416 picture"):
        photographs[1]


def test_dark_skin_is_drawn_more_often_than_there_is_of_it(photographed_data: Path) -> None:
    photographs = PhotographSet(photographed_data, "things", "train")
    rng = np.random.default_rng(0)
    dark = [photographs.draw(rng) is photographs[1] for _ in range(400)]
    assert 0.6 < np.mean(dark) < 0.8


@pytest.mark.parametrize("size", [128, WIDE_PX])
def test_the_mask_follows_the_picture_however_it_is_bent(
    photographed_data: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for change in ("_dyed", "_tinted", "relight", "webcam"):
        monkeypatch.setattr(f"train.tasks.live_view.{change}", lambda image, *rest: image)
    photograph = PhotographSet(photographed_data, "things", "train")[0]
    shapes = []
    for seed in range(8):
        view = live_view(photograph, np.random.default_rng(seed), size)
        assert view.face.shape == (size, size, 3) and view.mask.shape == view.valid.shape == (size, size)
        assert np.count_nonzero(see_red(view.face) != view.mask) < 0.01 * size**2
        shapes.append(np.count_nonzero(view.mask) / size**2)
    assert np.std(shapes) > 0.005, "each view is another one"


def test_the_colours_of_the_thing_change_apart_from_the_face(
    photographed_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for change in ("relight", "webcam"):
        monkeypatch.setattr(f"train.tasks.live_view.{change}", lambda image, *rest: image)
    monkeypatch.setattr("train.tasks.live_view._DYED_CHANCE", 1.0)
    monkeypatch.setattr("train.tasks.live_view._TINTED_CHANCE", 0.0)
    photograph = PhotographSet(photographed_data, "things", "train")[0]
    view = live_view(photograph, np.random.default_rng(1), WIDE_PX)
    inside, outside = view.mask > 0, cv2.dilate(view.mask, np.ones((5, 5), np.uint8)) == 0
    assert np.abs(np.median(view.face[inside], axis=0) - RED).max() > 10
    assert np.abs(view.face[outside].mean(axis=0) - photograph.image[photograph.mask == 0].mean(axis=0)).max() < 8


def test_a_transplant_puts_the_thing_where_it_was_on_its_own_face(photographed_data: Path) -> None:
    hide = Transplants(Photographs(photographed_data, "train"))
    picture = np.full((CROP_PX, CROP_PX, 3), 150, np.uint8)
    expected = thing_mask()[TEMPLATE_PART]
    for seed in range(8):
        shown, mask = hide(picture, TEMPLATE, np.random.default_rng(seed))
        overlap = [np.count_nonzero(mask & each) for each in (expected, expected[:, ::-1])]
        assert max(overlap) > 0.85 * np.count_nonzero(expected), "as it was, or mirrored"
        far = cv2.dilate(mask, np.ones((13, 13), np.uint8)) == 0
        assert (shown[far] <= picture[far]).all(), "only a shadow may fall beside it"
        inside = cv2.erode(mask, np.ones((9, 9), np.uint8)) > 0
        red = shown[inside].mean(axis=0)
        assert red[2] > 1.5 * red[:2].max(), "the face that was behind does not come along"


def test_a_photograph_with_nothing_before_the_face_is_not_cut_out() -> None:
    plain = Photograph(photographed(0), thing_mask() * 0, thing_mask() * 0 + 255, np.array(LANDMARKS, np.float32))
    hiding = Photograph(photographed(0), thing_mask(), plain.valid, plain.landmarks)

    class Drawn:
        def __init__(self) -> None:
            self.left = [plain, plain, hiding]

        def draw(self, rng: np.random.Generator) -> Photograph:
            return self.left.pop(0)

    _, mask = Transplants(Drawn())(  # type: ignore[arg-type]
        np.full((CROP_PX, CROP_PX, 3), 150, np.uint8), TEMPLATE, np.random.default_rng(0)
    )
    assert mask.any()


def test_samples_are_photographs_transplants_and_composites(
    photographed_data: Path, small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(ShippedSegmenter, "is_bare", lambda *given: True)
    samples = SegmentationSamples(photographed_data)
    view, composite, transplants = live_view, composite_view, samples._transplants
    monkeypatch.setattr("train.tasks.hidden_samples.live_view", lambda *given: made.append("real") or view(*given))

    def made_up(portrait: Photograph, rng: np.random.Generator, size: int, hide: Hide) -> SegmentationSample:
        made.append("transplant" if hide is transplants else "composite")
        return composite(portrait, rng, size, hide)

    monkeypatch.setattr("train.tasks.hidden_samples.composite_view", made_up)
    for seed in range(60):
        example = samples.random(np.random.default_rng(seed), 64)
        assert example.face.shape == (64, 64, 3) and example.mask.shape == (64, 64)
    assert 20 <= made.count("real") <= 40
    assert min(made.count("transplant"), made.count("composite")) >= 3
    assert SegmentationSamples(small_data).random(np.random.default_rng(0), 64).face.shape == (64, 64, 3)


def test_figures_of_a_segmenter_that_is_right(photographed_data: Path, tmp_path: Path) -> None:
    found = photograph_figures(see_red, photographed_data, tmp_path / "sheets")
    assert found["things_iou"] == found["things_iou_brown"] == pytest.approx(1.0, abs=0.01)
    assert found["masks_worn_iou"] == found["masks_worn_iou_light"] == pytest.approx(1.0, abs=0.01)
    assert found["masks_worn_iou_chin"] == pytest.approx(1.0, abs=0.01)
    assert found["things_wide_iou"] == found["masks_worn_wide_iou"] == pytest.approx(1.0, abs=0.01)
    assert found["things_below_half"] == found["masks_worn_below_half"] == 0
    assert found["things_bare_marked"] > 0.1, "the picture whose mask is empty shows a thing all the same"
    assert {path.name for path in (tmp_path / "sheets").iterdir()} == {"hidden_things.png", "hidden_masks_worn.png"}


def test_only_the_band_along_the_outline_is_forgiven(photographed_data: Path) -> None:
    def grown(pixels: int) -> dict[str, float]:
        kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
        return photograph_figures(lambda face: cv2.dilate(see_red(face), kernel), photographed_data)

    assert grown(BAND_PX // 2)["things_iou"] == pytest.approx(1.0, abs=0.01)
    assert grown(BAND_PX)["things_iou"] < 0.95
    nothing = photograph_figures(lambda face: face[..., 0] * 0, photographed_data)
    assert nothing["things_iou"] == 0 and nothing["things_below_half"] == 1 and nothing["things_bare_marked"] == 0


def test_what_reaches_beyond_the_template_counts_in_the_wide_figure_alone(photographed_data: Path) -> None:
    def see_inside(face: Image) -> Image:
        seen = np.zeros_like(face[..., 0])
        seen[TEMPLATE_PART] = see_red(face)[TEMPLATE_PART]
        return seen

    found = photograph_figures(see_inside, photographed_data)
    assert found["things_iou"] == pytest.approx(1.0, abs=0.01)
    assert found["things_wide_iou"] < 0.9 and found["things_wide_below_0.6"] == 0


def test_what_the_product_changes_is_measured_like_what_a_segmenter_marks(
    photographed_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def restore(given: Path, taken: Path, home: Path, report: Path) -> None:
        """Paints over red things but those of the first picture, whose face it leaves alone."""
        taken.mkdir()
        for path in given.iterdir():
            picture = cv2.imread(str(path))
            picture[(see_red(picture) > 0) & (path.name != "0000.png")] = (150, 120, 60)
            cv2.imwrite(str(taken / path.name), picture)
        names = sorted(path.name for path in given.iterdir())
        told = [{"file": name, "faces": 1, "left": {"turned": 1} if name == names[0] else {}} for name in names]
        report.write_text(json.dumps({"files": told}))

    monkeypatch.setattr("train.evaluation.product.restore", restore)
    found = product_figures(photographed_data, tmp_path)
    assert found["things_iou"] == 0 and found["things_left_turned"] == found["things_untouched"] == 1
    assert found["things_bare_marked"] > 0.1
    assert found["masks_worn_iou_chin"] == pytest.approx(1.0, abs=0.01)
    assert found["masks_worn_untouched"] == 1 and found["masks_worn_not_found"] == 0
    assert (tmp_path / "product_things.png").is_file()


def test_uncovered_portraits_that_are_marked_are_counted_and_shown(photographed_data: Path, tmp_path: Path) -> None:
    assert portrait_figures(see_red, photographed_data) == {}, "there are no wide portraits"
    folder = photographed_data / "wide"
    folder.mkdir()
    lines = []
    for number, picture in enumerate((photographed(1), photographed(2)[:, ::-1], photographed(3) // 2)):
        cv2.imwrite(str(folder / f"{number}.png"), picture)
        facts = {"file": f"{number}.png", "identity": None, "origin": "drawn"}
        lines.append(json.dumps({**facts, "landmarks": LANDMARKS, "valid_quad": WHOLE}))
    (folder / "eval.jsonl").write_text("\n".join(lines))
    found = portrait_figures(see_red, photographed_data, tmp_path / "sheets")
    assert found["portraits_over_1_percent"] == pytest.approx(2 / 3), "red is dark in the third"
    assert (tmp_path / "sheets" / "hidden_portraits_marked.png").is_file()


def test_a_thing_beside_the_face_is_not_marked(photographed_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShippedSegmenter, "is_bare", lambda *given: True)
    monkeypatch.setattr("train.tasks.hidden_samples.REAL_SHARE", 0.0)
    monkeypatch.setattr("train.tasks.hidden_samples.TRANSPLANTED_SHARE", 0.0)
    monkeypatch.setattr("train.tasks.hidden_samples.BESIDE_SHARE", 1.0)
    samples = SegmentationSamples(photographed_data)
    faces = [samples.random(np.random.default_rng(seed), WIDE_PX) for seed in range(12)]
    bare = [not sample.mask.any() for sample in faces]
    assert 4 <= sum(bare) < 12, "most are; what does reach before the face is marked"
