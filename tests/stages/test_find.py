"""Finding and following faces, through the contract of a finder.

In place of the network stands an engine that sees white rectangles on black as upright faces: all else is real,
the letterbox, the close-up, decoding, tracks and smoothing.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest

import engines
from engines.base import Tensor, TensorSpec
from engines.contract import TEMPLATE, Image, Points
from engines.errors import EngineUnavailable, ModelError, ModelMissing
from engines.faces_maps import STRIDE, TEMPLATE_BOX
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.frame import FaceTrack, Frame
from occlufix_vcam.stages import find
from occlufix_vcam.stages.find import FaceFinder, InsightFaceFinder, open_finder
from occlufix_vcam.stages.track import GRACE_S
from train.occlusion.scene_occluders import EYE_REGION, LOWER_FACE, Cover, CutOuts

BOX = TEMPLATE_BOX[2:] - TEMPLATE_BOX[:2]
RATE = 30
#: Frames for which a face that is not detected stays, and after which a search is due.
GRACE_FRAMES, SEARCH_EVERY = int(GRACE_S * RATE), math.ceil(find.SEARCH_EVERY_S * RATE)


class RectangleEngine:
    """Sees each white rectangle as a face."""

    backend, device, precision = "rectangles", "none", "none"
    inputs: Sequence[TensorSpec] = ()
    outputs: Sequence[TensorSpec] = ()

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.runs = 0

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        assert feeds["frame"].shape == self.shape and feeds["frame"].dtype == np.uint8
        self.runs += 1
        cells = self.shape[1] // STRIDE, self.shape[2] // STRIDE
        maps = {
            name: np.zeros((1, *cells, n), np.float32) for name, n in (("heat", 1), ("boxes", 4), ("landmarks", 10))
        }
        white = (feeds["frame"][0, :, :, 0] > 127).astype(np.uint8)
        _, _, parts, _ = cv2.connectedComponentsWithStats(white)
        for left, top, width, height, _ in parts[1:]:
            points = in_box(left - 0.5, top - 0.5, width, height)
            x, y = np.clip((points.mean(axis=0) / STRIDE).astype(int), 0, (cells[1] - 1, cells[0] - 1))
            middle = (np.array([x, y]) + 0.5) * STRIDE - 0.5
            maps["heat"][0, y, x] = 0.9
            maps["boxes"][0, y, x] = np.array([left, top, left + width, top + height]) - np.tile(middle, 2)
            maps["landmarks"][0, y, x] = (points - middle).reshape(-1)
        return maps

    def close(self) -> None: ...


def in_box(left: float, top: float, width: float, height: float) -> Points:
    """The template's landmarks in a box."""
    return ((TEMPLATE - TEMPLATE_BOX[:2]) / BOX * [width, height] + [left, top]).astype(np.float32)


class Stage:
    """A camera on white rectangles, and a finder that watches them at 30 frames a second."""

    def __init__(self, size: tuple[int, int] = (720, 1280), max_faces: int = 4) -> None:
        self.size = size
        self.engines: list[RectangleEngine] = []
        self.finder: FaceFinder = open_finder("own", self._load, max_faces)
        self._frames = 0

    def _load(self, model: str, input_shapes: Mapping[str, tuple[int, ...]]) -> RectangleEngine:
        assert model == "faces"
        self.engines.append(RectangleEngine(input_shapes["frame"]))
        return self.engines[-1]

    def show(self, *faces: tuple[float, float, float]) -> Sequence[FaceTrack]:
        """What is found where faces (x and y of the middle, height) are shown."""
        self._frames += 1
        return self.finder(Frame(self.picture(*faces), self._frames, self._frames / RATE))

    def picture(self, *faces: tuple[float, float, float]) -> Image:
        image = np.zeros((*self.size, 3), np.uint8)
        for x, y, height in faces:
            half = np.array([height * BOX[0] / BOX[1], height]) / 2
            low, high = (np.round([x, y] - half)).astype(int), (np.round([x, y] + half)).astype(int)
            image[max(low[1], 0) : high[1], max(low[0], 0) : high[0]] = 255
        return image


def truth(x: float, y: float, height: float) -> Points:
    width = height * BOX[0] / BOX[1]
    return in_box(x - width / 2, y - height / 2, width, height)


