"""Scene memory shows what is behind a thing, in today's place and light, and says how far that can be trusted."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE, TEMPLATE_PART, WIDE_OFFSET, WIDE_PX, Image, similarity
from occlufix_vcam.core.frame import Crop, FaceTrack, Fill, Frame, HiddenCrop
from occlufix_vcam.stages.geometry import face_share
from occlufix_vcam.stages.scene.follow import followed
from occlufix_vcam.stages.scene.memory import MOST_VIEWS, SceneMemory

WIDTH, HEIGHT, RATE = 640, 480, 30.0
SCALE, PLACE = 0.6, (240.0, 120.0)
#: Part of the frame that the wide field shows of a still person.
FIELD = np.s_[90:330, 200:430]
#: Frames: the arm comes, is there, until the last one.
COMES, LAST = 26, 42


def texture(seed: int, coarse: int, size: tuple[int, int] = (WIDTH + 80, HEIGHT + 80)) -> Image:
    few = np.random.default_rng(seed).integers(90, 165, (size[1] // coarse, size[0] // coarse, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(few, size, interpolation=cv2.INTER_CUBIC), np.uint8)


ROOMS, SKIN = (texture(1, 40), texture(3, 30)), texture(2, 24)
ARM = texture(4, 40)[:HEIGHT, :WIDTH]


@dataclass
class Shot:
    """One frame of a film: what the room looks like, where the person is, and the arm."""

    truth: Image
    shift: float
    arm: Image

    def covered(self) -> Image:
        return np.where(self.arm[..., None] > 0, ARM, self.truth).astype(np.uint8)

    def hidden(self, person_scale: float = SCALE) -> HiddenCrop:
        landmarks = (TEMPLATE * person_scale + np.float32(PLACE) + np.float32((self.shift, 0))).astype(np.float32)
        to_crop = similarity(landmarks)
        to_wide = to_crop.copy()
        to_wide[:, 2] += WIDE_OFFSET
        mask = cv2.warpAffine(self.arm, to_wide, (WIDE_PX, WIDE_PX), flags=cv2.INTER_NEAREST)
        mask = np.asarray(cv2.dilate(mask, np.ones((7, 7), np.uint8)), np.uint8)
        part = np.ascontiguousarray(mask[TEMPLATE_PART])
        blank = np.zeros((CROP_PX, CROP_PX, 3), np.uint8)
        crop = Crop.of_template(FaceTrack(1, landmarks, 0.9), blank, to_crop)
        return HiddenCrop(crop, part, face_share(part), mask)


def arm_until(number: int) -> Image:
    """An arm from the lower edge over the face, from frame COMES on."""
    arm = np.zeros((HEIGHT, WIDTH), np.uint8)
    if number >= COMES:
        cv2.line(arm, (400, HEIGHT), (310 + 3 * ((number - COMES) % 5), 230), 255, 60)
    return arm


@functools.cache
def scene(room: int = 0, shift: float = 0.0, pan: int = 0) -> Image:
    """A person before a room; `shift` moves the person, `pan` the camera."""
    image = ROOMS[room][20 : 20 + HEIGHT, 20 + pan : 20 + pan + WIDTH].copy()
    person = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.ellipse(person, (317, 200), (60, 80), 0, 0, 360, 255, -1)
    cv2.ellipse(person, (317, 480), (150, 210), 0, 180, 360, 255, -1)
    move = np.float32([[1, 0, shift], [0, 1, 0]])
    person = cv2.warpAffine(person, move, (WIDTH, HEIGHT))
    body = cv2.warpAffine(SKIN, move, (WIDTH, HEIGHT))
    weight = cv2.GaussianBlur(person, (0, 0), 1)[..., None] / 255
    return np.round(image * (1 - weight) + body * weight).astype(np.uint8)


def still(number: int) -> Shot:
    return Shot(scene(), 0.0, arm_until(number))


def play(
    memory: SceneMemory, film: Callable[[int], Shot], frames: Sequence[int], people: Sequence[int] = (1,)
) -> Fill | None:
    """Runs the frames of a film; returns the fill of the last one."""
    fill = None
    for number in frames:
        shot = film(number)
        fill = memory(Frame(shot.covered(), number, number / RATE), [shot.hidden()], people)
    return fill


def error(fill: Fill, shot: Shot, least_trust: float = 0.5) -> tuple[float, float]:
    """Mean error where the arm is and the fill is trusted; the share of the arm in the wide field that this is."""
    x, y, width, height = fill.box
    part = np.s_[y : y + height, x : x + width]
    off = cv2.absdiff(fill.image, shot.truth[part]).mean(axis=2)
    arm = shot.arm[part] > 0
    trusted = arm & (fill.trust > least_trust * 255)
    return float(off[trusted].mean()), np.count_nonzero(trusted) / max(np.count_nonzero(shot.arm[FIELD]), 1)


def test_what_nothing_hides_needs_no_fill():
    assert play(SceneMemory(), still, range(COMES)) is None


def test_a_still_scene_is_filled_as_it_was():
    fill = play(SceneMemory(), still, range(LAST))
    assert fill is not None
    shot = still(LAST - 1)
    off, share = error(fill, shot)
    assert share > 0.95
    x, y, width, height = fill.box
    part = np.s_[y : y + height, x : x + width]
    difference = fill.image.astype(float) - shot.truth[part]
    square = np.square(difference[(shot.arm[part] > 0) & (fill.trust > 127)]).mean()
    assert 10 * np.log10(255**2 / max(square, 1e-9)) >= 35
    assert off < 2


def test_a_thing_is_followed_out_of_the_wide_field():
    fill = play(SceneMemory(), still, range(LAST))
    assert fill is not None and fill.thing is not None
    x, y, width, height = fill.box
    arm = still(LAST - 1).arm[y : y + height, x : x + width]
    below = np.s_[FIELD[0].stop + 10 - y : FIELD[0].stop + 60 - y]
    followed = fill.thing[below] > 127
    differs = cv2.absdiff(fill.image, still(LAST - 1).covered()[y : y + height, x : x + width]).max(axis=2)[below] > 20
    assert followed[differs & (arm[below] > 0)].mean() > 0.9
    assert not followed[cv2.dilate(arm, np.ones((21, 21), np.uint8))[below] == 0].any()


def test_a_thing_of_which_only_the_template_was_seen_is_followed_too():
    memory, fill = SceneMemory(), None
    for number in range(LAST):
        shot = still(number)
        whole = shot.hidden()
        part = HiddenCrop.of_template(whole.crop, whole.mask, whole.coverage)
        fill = memory(Frame(shot.covered(), number, number / RATE), [part], [1])
    assert fill is not None and fill.thing is not None
    x, y, width, height = fill.box
    below = np.s_[300 - y : 330 - y]
    arm = still(LAST - 1).arm[y : y + height, x : x + width][below] > 0
    differs = cv2.absdiff(fill.image, still(LAST - 1).covered()[y : y + height, x : x + width]).max(axis=2)[below] > 20
    assert (fill.thing[below][arm & differs] > 127).mean() > 0.8


def test_what_moves_beside_an_arm_is_not_taken_for_it():
    """An arm goes down to the lower edge; far wider than it, and touching it, the person's own arm has moved."""
    differs = np.zeros((72, 128), np.uint8)
    differs[30:, 60:68] = 255
    differs[50:, 20:60] = 255
    left_from = np.zeros_like(differs)
    left_from[30:32] = 255
    thing = followed(differs, left_from)
    assert (thing[30:, 61:67] == 255).mean() > 0.95
    assert not thing[:, :50].any()


