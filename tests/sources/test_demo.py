"""The demo: a face that moves, what passes in front of it, and the truth about both."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from occlufix_vcam.core.media.pictures import load_picture
from occlufix_vcam.sources import EndOfClip, SourceOptions
from occlufix_vcam.sources.demo.portrait import photograph_path
from occlufix_vcam.sources.demo.source import ACTS, ROUND_S, Demo

#: A moment within each act, and one between them.
HELD = {act.occluder: round((act.begin + act.end) / 2 * 30) for act in ACTS}
BARE = 15


@pytest.fixture(scope="module")
def demo() -> Demo:
    return Demo("demo", SourceOptions(realtime=False))


def test_a_frame_follows_from_its_number_alone(demo: Demo) -> None:
    again = Demo("demo", SourceOptions(realtime=False))
    for index in (BARE, *HELD.values()):
        assert np.array_equal(demo.render(index), again.render(index))
    assert np.array_equal(demo.render(BARE), demo.render(BARE + demo.round_frames))


def test_it_starts_again_without_a_jump(demo: Demo) -> None:
    def change(a: int, b: int) -> float:
        return float(np.abs(demo.render(a).astype(np.int16) - demo.render(b)).mean())

    end = demo.round_frames
    assert change(end - 1, end) < 1.5 * change(end, end + 1) + 0.1


def test_the_head_moves(demo: Demo) -> None:
    assert np.abs(demo.render(0).astype(np.int16) - demo.render(BARE)).mean() > 1


@pytest.mark.parametrize("occluder", HELD)
def test_the_truth_is_the_frame_without_what_hides_it(demo: Demo, occluder: str) -> None:
    index = HELD[occluder]
    shown, (clean, hidden) = demo.render(index), demo.truth(index)
    differs = (shown != clean).any(axis=2)
    assert set(np.unique(hidden)) == {0, 255}
    assert differs[hidden == 255].mean() > 0.99
    # Beside the occluder and its soft edge there is its shadow, which only darkens, and nothing else.
    near = cv2.dilate(hidden, np.ones((121, 121), np.uint8)) > 0
    assert not differs[~near].any()
    beside = cv2.dilate(hidden, np.ones((13, 13), np.uint8)) == 0
    beside[-13:] = False  # there the occluder may begin just below the picture
    assert (shown.astype(np.int16) - clean)[beside].max() <= 2


def test_nothing_is_hidden_between_the_acts(demo: Demo) -> None:
    clean, hidden = demo.truth(BARE)
    assert not hidden.any() and np.array_equal(clean, demo.render(BARE))


@pytest.mark.parametrize("occluder", HELD)
def test_each_prop_hides_the_mouth_in_turn(demo: Demo, occluder: str) -> None:
    hidden = demo.truth(HELD[occluder])[1]
    assert 0.02 < (hidden > 0).mean() < 0.25
    assert hidden[340:440, 480:660].mean() > 0.4 * 255


@pytest.mark.parametrize("size", [(640, 360), (640, 480), (480, 640), (1920, 1080), (333, 257)])
def test_other_sizes(size: tuple[int, int]) -> None:
    demo = Demo("demo", SourceOptions(width=size[0], height=size[1], realtime=False))
    frame, (clean, hidden) = demo.read(0), demo.truth(HELD["mask"])
    assert frame is not None and frame.image.shape == clean.shape == (size[1], size[0], 3)
    assert hidden.shape == (size[1], size[0]) and set(np.unique(hidden)) == {0, 255}


def test_it_ends_after_one_round_where_it_is_not_to_loop() -> None:
    demo = Demo("demo", SourceOptions(width=64, height=64, rate=2, loop=False, realtime=False))
    for _ in range(round(2 * ROUND_S)):
        assert demo.read(0) is not None
    with pytest.raises(EndOfClip):
        demo.read(0)


def test_its_photograph_ships_with_the_product_and_is_that_of_scikit_image() -> None:
    ours = load_picture(photograph_path())
    assert photograph_path().stat().st_size <= 60_000
    original = cv2.cvtColor(pytest.importorskip("skimage.data").astronaut(), cv2.COLOR_RGB2BGR)[: len(ours)]
    assert cv2.PSNR(ours, original) > 40


def test_a_face_finder_finds_the_face(demo: Demo, data: Path) -> None:
    finder = cv2.FaceDetectorYN.create(str(data / "weights/yunet_n_dynamic.onnx"), "", (1280, 720))
    for index in range(0, demo.round_frames, 30):
        faces = finder.detect(demo.truth(index)[0])[1]
        assert faces is not None and len(faces) == 1
        assert 200 < faces[0][3] < 340  # the height of the face in pixels
