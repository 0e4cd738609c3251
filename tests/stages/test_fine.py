"""Memory keeps a large face's detail in the frame's own scale, and shows it where its view is shown."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX, Image
from occlufix_vcam.core.frame import Crop, Patch, in_wide
from occlufix_vcam.stages.compositing.blend import Blender
from occlufix_vcam.stages.fine import SCALES, fine_detail, moved
from tests.stages.test_align import crop_of, landmarks

HOLE = cv2.ellipse(np.zeros((CROP_PX, CROP_PX), np.uint8), (128, 185), (60, 40), 0, 0, 360, 255, cv2.FILLED)


def pores(seed: int = 0) -> Image:
    """Detail of one and two pixels on grey."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((720, 1280), np.float32), (0, 0), 0.9)
    return cv2.merge([np.clip(120 + noise * (12 / noise.std()), 0, 255).astype(np.uint8)] * 3)


def large_face(frame: Image) -> Crop:
    return crop_of(frame, landmarks(180, at=(640, 340), turn=0.1))


def test_a_face_no_larger_than_the_template_has_no_more_detail():
    assert fine_detail(crop_of(pores(), landmarks(76.8 * SCALES[0] - 2))) is None


@pytest.mark.parametrize(("eyes", "side"), [(150, 500), (230, 768), (290, 768)])
def test_detail_is_kept_at_the_frames_scale_up_to_three_times_the_templates(eyes, side):
    fine = fine_detail(crop_of(pores(), landmarks(eyes)))
    assert fine is not None and fine.luma.shape == pytest.approx((side, side), abs=2)


def test_remembered_detail_is_shown_without_being_squeezed_through_the_template():
    frame = pores()
    crop = large_face(frame)
    covered = frame.copy()
    inside = cv2.warpAffine(HOLE, crop.to_crop, (1280, 720), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) > 250
    covered[inside] = 60
    now = large_face(covered)
    fine = fine_detail(crop)
    assert fine is not None
    squeezed = Patch(now, HOLE, crop.image, in_wide(HOLE))
    shown = moved(fine, np.eye(2, 3, dtype=np.float32), np.full_like(HOLE, 255))
    remembered = Patch(now, HOLE, crop.image, in_wide(HOLE), fine=shown)
    deep = cv2.erode(inside.astype(np.uint8), np.ones((31, 31), np.uint8)) > 0
    errors = [np.abs(Blender()(covered, [patch]).astype(int) - frame)[deep].mean() for patch in (squeezed, remembered)]
    assert errors[1] < 0.7 * errors[0]