def sways(number: int) -> Shot:
    shift = 10 * np.sin(number / 8)
    return Shot(scene(shift=shift), shift, arm_until(number))


def test_the_body_is_followed():
    fill = play(SceneMemory(), sways, range(LAST))
    assert fill is not None
    off, share = error(fill, sways(LAST - 1))
    assert off < 8 and share > 0.4
    stale = cv2.absdiff(sways(COMES - 16).truth, sways(LAST - 1).truth).mean(axis=2)
    assert off < 0.5 * stale[sways(LAST - 1).arm > 0].mean()


def darkens(number: int) -> Shot:
    gain = 1 - 0.4 * np.clip((number - COMES) / (LAST - COMES), 0, 1)
    return Shot(np.round(scene() * gain).astype(np.uint8), 0.0, arm_until(number))


def test_the_fill_has_the_light_of_today():
    fill = play(SceneMemory(), darkens, range(LAST))
    assert fill is not None
    off, share = error(fill, darkens(LAST - 1))
    assert off < 4 and share > 0.8


def cut(number: int) -> Shot:
    return still(number) if number < LAST - 1 else Shot(scene(1), 0.0, arm_until(number))


def pans(number: int) -> Shot:
    return Shot(scene(pan=max(0, 8 * (number - LAST + 3))), 0.0, arm_until(number))


