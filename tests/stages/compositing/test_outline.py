"""The outline of a thing is met in the frame's own pixels, although the segmenter's mask is off."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engines.contract import TEMPLATE_PART, WIDE_PX, Image
from occlufix_vcam.core.frame import Patch
from occlufix_vcam.stages.compositing.outline import outline, thing_share
from occlufix_vcam.stages.geometry import compose, scale_of, to_wide_field, translation
from occlufix_vcam.stages.hidden import GROWTH_PX
from tests.stages.test_align import crop_of, landmarks

#: A face of 500 px from hairline to chin.
EYES = 177.0
MIDDLE = (640, 330)
BOX = (400, 330, 480, 320)


def textured(seed: int, low: int, high: int, channel: int) -> Image:
    """A smooth colour with pores and grain, stronger in one channel."""
    rng = np.random.default_rng(seed)
    picture = np.full((720, 1280, 3), (low + high) / 2, np.float32)
    for sigma, strength in ((0.7, 0.15), (2.5, 0.2), (20, 0.3)):
        noise = cv2.GaussianBlur(rng.normal(0, 1, picture.shape).astype(np.float32), (0, 0), sigma)
        picture += noise * ((high - low) * strength / noise.std())
    picture[..., channel] += 30
    return picture.clip(0, 255).astype(np.uint8)


def thing() -> Image:
    """Soft-edged share of the thing in each pixel of the frame: a mug with a handle."""
    share = np.zeros((720, 1280), np.uint8)
    cv2.ellipse(share, (640, 480), (130, 90), 10, 0, 360, 255, cv2.FILLED)
    cv2.ellipse(share, (790, 480), (50, 40), 0, 0, 360, 255, 22)
    return np.asarray(cv2.GaussianBlur(share, (0, 0), 0.8), np.uint8)


def hidden_patch(frame: Image, seen: Image, off: float) -> Patch:
    """As the segmenter sees it: soft, and `off` by this many crop pixels."""
    crop = crop_of(frame, landmarks(EYES, at=MIDDLE, turn=0.05))
    matrix = compose(translation(off, -off), to_wide_field(crop.to_crop))
    wide = cv2.GaussianBlur(cv2.warpAffine(seen, matrix, (WIDE_PX, WIDE_PX)), (0, 0), 2)
    side = 2 * GROWTH_PX + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    mask = np.asarray(cv2.dilate(np.where(wide > 127, 255, 0).astype(np.uint8), disc), np.uint8)
    return Patch(crop, np.ascontiguousarray(mask[TEMPLATE_PART]), crop.image, mask)


@pytest.fixture(scope="module")
def frame() -> Image:
    share = thing()[..., None] / 255
    return np.round(textured(1, 130, 180, 2) * (1 - share) + textured(2, 70, 120, 0) * share).astype(np.uint8)


def rim_distance(found: Image, truth: Image) -> np.ndarray:
    """Distance of each pixel of the found outline from the true one."""
    edges = [cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) for mask in (found, truth)]
    return cv2.distanceTransform(255 - edges[1], cv2.DIST_L2, 5)[edges[0] > 0]


def test_the_outline_of_a_large_face_is_met_within_two_pixels(frame):
    patch = hidden_patch(frame, thing(), off=1.5)
    x, y, width, height = BOX
    to_wide = compose(to_wide_field(patch.crop.to_crop), translation(x, y))
    assert 1 / scale_of(to_wide) > 2.2, "frame pixels in a crop pixel"
    part = np.ascontiguousarray(frame[y : y + height, x : x + width])
    found = np.where(thing_share(part, patch, to_wide) > 0.5, 255, 0).astype(np.uint8)
    truth = np.where(thing()[y : y + height, x : x + width] > 127, 255, 0).astype(np.uint8)
    off = rim_distance(found, truth)
    assert off.mean() < 1.0 and np.percentile(off, 95) <= 2.0


def test_all_of_the_thing_is_replaced_and_hardly_more(frame):
    patch = hidden_patch(frame, thing(), off=1.5)
    alpha = outline(frame, patch, BOX).weight
    x, y, width, height = BOX
    share = thing()[y : y + height, x : x + width]
    assert (alpha[share > 64] > 230).mean() > 0.995, "no rim stays"
    far = cv2.dilate(share, np.ones((45, 45), np.uint8)) == 0
    assert not alpha[far].any()


def test_an_outline_that_the_picture_does_not_show_is_the_segmenters():
    """A hand in the face's own tone: what was marked goes, with the doubtful rim."""
    skin = textured(1, 130, 180, 2)
    patch = hidden_patch(skin, thing(), off=0.0)
    alpha = outline(skin, patch, BOX).weight
    x, y, width, height = BOX
    assert (alpha[thing()[y : y + height, x : x + width] > 127] > 230).mean() > 0.9


def test_along_the_rim_what_looks_like_the_face_behind_stays():
    """A remembered face that is off by two pixels is no reason to replace what is seen of it."""
    skin = textured(1, 130, 180, 2)
    x, y, width, height = BOX
    seen = skin[y : y + height, x : x + width]
    found = outline(skin, hidden_patch(skin, thing(), off=0.0), BOX)
    assert found.within is not None
    alike = found.against(seen, np.roll(seen, 2, axis=1))
    assert not alike[(found.weight > 0) & (found.within == 0)].max() > 60
    assert np.array_equal(alike[found.within == 255], found.weight[found.within == 255])
    assert np.array_equal(found.against(seen, np.zeros_like(seen)), found.weight)


def test_a_remembered_view_shows_what_colours_left_out_of_the_mask(frame):
    x, y, width, height = BOX
    patch = hidden_patch(frame, thing(), 0.0)
    found = outline(frame, patch, BOX)
    behind = np.ascontiguousarray(frame[y : y + height, x : x + width])
    edge = (found.outside == 0) & (found.weight == 0)
    assert edge.sum() > 500, "the mask is larger than the outline"
    seen = behind.copy()
    seen[edge] = 0  # the thing's shaded side, darker than all that is near
    remembered = np.full(BOX[:1:-1], 255, np.uint8)
    assert found.against(seen, behind)[edge].max() == 0
    assert found.against(seen, behind, remembered)[edge].min() == 255
    assert found.against(seen, behind, np.zeros_like(remembered))[edge].max() == 0
    slightly_off = cv2.convertScaleAbs(behind, beta=-15)
    assert found.against(slightly_off, behind, remembered)[edge].max() == 0
    outside = found.outside == 255
    assert found.against(np.zeros_like(behind), behind, remembered)[outside].max() == 0


def test_a_given_mask_is_replaced_to_its_rim(frame):
    patch = hidden_patch(frame, thing(), off=0.0)
    exact = Patch(patch.crop, patch.mask, patch.image, patch.wide_mask, exact=True)
    x, y, width, height = BOX
    to_wide = compose(to_wide_field(patch.crop.to_crop), translation(x, y))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    given = cv2.warpAffine(patch.wide_mask, to_wide, (width, height), flags=flags)
    blank = np.zeros((height, width, 3), np.uint8)
    alpha = outline(frame, exact, BOX).against(frame[y : y + height, x : x + width], blank)
    assert (alpha[given > 0] > 250).mean() > 0.995
    assert not alpha[cv2.dilate(given, np.ones((9, 9), np.uint8)) == 0].any()
