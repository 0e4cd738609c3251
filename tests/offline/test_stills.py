"""Faces of single pictures: small ones, and more than a call has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from engines.contract import TEMPLATE, Image
from engines.faces_maps import Detection, TwoPassDetector
from occlufix_vcam.core.frame import FaceTrack, Frame
from occlufix_vcam.offline.stills import StillFinder, TiledDetector, _tiles


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
    finds = TiledDetector(lambda _: {}, lambda _: {}).search(image, 64)
    sure = [find for find in finds if find.score > 0.8]
    assert len(sure) == 1 and np.abs(sure[0].box.reshape(2, 2).mean(axis=0) - spot).max() < 12
    assert [find.score for find in finds] == [pytest.approx(0.9), 0.5]


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
