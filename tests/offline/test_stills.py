"""Faces of single pictures: small ones, and more than a call has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from engines.base import Tensor, TensorSpec
from engines.contract import CROP_PX, TEMPLATE, Image
from engines.faces_maps import SURE as SURE_FACE
from engines.faces_maps import SURE_IF_TURNED, Detection, TwoPassDetector
from occlufix_vcam.core.frame import FaceTrack, Frame
from occlufix_vcam.offline.stills import DOUBTED, DOUBTED_PX, StillFinder, TiledDetector, _tiles, is_surely_covered


@pytest.mark.parametrize("size", [(6000, 4000), (4000, 6000), (2400, 2400), (1280, 720), (12000, 500)])
def test_tiles_cover_large_pictures_and_small_ones_need_none(size: tuple[int, int]) -> None:
    seen = np.zeros((size[1], size[0]), np.uint8)
    finest = 0.0
    for tile, to_image in _tiles(np.zeros((size[1], size[0], 3), np.uint8)):
        scale = to_image[0, 0]
        x, y = np.rint(to_image[:, 2] - scale / 2 + 0.5).astype(int)
        high, wide = np.rint(scale * np.array(tile.shape[:2])).astype(int)
        seen[max(0, y) : y + high + 1, max(0, x) : x + wide + 1] += 1
        finest = finest or scale * 640
    assert (seen.min() > 0) == (max(size) >= 2400) and (finest == 0 or 1200 <= finest < 2400)


def test_a_face_that_only_a_tile_shows_is_found_once_and_only_if_it_is_certain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spot = np.array([4321.0, 2345.0], np.float32)

    def search(self: object, image: Image, limit: int) -> list[Detection]:
        """Sees the white face in tiles that hold all of it, not in the whole; and a doubtful one in each of them."""
        rows, columns = np.nonzero(image[:, :, 0] > 128)
        finds = [Detection(0.5, np.array([0, 0, 40, 40], np.float32), TEMPLATE)]
        is_whole = len(rows) and rows.min() > 0 and columns.min() > 0 and rows.max() < 383 and columns.max() < 639
        if image.shape[1] == 640 and is_whole:
            middle = np.array([columns.mean(), rows.mean()], np.float32)
            half = max(np.ptp(columns) / 2, 1)
            finds.append(Detection(0.9, np.concatenate([middle - half, middle + half]), TEMPLATE))
        return finds

    monkeypatch.setattr(TwoPassDetector, "search", search)
    image = np.zeros((4000, 6000, 3), np.uint8)
    x, y = spot.astype(int)
    image[y - 50 : y + 50, x - 50 : x + 50] = 255
    finds = TiledDetector(lambda _: {}, lambda _: {}, lambda image, face: False).search(image, 64)
    sure = [find for find in finds if find.score > 0.8]
    assert len(sure) == 1 and np.abs(sure[0].box.reshape(2, 2).mean(axis=0) - spot).max() < 12
    assert [find.score for find in finds] == [pytest.approx(0.9), 0.5]


@pytest.mark.parametrize(
    ("certainty", "height", "covered", "sure"),
    [
        (DOUBTED + 0.01, DOUBTED_PX + 1, True, True),
        (DOUBTED + 0.01, DOUBTED_PX + 1, False, False),
        (DOUBTED + 0.01, DOUBTED_PX - 1, True, False),
        (DOUBTED - 0.01, DOUBTED_PX + 1, True, False),
        (SURE_FACE, DOUBTED_PX - 1, False, True),
    ],
)
def test_a_large_doubted_face_is_one_if_something_surely_covers_it(
    monkeypatch: pytest.MonkeyPatch, certainty: float, height: float, covered: bool, sure: bool
) -> None:
    monkeypatch.setattr(TiledDetector, "certainty", lambda self, image, candidate, face: certainty)
    detector = TiledDetector(lambda _: {}, lambda _: {}, lambda image, face: covered)
    face = Detection(0.5, np.array([0, 0, 40, height], np.float32), TEMPLATE)
    picture = np.zeros((8, 8, 3), np.uint8)
    assert detector.is_sure(picture, face, face, SURE_FACE) == sure
    assert detector.is_sure(picture, face, face, SURE_IF_TURNED) == (certainty >= SURE_IF_TURNED), (
        "not in turned pictures"
    )


@pytest.mark.parametrize(
    ("marked", "covered"),
    [
        ({"plain": (150, 230), "mirrored": (150, 230)}, True),
        ({"plain": (150, 230), "mirrored": (200, 230)}, False),
        ({"plain": (150, 156), "mirrored": (150, 156)}, False),
    ],
)
def test_a_face_is_surely_covered_if_the_network_marks_enough_and_the_same_mirrored(
    marked: dict[str, tuple[int, int]], covered: bool
) -> None:
    engine = LooksTwice([marked["plain"], marked["mirrored"]])
    face = Detection(0.5, np.array([0, 0, 256, 256], np.float32), TEMPLATE)
    assert is_surely_covered(engine, np.zeros((CROP_PX, CROP_PX, 3), np.uint8), face) == covered


class LooksTwice:
    """A network of the template that marks these rows of what it is shown, one pair for each look."""

    backend = device = precision = "fake"
    inputs = (TensorSpec("face", (1, CROP_PX, CROP_PX, 3), "uint8"),)
    outputs = passed_over = ()

    def __init__(self, rows: list[tuple[int, int]]) -> None:
        self._rows = iter(rows)

    def run(self, feeds: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        answer = np.zeros((1, CROP_PX, CROP_PX, 1), np.uint8)
        top, bottom = next(self._rows)
        answer[0, top:bottom, 60:196] = 255
        return {"hidden": answer}

    def close(self) -> None: ...


class SixFaces:
    def __call__(self, frame: Frame) -> Sequence[FaceTrack]:
        return [FaceTrack(n, TEMPLATE, 1.0) for n in range(6)]

    def reset(self) -> None:
        pass


def test_faces_beyond_the_wanted_number_are_counted() -> None:
    finder = StillFinder(SixFaces(), 4)
    assert len(finder(Frame(np.zeros((8, 8, 3), np.uint8), 0, 0.0))) == 4 and finder.left == 2
    finder.reset()
    assert finder.left == 0
