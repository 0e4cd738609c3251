"""A thing that reaches beyond what is restored is never cut off along a line: it fades, stays wholly, or is painted."""

from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE, TEMPLATE_PART, WIDE_PX, Image
from occlufix_vcam.core.frame import Fill, Patch
from occlufix_vcam.stages.compositing.beyond import (
    CELL_PX,
    CELLS,
    DWELL_S,
    FADE_PX,
    Beyond,
    Reach,
    continued,
    painted_wide,
)
from occlufix_vcam.stages.compositing.blend import Blender
from tests.stages.test_align import crop_of

SHIFT = (300, 200)


def arm(bottom: int = WIDE_PX) -> Image:
    mask = np.zeros((WIDE_PX, WIDE_PX), np.uint8)
    mask[220:bottom, 180:240] = 255
    return mask


def patch(mask: Image, frame: Image | None = None, exact: bool = False) -> Patch:
    """A face at the template's own scale, grey behind a mask that is to become black."""
    image = np.full((720, 1280, 3), 150, np.uint8) if frame is None else frame
    crop = crop_of(image, TEMPLATE + np.float32(SHIFT))
    return Patch(crop, np.ascontiguousarray(mask[TEMPLATE_PART]), np.zeros_like(crop.image), mask, exact)


def test_a_thing_inside_the_template_is_replaced_wholly():
    assert Reach()(patch(arm(bottom=280)), None, 0.0) is None


