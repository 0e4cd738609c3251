"""From maps to faces: decoding, the letterbox and the close-up, on maps and pictures whose truth is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engines.contract import CLOSE_UP_SIZE, SEARCH_SIZE, TEMPLATE, Points, transform_points
from engines.faces_maps import (
    CLOSE_UP_SCALE,
    STRIDE,
    Detection,
    TwoPassDetector,
    close_up,
    decode,
    letterbox,
    overlap,
    template_box,
)


def maps_of(faces: list[tuple[float, Points]], size: tuple[int, int] = SEARCH_SIZE) -> dict[str, np.ndarray]:
    """The maps of a network that is sure: each face (score, landmarks) in the cell of its middle and those around."""
    rows, columns = size[0] // STRIDE, size[1] // STRIDE
    heat = np.zeros((1, rows, columns, 1), np.float32)
    boxes, landmarks = np.zeros((1, rows, columns, 4), np.float32), np.zeros((1, rows, columns, 10), np.float32)
    for score, points in faces:
        x, y = (points.mean(axis=0) / STRIDE).astype(int)
        for row in range(max(y - 1, 0), min(y + 2, rows)):
            for column in range(max(x - 1, 0), min(x + 2, columns)):
                middle = (np.array([column, row], np.float32) + 0.5) * STRIDE - 0.5
                heat[0, row, column] = score if (row, column) == (y, x) else score / 2
                boxes[0, row, column] = template_box(points) - np.tile(middle, 2)
                landmarks[0, row, column] = (points - middle).reshape(-1)
    return {"heat": heat, "boxes": boxes, "landmarks": landmarks}


def face_at(x: float, y: float, scale: float) -> Points:
    return ((TEMPLATE - TEMPLATE.mean(axis=0)) * scale + [x, y]).astype(np.float32)


def test_decode_gives_back_what_the_maps_say_best_first() -> None:
    faces = [(0.6, face_at(60, 70, 0.2)), (0.9, face_at(200, 100, 0.3))]
    finds = decode(maps_of(faces), threshold=0.3, limit=4)
    assert [round(find.score, 3) for find in finds] == [0.9, 0.6]
    for find, (_, points) in zip(finds, reversed(faces), strict=True):
        assert np.allclose(find.landmarks, points, atol=0.01)
        assert np.allclose(find.box, template_box(points), atol=0.01)


def test_decode_at_the_edge_of_the_map() -> None:
    points = face_at(3, 188, 0.2)
    (find,) = decode(maps_of([(0.8, points)]), threshold=0.3, limit=4)
    assert np.allclose(find.landmarks, points, atol=0.01)


def test_decode_keeps_to_threshold_and_limit() -> None:
    faces = [(0.5, face_at(x, 60, 0.15)) for x in (40, 120, 200, 280)]
    assert decode(maps_of(faces), threshold=0.6, limit=4) == []
    assert len(decode(maps_of(faces), threshold=0.3, limit=3)) == 3
    assert decode(maps_of([]), threshold=0.3, limit=4) == []


def test_two_peaks_on_one_face_are_one_face() -> None:
    near = [(0.9, face_at(100, 80, 0.5)), (0.7, face_at(124, 84, 0.5))]
    (find,) = decode(maps_of(near), threshold=0.3, limit=4)
    assert find.score == pytest.approx(0.9)


def test_overlap_of_boxes() -> None:
    box = np.array([0, 0, 10, 10], np.float32)
    assert overlap(box, box) == 1.0
    assert overlap(box, box + 20) == 0.0
    assert overlap(box, np.array([5, 0, 15, 10], np.float32)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("shape", [(64, 64), (720, 1280), (721, 1279), (1280, 720), (2160, 3840), (90, 700)])
def test_letterbox_shows_all_and_knows_the_way_back(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 200, np.uint8)
    out = np.full((*SEARCH_SIZE, 3), 7, np.uint8)
    way_back = letterbox(image, out)
    assert set(np.unique(out)) <= {0, 200}  # nothing of the picture before is left
    rows, columns = np.nonzero(out[..., 0])
    corners = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]], np.float32) - 0.5
    found = transform_points(corners, way_back)
    assert np.allclose(found + 0.5, [[0, 0], [shape[1], shape[0]]], atol=0.01)


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.7, 6.0])
def test_close_up_puts_the_face_where_the_contract_says(scale: float) -> None:
    image = np.zeros((1800, 2000, 3), np.uint8)
    points = transform_points(face_at(0, 0, scale), np.array([[0.96, -0.28, 1000], [0.28, 0.96, 900]], np.float32))
    for x, y in points:
        cv2.circle(image, (round(float(x) * 16), round(float(y) * 16)), round(scale * 90), (255,) * 3, -1, shift=4)
    out = np.full((*CLOSE_UP_SIZE, 3), 7, np.uint8)
    way_back = close_up(image, points, out)
    expected = (TEMPLATE - 128) * CLOSE_UP_SCALE + CLOSE_UP_SIZE[0] / 2
    assert np.allclose(transform_points(expected, way_back), points, atol=0.01 * scale + 0.01)
    _, _, _, middles = cv2.connectedComponentsWithStats((out[..., 0] > 100).astype(np.uint8))
    assert len(middles) == 6
    for point in expected:
        assert np.hypot(*(middles[1:] - point).T).min() < 0.5


def test_close_up_at_the_frame_s_edge_is_filled_with_black() -> None:
    out = np.full((*CLOSE_UP_SIZE, 3), 7, np.uint8)
    close_up(np.full((300, 300, 3), 255, np.uint8), face_at(0, 0, 0.5), out)
    assert out[0, 0].max() == 0 and out[-1, -1].min() == 255


def test_a_find_through_a_matrix_keeps_box_and_landmarks_together() -> None:
    points = face_at(100, 80, 0.3)
    find = Detection(0.9, template_box(points), points)
    moved = find.through(np.array([[2, 0, 10], [0, 2, -5]], np.float32))
    assert np.allclose(moved.landmarks, points * 2 + [10, -5])
    assert np.allclose(moved.box, template_box(moved.landmarks), atol=0.01)


def test_landmarks_that_are_no_face_are_looked_at_in_vain() -> None:
    def never(_: np.ndarray) -> dict[str, np.ndarray]:
        raise AssertionError("there is nothing to run on")

    reader, image = TwoPassDetector(never, never), np.zeros((90, 90, 3), np.uint8)
    for value in (1, np.nan):
        assert reader.look(image, np.full((5, 2), value, np.float32)) is None


def networks(search: float, close_ups: list[float]) -> TwoPassDetector:
    """Find one face in the middle: with one score in the search, then one score after the other in close-ups."""
    middle = (TEMPLATE - TEMPLATE.mean(axis=0)) * CLOSE_UP_SCALE + CLOSE_UP_SIZE[0] / 2
    scores = iter(close_ups)
    return TwoPassDetector(
        lambda _: maps_of([(search, face_at(160, 96, 0.3))]),
        lambda _: maps_of([(next(scores), middle)], CLOSE_UP_SIZE),
    )


#: Close-ups of a find: coarse, exact, half turns about its middle and its eyes; larger, tilted, upside down.
FACE, LOOKALIKE, ON_ITS_HEAD = (
    [0.9, 0.9, 0.2, 0.2, 0.85, 0.9, 0.2],
    [0.7, 0.7, 0.65, 0.6, 0.5, 0.45, 0.65],
    [0.7, 0.7, 0.2, 0.9, 0.9, 0.9, 0.2],
)


@pytest.mark.parametrize(("scores", "sure"), [(FACE, True), (LOOKALIKE, False)], ids=["face", "lookalike"])
def test_what_looks_like_a_face_in_one_way_only_is_not_sure(scores: list[float], sure: bool) -> None:
    (find,) = networks(0.8, scores).find(np.zeros((360, 600, 3), np.uint8), 4)
    assert find.sure is sure and find.score == pytest.approx(scores[1])


def test_a_face_on_its_head_has_its_eyes_below_its_mouth() -> None:
    (find,) = networks(0.8, ON_ITS_HEAD).find(np.zeros((360, 600, 3), np.uint8), 4)
    assert find.sure and find.landmarks[:2, 1].min() > find.landmarks[3:, 1].max()
    (upright,) = networks(0.8, FACE).find(np.zeros((360, 600, 3), np.uint8), 4)
    assert upright.landmarks[:2, 1].max() < upright.landmarks[3:, 1].min()


def test_faces_that_lie_on_their_side_are_found_in_the_turned_picture() -> None:
    detector = networks(0.9, 3 * FACE)
    finds = detector.find_turned(np.zeros((360, 600, 3), np.uint8), 4)
    angles = sorted(
        round(float(np.degrees(np.arctan2(*np.diff(find.landmarks[:2], axis=0)[0, ::-1])))) for find in finds
    )
    assert all(angle % 90 == 0 for angle in angles) and -90 in angles and all(find.sure for find in finds)
