"""The shipped networks and the whole pipeline on the demo's face: every size of picture goes through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.contract import HIDDEN, Image
from occlufix_vcam.assembly import build_pipeline
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.telemetry import Telemetry
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.offline.process import StageOverrides, process
from occlufix_vcam.sources.opening import open_source
from occlufix_vcam.stages.hidden import GivenMask

#: Width and height; the face of the demo is about a third of the height.
SIZES = [(64, 64), (97, 65), (320, 240), (641, 481), (480, 853), (1280, 720), (1081, 1921), (3840, 2160)]


@pytest.fixture(scope="module")
def demo() -> Image:
    """1280x720, a face without anything before it."""
    with closing(open_source("demo", realtime=False)) as source:
        frame = source.read(10)
    assert frame is not None
    return frame.image


@pytest.fixture(scope="module")
def engines() -> Iterator[EngineSet]:
    with closing(EngineSet(Settings())) as engines:
        yield engines


def scaled(image: Image, size: tuple[int, int]) -> Image:
    """The middle of `image` in another shape, the face as large as it can be."""
    width, height = size
    cut = min(image.shape[1], image.shape[0] * width // height)
    left = (image.shape[1] - cut) // 2
    return cv2.resize(image[:, left : left + cut], size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_every_size_is_restored_inside_its_mask_and_nowhere_else(
    demo: Image, engines: EngineSet, size: tuple[int, int]
) -> None:
    image = scaled(demo, size)
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[image.shape[0] * 2 // 5 :] = HIDDEN
    pipeline = build_pipeline(Settings(), Telemetry(), engines, see_hidden=GivenMask(mask))
    restored, _ = pipeline(Frame(image, 0, 0.0))
    assert restored.image.shape == image.shape
    # Through the crop, and back, a mask's edge moves by up to a crop pixel and a half.
    known = slice(0, image.shape[0] * 2 // 5 - 2 - image.shape[0] // 80)
    np.testing.assert_array_equal(restored.image[known], image[known])
    if min(size) >= 240:
        assert pipeline.seen.faces >= 1 and pipeline.seen.restored >= 1
        assert (restored.image != image).any()


def test_a_given_mask_is_kept_to_exactly(demo: Image, tmp_path: Path) -> None:
    mask = np.zeros(demo.shape[:2], np.uint8)
    cv2.ellipse(mask, (565, 360), (90, 70), 10, 0, 360, HIDDEN, cv2.FILLED)
    assert cv2.imwrite(str(tmp_path / "in.png"), demo) and cv2.imwrite(str(tmp_path / "mask.png"), mask)
    swaps = StageOverrides(mask=tmp_path / "mask.png")
    process(tmp_path / "in.png", tmp_path / "out.png", swaps, Settings(), lambda done, of: None)
    restored = cv2.imread(str(tmp_path / "out.png"))
    np.testing.assert_array_equal(restored[mask == 0], demo[mask == 0])
    assert (restored[mask > 0] != demo[mask > 0]).any(axis=1).mean() > 0.8


def test_a_stream_that_changes_its_size_goes_on(demo: Image, engines: EngineSet) -> None:
    pipeline = build_pipeline(Settings(), Telemetry(), engines)
    for index, size in enumerate([(1280, 720), (641, 481), (64, 64), (1280, 720)]):
        frame = Frame(scaled(demo, size), index, index / 30)
        assert pipeline(frame)[0].image.shape == frame.image.shape
    assert pipeline.seen.faces >= 1


def test_pictures_of_a_folder_know_nothing_of_each_other(demo: Image, tmp_path: Path) -> None:
    """A covered face, an empty room and the bare face give what each gives alone."""
    covered = demo.copy()
    cv2.rectangle(covered, (480, 300), (660, 460), (205, 180, 150), cv2.FILLED)
    (tmp_path / "in").mkdir()
    pictures = {"1.png": covered, "2.png": np.full_like(demo, 120), "3.png": demo, "4.png": covered}
    for name, picture in pictures.items():
        assert cv2.imwrite(str(tmp_path / "in" / name), picture)
    report = process(tmp_path / "in", tmp_path / "out", StageOverrides(), Settings(), lambda done, of: None)
    first, empty, bare, again = report.files
    assert (empty.faces, empty.restored) == (0, 0) and bare.faces == 1
    assert (tmp_path / "out" / "2.png").read_bytes() == (tmp_path / "in" / "2.png").read_bytes()
    assert first.coverage == again.coverage
    assert (tmp_path / "out" / "1.png").read_bytes() == (tmp_path / "out" / "4.png").read_bytes()