@pytest.mark.parametrize("film", [cut, pans])
def test_a_cut_and_a_moving_camera_end_the_memory_at_once(film):
    memory = SceneMemory()
    assert play(memory, film, range(LAST - 2)) is not None
    fill = play(memory, film, range(LAST - 2, LAST))
    assert fill is None or not fill.trust.any()


def test_another_person_gets_nothing_of_the_last_one():
    memory = SceneMemory()
    play(memory, still, range(LAST))
    fill = play(memory, still, [LAST], people=(2,))
    assert fill is None or not fill.trust.any()


def test_a_pause_ends_the_memory():
    memory = SceneMemory()
    play(memory, still, range(LAST))
    shot = still(LAST)
    assert memory(Frame(shot.covered(), LAST, LAST / RATE + 5), [shot.hidden()], [1]) is None


def test_what_stood_there_from_the_first_frame_leaves_no_memory():
    fill = play(SceneMemory(), lambda number: still(COMES), range(LAST))
    assert fill is None or error_free(fill)


def error_free(fill: Fill) -> bool:
    """Whether nothing is trusted where the arm is."""
    x, y, width, height = fill.box
    return not fill.trust[still(COMES).arm[y : y + height, x : x + width] > 0].any()


def test_what_a_thing_covers_a_moment_later_is_not_learnt():
    """The arm is in the picture for a third of a second before it is noticed."""
    memory = SceneMemory()
    for number in range(LAST):
        shot = still(number)
        seen = shot if number >= COMES + 10 else Shot(shot.truth, 0.0, np.zeros_like(shot.arm))
        fill = memory(Frame(shot.covered(), number, number / RATE), [seen.hidden()], [1])
    assert fill is not None
    off, share = error(fill, still(LAST - 1))
    assert off < 8 and share > 0.9


def test_a_rim_that_the_segmenter_missed_is_part_of_the_fill_and_nothing_else():
    """The arm is 10 px wider than its mask, as with a shadow beside it."""
    memory = SceneMemory()
    for number in range(LAST):
        shot = still(number)
        seen = Shot(shot.truth, 0.0, np.asarray(cv2.erode(shot.arm, np.ones((21, 21), np.uint8)), np.uint8))
        fill = memory(Frame(shot.covered(), number, number / RATE), [seen.hidden()], [1])
    assert fill is not None and fill.rim is not None
    x, y, width, height = fill.box
    part = np.s_[y : y + height, x : x + width]
    below_face = np.zeros((HEIGHT, WIDTH), bool)
    below_face[280:330] = True
    missed = below_face & (shot.arm > 0) & (cv2.dilate(seen.arm, np.ones((15, 15), np.uint8)) == 0)
    beyond, unchanged = (cv2.dilate(shot.arm, np.ones((side, side), np.uint8)) == 0 for side in (9, 25))
    assert missed.sum() > 200 and (fill.rim[missed[part]] > 127).mean() > 0.85
    assert not fill.rim[unchanged[part]].any()
    off = cv2.absdiff(fill.image, np.ascontiguousarray(shot.truth[part])).max(axis=2)
    shown = off.astype(np.float32) * fill.rim / 255
    assert shown[beyond[part]].max() < 8, "beyond the arm's soft edge only what is nearly alike takes its place"


def test_the_memory_is_bounded():
    memory = SceneMemory()
    for number in range(150):
        shot = still(number)
        memory(Frame(shot.covered(), number, number / RATE), [shot.hidden()], [1])
        assert memory.image_bytes <= (MOST_VIEWS + 3) * WIDTH * HEIGHT * 3
    memory.forget()
    assert memory.image_bytes == 0


def test_a_thin_strap_is_hidden_too():
    """What is thinner than a block of the grid is neither learnt nor taken for the scene."""
    strap = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.line(strap, (300, 150), (360, 150), 255, 2)
    memory = SceneMemory()
    fill = play(memory, lambda number: Shot(scene(), 0.0, strap), range(LAST))
    assert fill is None or not fill.trust[strap[fill.box[1] :, fill.box[0] :][: fill.box[3], : fill.box[2]] > 0].any()