@pytest.mark.parametrize("size", [(64, 64), (480, 640), (721, 1279), (1280, 720), (2160, 3840)])
def test_finds_a_face_in_a_frame_of_any_size(size: tuple[int, int]) -> None:
    stage, face = Stage(size), (size[1] * 0.45, size[0] * 0.55, 0.4 * min(size))
    (track,) = stage.show(face)
    assert track.landmarks.shape == (5, 2) and track.landmarks.dtype == np.float32
    assert np.abs(track.landmarks - truth(*face)).max() < 0.04 * face[2]
    assert 0 < track.confidence <= 1


def test_nothing_there_is_no_face() -> None:
    assert list(Stage().show()) == []


def test_faces_keep_their_ids_and_come_largest_first() -> None:
    stage = Stage()
    first = stage.show((300, 300, 120), (900, 350, 240))
    assert [round(float(track.landmarks[2, 0])) > 600 for track in first] == [True, False]
    for step in range(1, 25):
        tracks = stage.show((300 + 6 * step, 300, 120), (900 - 5 * step, 350, 240))
        assert [track.track_id for track in tracks] == [track.track_id for track in first]


def test_a_newcomer_is_noticed_while_another_face_is_followed() -> None:
    stage = Stage()
    (first,) = stage.show((300, 300, 200))
    for _ in range(SEARCH_EVERY):
        tracks = stage.show((300, 300, 200), (900, 300, 150))
    assert len(tracks) == 2 and tracks[0].track_id == first.track_id


def test_following_a_face_searches_seldom() -> None:
    stage = Stage()
    for _ in range(1 + 2 * SEARCH_EVERY):
        stage.show((600, 300, 200))
    assert stage.engines[0].runs == 3


def test_a_face_that_jumps_is_found_in_the_same_frame() -> None:
    stage = Stage()
    (before,) = stage.show((400, 300, 200))
    (after,) = stage.show((520, 300, 200))
    assert after.track_id == before.track_id
    assert abs(float(after.landmarks[2, 0] - before.landmarks[2, 0]) - 120) < 25


def test_a_face_unseen_for_a_moment_stays_and_then_ends() -> None:
    stage = Stage()
    (before,) = stage.show((400, 300, 200))
    for _ in range(GRACE_FRAMES):
        (waiting,) = stage.show()
        assert waiting.track_id == before.track_id and not waiting.seen
        assert np.array_equal(waiting.landmarks, before.landmarks)
    (back,) = stage.show((405, 300, 200))
    assert back.track_id == before.track_id
    for _ in range(GRACE_FRAMES + 1):
        gone = stage.show()
    assert list(gone) == []
    (new,) = stage.show((400, 300, 200))
    assert new.track_id != before.track_id


def test_reset_forgets() -> None:
    stage = Stage()
    (before,) = stage.show((400, 300, 200))
    stage.finder.reset()
    (after,) = stage.show((410, 300, 200))
    assert after.track_id != before.track_id
    assert np.array_equal(after.landmarks, Stage().show((410, 300, 200))[0].landmarks)


def test_a_frame_of_another_size_starts_anew() -> None:
    stage = Stage((720, 1280))
    stage.show((1000, 600, 200))
    stage.size = (240, 320)
    (track,) = stage.show((100, 120, 100))
    assert np.abs(track.landmarks - truth(100, 120, 100)).max() < 5


def test_never_more_faces_than_asked_for_and_the_largest_stay() -> None:
    stage = Stage(max_faces=2)
    small = [(200.0, 200.0, 100.0), (500.0, 200.0, 110.0)]
    for _ in range(3):
        assert len(stage.show(*small)) == 2
    for _ in range(SEARCH_EVERY + 1):
        tracks = stage.show(*small, (900, 350, 300))
    assert len(tracks) == 2
    assert float(tracks[0].landmarks[2, 0]) > 800


def test_two_tracks_never_follow_one_face() -> None:
    stage = Stage()
    stage.show((400, 300, 200), (620, 300, 200))
    for _ in range(GRACE_FRAMES + 2):
        tracks = stage.show((510, 300, 200))
    assert len(tracks) == 1


def test_an_unknown_finder_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="unknown face detector `other`") as caught:
        open_finder("other", Stage()._load)
    assert "own" in caught.value.hint and "insightface" in caught.value.hint