def test_beyond_the_template_it_fades_over_a_third_of_a_face_without_a_line():
    reach = Reach("fade")(patch(arm()), None, 0.0)
    assert reach is not None
    middle = 250 // CELL_PX
    down = reach[middle:, 210 // CELL_PX].astype(int)
    edge = TEMPLATE_PART[0].stop // CELL_PX - middle
    assert (down[: edge - 5] == 255).all()
    assert not down[edge + FADE_PX // CELL_PX + 2 :].any()
    assert (np.diff(down[edge - 5 :]) <= 0).all() and np.abs(np.diff(down)).max() < 40


def test_a_thing_that_ends_nearby_goes_to_its_end_and_does_not_jump_as_it_grows():
    """The lower end of a mask would stay as a triangle below the chin."""
    reach = Reach("fade")(patch(arm(bottom=370)), None, 0.0)
    assert reach is not None and (reach[60 : 370 // CELL_PX, 210 // CELL_PX] == 255).all()
    weights = [Reach("fade")(patch(arm(bottom)), None, 0.0) for bottom in range(360, WIDE_PX + 1, 2)]
    steps = [np.abs(one.astype(int) - other)[: 360 // CELL_PX].max() for one, other in itertools.pairwise(weights)]
    assert max(steps) < 128


def test_a_strap_beyond_the_template_is_painted_and_the_arm_beside_it_fades():
    mask = arm()
    mask[180:190, 20:300] = 255
    reach = Reach("fade")(patch(mask), None, 0.0)
    assert reach is not None
    strap = reach[185 // CELL_PX, 28 // CELL_PX : 60 // CELL_PX]
    assert (strap > 200).all()
    assert not reach[400 // CELL_PX, 210 // CELL_PX]


def test_what_the_scene_remembers_is_filled_and_does_not_fade():
    trust = np.full((720, 1280), 255, np.uint8)
    fill = Fill((0, 0, 1280, 720), np.full((720, 1280, 3), 90, np.uint8), trust, trust)
    reach = Reach("fade")(patch(arm()), fill, 0.0)
    assert reach is None or (reach == 255).all()
    frame = np.full((720, 1280, 3), 150, np.uint8)
    result = Blender()(frame, [patch(arm(), frame)], fill)
    x, y = SHIFT[0] + 210 - 80, SHIFT[1] + 350 - 56
    assert (result[y, x] == 90).all(), "beyond the template, the fill"
    assert (result[SHIFT[1] + 240 - 56, x] == 90).all(), "on the face too, because it is sure"


def test_a_thing_that_is_not_followed_out_of_the_wide_field_does_not_end_in_a_line():
    trust = np.full((720, 1280), 255, np.uint8)
    fill = Fill((0, 0, 1280, 720), np.full((720, 1280, 3), 90, np.uint8), trust)
    reach = Reach("fade")(patch(arm()), fill, 0.0)
    assert reach is not None
    down = reach[-30:, 210 // CELL_PX].astype(int)
    assert down[0] == 255 and down[-1] < 10 and np.abs(np.diff(down)).max() < 40


def test_on_the_face_a_fill_that_is_not_sure_yields_to_the_template():
    frame = np.full((720, 1280, 3), 150, np.uint8)
    half = np.full((720, 1280), 128, np.uint8)
    doubtful = Fill((0, 0, 1280, 720), np.full((720, 1280, 3), 90, np.uint8), half)
    result = Blender()(frame, [patch(arm(), frame)], doubtful)
    restored = Blender()(frame, [patch(arm(), frame)])
    y, x = SHIFT[1] + 240 - 56, SHIFT[0] + 210 - 80
    assert cv2.absdiff(result[y, x], restored[y, x]).max() <= 2


def test_on_the_face_a_remembered_view_is_shown_rather_than_the_scene():
    frame = np.full((720, 1280, 3), 150, np.uint8)
    fill = Fill((0, 0, 1280, 720), np.full((720, 1280, 3), 90, np.uint8), np.full((720, 1280), 255, np.uint8))
    seen = replace(patch(arm(), frame), remembered=np.full((CROP_PX, CROP_PX), 255, np.uint8))
    result, alone = Blender()(frame, [seen], fill), Blender()(frame, [seen])
    x, on_face, below = SHIFT[0] + 210 - 80, SHIFT[1] + 240 - 56, SHIFT[1] + 350 - 56
    assert (result[on_face, x] == alone[on_face, x]).all() and (result[below, x] == 90).all()


def test_leave_leaves_all_of_a_thing_that_reaches_beyond_and_restores_the_others():
    mask = arm()
    mask[150:200, 180:240] = 255
    reach = Reach("leave")(patch(mask), None, 0.0)
    assert reach is not None
    assert not reach[225 // CELL_PX : -1, 184 // CELL_PX : 236 // CELL_PX].any()
    assert (reach[150 // CELL_PX : 196 // CELL_PX, 180 // CELL_PX : 240 // CELL_PX] == 255).all()


def test_the_choice_to_leave_does_not_flicker():
    """An arm whose end moves around the limit is left, or restored, for a while at least."""
    reach = Reach("leave")
    ends = [360, 300, 360, 300, 360, 300]
    left = [is_left(reach(patch(arm(end)), None, n / 30)) for n, end in enumerate(ends)]
    assert len(set(left)) == 1
    assert is_left(reach(patch(arm()), None, 1.0)) and is_left(reach(patch(arm()), None, 1.0 + DWELL_S))
    reach.forget([1])
    assert not is_left(reach(patch(arm(290)), None, 3.0))


def is_left(weight: Image | None) -> bool:
    return weight is not None and not weight[240 // CELL_PX, 210 // CELL_PX]


def test_a_fill_of_half_an_arms_width_does_not_cut_it_lengthwise():
    trust = np.zeros((720, 1280), np.uint8)
    trust[:, : SHIFT[0] + 210 - 80] = 255
    fill = Fill((0, 0, 1280, 720), np.full((720, 1280, 3), 90, np.uint8), trust)
    reach = Reach("fade")(patch(arm()), fill, 0.0)
    assert reach is not None
    across = reach[372 // CELL_PX, 188 // CELL_PX : 232 // CELL_PX].astype(int)
    assert across.max() < 64 and np.ptp(across) < 40


def test_paint_goes_as_far_as_the_wide_field():
    reach = Reach("paint")(patch(arm()), None, 0.0)
    assert reach is not None and (reach[20:-8, 20:-8] == 255).all() and not reach[-1].max() > 60


@pytest.mark.parametrize("beyond", ["fade", "leave"])
def test_a_mask_from_the_user_counts_wherever_it_is(beyond: Beyond):
    reach = Reach(beyond)(patch(arm(), exact=True), None, 0.0)
    assert reach is not None and (reach[20:-8, 20:-8] == 255).all()


@pytest.mark.parametrize("beyond", ["fade", "paint"])
def test_no_line_at_the_templates_edge(beyond: Beyond):
    frame = cv2.merge([np.full((720, 1280), level, np.uint8) for level in (150, 150, 150)])
    mask = arm()
    frame[SHIFT[1] + 164 : SHIFT[1] + 360, SHIFT[0] + 100 : SHIFT[0] + 160] = 60
    crop = crop_of(frame, TEMPLATE + np.float32(SHIFT))
    restored = Patch(crop, np.ascontiguousarray(mask[TEMPLATE_PART]), np.full_like(crop.image, 150), mask)
    result = Blender(beyond)(frame, [restored])
    column = result[SHIFT[1] + 180 : SHIFT[1] + 355, SHIFT[0] + 130, 1].astype(int)
    assert np.abs(np.diff(column)).max() <= 9
    assert np.abs(column[:50] - 150).max() <= 6


def test_a_continuation_is_smooth_and_leaves_what_is_known():
    image = np.zeros((CELLS, CELLS, 3), np.uint8)
    image[:] = np.arange(CELLS, dtype=np.uint8)[None, :, None] * 2
    known = np.full((CELLS, CELLS), 255, np.uint8)
    known[30:70, 30:70] = 0
    filled = continued(np.where(known[..., None] > 0, image, 255), known).astype(int)
    assert np.array_equal(filled[known > 0], image[known > 0])
    assert np.abs(filled - image)[known == 0].mean() < 14
    assert np.abs(np.diff(filled, axis=1)).max() < 40


@pytest.mark.parametrize(("rows_below", "stays"), [(0, False), (200, True)])
def test_in_a_single_picture_an_arm_goes_as_far_as_the_picture_and_fades_where_that_goes_on(
    rows_below: int, stays: bool
):
    frame = np.full((SHIFT[1] + WIDE_PX - TEMPLATE_PART[0].start + rows_below, 1280, 3), 150, np.uint8)
    reach = Reach("fade", paints=True)(patch(arm(), frame), None, 0.0)
    down = np.full(CELLS, 255) if reach is None else reach[:, 210 // CELL_PX]
    assert (down[: (WIDE_PX - FADE_PX) // CELL_PX - 1] == 255).all()
    assert (down[-1] < 40) == stays


def test_in_a_single_picture_what_lies_beside_the_face_is_painted_in_pieces_of_its_surroundings():
    """A striped wall goes on behind an arm; where a thing is not, nothing changes."""
    rows = np.arange(720)[:, None] // 6 % 2 * 120 + 60
    wall = np.repeat(np.broadcast_to(rows, (720, 1280))[..., None], 3, axis=2).astype(np.uint8)
    mask = arm()
    crop = crop_of(wall, TEMPLATE + np.float32(SHIFT))
    hidden = crop.wide.copy()
    hidden[mask > 0] = (40, 80, 200)
    covered = replace(crop, wide=hidden)
    painted = painted_wide(Patch(covered, np.ascontiguousarray(mask[TEMPLATE_PART]), crop.image, mask), crop.image)
    assert (painted == hidden)[mask == 0].all()
    off = np.abs(painted.astype(int) - crop.wide)[mask > 0]
    assert off.mean() < 12
    assert (
        painted == painted_wide(Patch(covered, np.ascontiguousarray(mask[TEMPLATE_PART]), crop.image, mask), crop.image)
    ).all()


def test_the_end_of_a_mask_below_the_chin_is_continued_in_the_skin_and_not_in_patches_of_the_wall():
    """What is beside the chin is nearer than the neck below it."""
    frame = np.full((720, 1280, 3), (200, 60, 20), np.uint8)
    skin = (120, 150, 210)
    crop = crop_of(frame, TEMPLATE + np.float32(SHIFT))
    top, left = TEMPLATE_PART[0].start, TEMPLATE_PART[1].start
    wide = crop.wide.copy()
    wide[top + 20 :, left + 60 : left + 196] = skin
    mask = np.zeros((WIDE_PX, WIDE_PX), np.uint8)
    mask[top + 130 : top + 285, left + 60 : left + 196] = 255
    restored = np.full_like(crop.image, skin)
    template = np.ascontiguousarray(mask[TEMPLATE_PART])
    painted = painted_wide(Patch(replace(crop, wide=wide), template, restored, mask), restored)
    below = painted[top + 262 : top + 280, left + 90 : left + 166].astype(int)
    assert np.abs(below - skin).max() < 40
