"""A face that reaches out of the picture keeps its size and place, and is known again when it comes back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engines.contract import TEMPLATE, Image, Points
from engines.faces_maps import Detection, template_box
from occlufix_vcam.stages.presence.edge import EdgeFollower, lies_in, outside

HEIGHT, WIDTH = 300, 400


def scene(x: float) -> tuple[Image, Points]:
    """A textured head whose template begins at `x`, and its landmarks."""
    noise = np.random.default_rng(3).integers(30, 226, (32, 32, 3), dtype=np.uint8)
    head = cv2.resize(noise, (256, 256), interpolation=cv2.INTER_CUBIC)
    place = np.array([[1, 0, x], [0, 1, 20]], np.float32)
    image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    cv2.warpAffine(head, place, (WIDTH, HEIGHT), dst=image, borderMode=cv2.BORDER_TRANSPARENT)
    return image, TEMPLATE + np.float32((x, 20))


def find(landmarks: Points, score: float = 0.9) -> Detection:
    return Detection(score, template_box(landmarks), landmarks)


def squeezed(landmarks: Points) -> Detection:
    """What detectors make of a face that is cut off at the right edge."""
    points = landmarks.copy()
    low = points[:, 0].min()
    points[:, 0] = low + (points[:, 0] - low) * 0.5
    return find(points, 0.6)


def leaving(follower: EdgeFollower, stop: int) -> Detection | None:
    """Follows a head on its way out, 8 pixels a frame."""
    seen: Detection | None = None
    for n, x in enumerate(range(130, stop, 8)):
        image, landmarks = scene(x)
        given = find(landmarks) if outside(image, landmarks) <= 0.05 else squeezed(landmarks)
        seen = follower.follow(image, 1, given, n / 30)
    return seen


def test_a_face_far_from_the_edge_is_the_detectors():
    image, landmarks = scene(70)
    given = find(landmarks)
    assert EdgeFollower().follow(image, 1, given, 0.0) is given


@pytest.mark.parametrize("stop", [230, 290])
def test_a_face_that_goes_out_keeps_its_size_and_place(stop: int):
    seen = leaving(EdgeFollower(), stop)
    last = range(130, stop, 8)[-1]
    assert seen is not None and np.abs(seen.landmarks - scene(last)[1]).max() < 2
    assert outside(scene(last)[0], scene(last)[1]) > 0.1


def test_a_face_that_stays_half_outside_does_not_drift():
    follower = EdgeFollower()
    leaving(follower, 270)
    image, landmarks = scene(range(130, 270, 8)[-1])
    for n in range(60):
        seen = follower.follow(image, 1, squeezed(landmarks) if n % 3 else None, 1 + n / 30)
        assert seen is not None and np.abs(seen.landmarks - landmarks).max() < 2


def test_what_has_left_the_picture_is_gone_and_known_again_when_it_comes_back():
    follower = EdgeFollower()
    leaving(follower, 290)
    empty = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    assert follower.follow(empty, 1, None, 1.0) is None
    image, landmarks = scene(260)
    back = follower.returned(image, squeezed(landmarks), 2.0, present=set())
    assert back is not None and back[0] == 1 and np.abs(back[1].landmarks - landmarks).max() < 2
    assert follower.returned(image, squeezed(landmarks), 60.0, present=set()) is None


def test_another_face_at_the_edge_is_not_taken_for_the_one_that_left():
    follower = EdgeFollower()
    leaving(follower, 290)
    image, landmarks = scene(260)
    other = cv2.flip(image, 0)
    assert follower.returned(other, squeezed(landmarks), 2.0, present=set()) is None


def test_a_new_face_is_let_in_only_where_its_landmarks_can_be_right():
    image, landmarks = scene(70)
    assert lies_in(image, find(landmarks))
    image, landmarks = scene(240)
    assert not lies_in(image, find(landmarks))  # half outside
    rim = landmarks - landmarks.min(axis=0)
    assert not lies_in(image, find((rim * 0.5 + (1, 80)).astype(np.float32)))  # squeezed into the picture