def test_insightface_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "insightface.app", None)
    with pytest.raises(EngineUnavailable, match="InsightFace is not installed") as caught:
        open_finder("insightface", Stage()._load)
    assert "[insightface]" in caught.value.hint and "non-commercial" in caught.value.hint


@pytest.fixture
def insightface(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package of that name whose detector gives one face, eyes in the wrong order."""

    class FaceAnalysis:
        def __init__(self, name: str, root: str, allowed_modules: list[str]) -> None:
            assert name == "buffalo_s" and allowed_modules == ["detection"]

        def prepare(self, ctx_id: int, det_size: tuple[int, int]) -> None:
            pass

        def get(self, image: Image) -> list[SimpleNamespace]:
            points = truth(300, 200, 100)[[1, 0, 2, 4, 3]]
            return [SimpleNamespace(det_score=0.8, bbox=np.array([262, 150, 338, 250]), kps=points)]

    module = ModuleType("insightface.app")
    module.FaceAnalysis = FaceAnalysis  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "insightface", ModuleType("insightface"))
    monkeypatch.setitem(sys.modules, "insightface.app", module)
    return module


def test_insightface_without_a_pack_says_how_to_get_one(insightface: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="no InsightFace model pack") as caught:
        InsightFaceFinder(Stage()._load, home=tmp_path)
    assert "buffalo_l.zip" in caught.value.hint and "non-commercial" in caught.value.hint


def test_insightface_with_a_pack_follows_faces(insightface: ModuleType, tmp_path: Path) -> None:
    pack = tmp_path / "models" / "buffalo_s"
    pack.mkdir(parents=True)
    (pack / "det_500m.onnx").touch()
    finder = InsightFaceFinder(Stage()._load, home=tmp_path)
    image = np.zeros((400, 600, 3), np.uint8)
    (first,) = finder(Frame(image, 0, 0.0))
    (second,) = finder(Frame(image, 1, 0.03))
    assert first.track_id == second.track_id
    assert np.allclose(first.landmarks, truth(300, 200, 100))
    finder.reset()
    assert finder(Frame(image, 2, 0.06))[0].track_id != first.track_id


@pytest.fixture(scope="module")
def shipped() -> FaceFinder:
    """The finder on the model that ships."""
    try:
        return open_finder(
            "own",
            lambda model, shapes: engines.load(model, engines.EngineOptions(input_shapes=shapes, threads=2)),
        )
    except ModelError as error:
        pytest.skip(f"no `faces` model to test: {error}")


def test_every_tenth_frame_of_the_clips_shows_its_face(shipped: FaceFinder, data: Path) -> None:
    for path in sorted((data / "clips").glob("*.mp4")):
        shipped.reset()
        capture, ids, index = cv2.VideoCapture(str(path)), set(), 0
        while True:
            good, image = capture.read()
            if not good or index >= 120:
                break
            if index % 10 < 2:
                tracks = shipped(Frame(image, index, index / 30))
                assert tracks, f"no face in frame {index} of {path.name}"
                ids.add(tracks[0].track_id)
            index += 1
        capture.release()
        assert len(ids) == 1, f"{path.name} holds one person, not {len(ids)}"


@pytest.mark.parametrize("covers", [LOWER_FACE, EYE_REGION], ids=["lower face", "eye region"])
def test_a_face_that_something_hides_is_followed_all_the_same(
    shipped: FaceFinder, data: Path, covers: Sequence[Cover]
) -> None:
    cut_outs, capture = CutOuts(data, "eval"), cv2.VideoCapture(str(data / "clips/liveportrait_d3.mp4"))
    frames = [capture.read()[1] for _ in range(24)]
    capture.release()
    shipped.reset()
    bare = [shipped(Frame(image, n, n / 30))[0].landmarks for n, image in enumerate(frames)]
    shipped.reset()
    ids, errors = set(), []
    for n, (image, truth_) in enumerate(zip(frames, bare, strict=True)):
        cut_outs.cover(image, truth_, np.random.default_rng(n // 12), covers)
        (track,) = shipped(Frame(image, n, n / 30))
        ids.add(track.track_id)
        errors.append(np.hypot(*(track.landmarks - truth_).T).mean() / np.hypot(*(truth_[1] - truth_[0])))
    assert len(ids) == 1
    assert np.mean(errors) < 0.15
