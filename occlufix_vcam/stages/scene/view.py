"""One view of the scene, kept, and found again in a later frame in which something hides a part of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from engines.contract import CROP_PX, HIDDEN, WIDE_OFFSET, WIDE_PX, Affine, Image, transform_points
from occlufix_vcam.core.frame import Box, Fill, in_wide
from occlufix_vcam.stages.geometry import compose, face_weight, inverse, scale_of, to_cells, to_wide_field, translation
from occlufix_vcam.stages.motion import difference
from occlufix_vcam.stages.scene.cells import AROUND, Levels, SceneFrame, grid, reduced_by, spread, warped
from occlufix_vcam.stages.scene.follow import followed

#: Visible blocks that differ by this many grey levels count little for motion and light.
DIFFERS = 12.0
#: Levels, in the mean gain, added before two levels are divided: the gain of dark pixels is noise.
DARK = 12.0
GAIN_RANGE = (0.4, 2.5)
#: Expected error of a fill, in grey levels, up to which it has full trust, and from which on it has none.
FULL_TRUST_BELOW, NO_TRUST_ABOVE = 11.0, 40.0
#: Expected error, in grey levels: for each level by which the visible blocks around differ, and by which they do so
#: beyond DIFFERS_ABOVE; for the root of motion's disagreement times detail; for each crop pixel from what is visible
#: times the root of the detail; for each second of age. Fitted on films whose truth is known.
PER_DIFFERENCE, DIFFERS_ABOVE, PER_DISAGREEMENT, PER_DISTANCE, PER_SECOND = 0.3, 6.0, 1.9, 0.02, 0.05
#: A block outside the wide field belongs to a thing if it differs from the view by this many grey levels.
THING_FROM = 16.0
#: A fill may be off by this share of a block.
OFF_BLOCKS = 0.3
#: A view is rendered in bands of so many blocks: a slanting arm fills little of its box.
BAND = 8
#: So far beyond a view's edge, in blocks, its last pixels are repeated.
EDGE_BLOCKS = 2.0
#: Over so many blocks a thing fades that leaves the view, but not the frame.
FADE_BLOCKS = 6
_SQUARE = np.ones((3, 3), np.uint8)
#: What is rendered reaches so far beyond what is hidden, in blocks: the rim of things, and what it is blurred with.
NEAR = np.ones((5, 5), np.uint8)
#: Share of the way to the newest light and trust in one frame.
EASE = 0.5
#: With a smaller share of what is visible alike, it is another scene.
SAME_SCENE = 0.35
#: The camera moved if MOST of the background did: so many crop pixels in all, or a second. Slower, it is followed.
CAMERA_MOVED_PX, CAMERA_PX_A_SECOND, MOST = 60.0, 90.0, 0.6
#: A smaller share of the view, in background that shows detail, says nothing about the camera.
LEAST_BACKGROUND = 0.03


class SceneView:
    """A view: the image of a box, the blocks in which it is valid, and where it is found now."""

    def __init__(self, frame: SceneFrame, box: Box) -> None:
        """`box` is in frame pixels, in whole blocks."""
        x, y, width, height = box
        self.box, self.block, self.at = box, frame.block, frame.at
        self.blocks: Box = (x // self.block, y // self.block, width // self.block, height // self.block)
        self.valid: Levels = np.ones((self.blocks[3], self.blocks[2]), np.float32)
        if frame.visible is not None:
            self.hide(frame)
        self._image = frame.image[y : y + height, x : x + width].copy()
        self._faces = frame.faces
        self.rest()

    def rest(self) -> None:
        """Forgets where it was found."""
        self._flow: Levels | None = None
        self._light: Levels | None = None
        self._trust: Levels | None = None
        self._found_at = 0.0
        #: Blocks in which a thing continues beyond the wide field: uint8, 255 or 0.
        self.thing: Image = np.zeros(self.valid.shape, np.uint8)
        self._rim: Levels = np.zeros(self.valid.shape, np.float32)

    def hide(self, frame: SceneFrame) -> None:
        """Makes invalid what is not visible in a frame that something hides."""
        if frame.visible is not None:
            self.valid *= self.part(frame.visible) > 0

    def part(self, blocks: NDArray[Any]) -> NDArray[Any]:
        """This view's part of the frame's blocks."""
        x, y, width, height = self.blocks
        return blocks[y : y + height, x : x + width]

    @property
    def trust(self) -> Levels:
        """Trust of each block, 0..1, where it is found."""
        return self._trust if self._trust is not None else np.zeros_like(self.valid)

    def find(self, frame: SceneFrame, optical_flow: cv2.DenseOpticalFlow) -> bool:
        """Finds the view in a frame; returns whether the scene and the camera still are where they were."""
        assert frame.visible is not None
        x, y, width, height = self.box
        now = reduced_by(frame.image[y : y + height, x : x + width], self.block)
        prior, heads = self._prior(frame)
        raw = self._measured(now, self._flow if self._flow is not None else prior, frame, optical_flow)
        colours = now.astype(np.float32)
        moved = np.asarray(warped(self._colours, raw * np.float32(1 / self.block)), np.float32)
        valid = self._valid_now(raw)
        both = self._seen(frame) * valid
        if both.sum() < 0.05 * both.size:
            self.rest()
            return True
        light = self._light if self._light is not None else _light(moved, colours, both)
        off = _difference(moved * light, colours)
        self._follow_thing(off, both, frame)
        agreed = both * np.exp(-np.square(off / DIFFERS))
        measured = agreed * _texture(colours)
        if agreed.sum() < SAME_SCENE * both.sum() or self._camera_moved(raw, measured, frame):
            return False
        light = _light(moved, colours, agreed + np.float32(1e-3) * both)
        off = _difference(moved * light, colours)
        self._found_at = frame.at
        self._rim = self._around_things(frame)
        self._flow, disagreement = _extended(raw, prior, measured + np.float32(0.02) * agreed, heads)
        trust = self._trusted(moved, off, both, disagreement, frame) * _inner(valid) * self._known_faces(frame)
        self._light = _eased(self._light, light)
        self._trust = trust if self._trust is None else np.minimum(trust, self._trust + EASE * (trust - self._trust))
        return True

    def rendered(self, wanted: Image, frame: Image) -> Fill | None:
        """The view as it looks now where the blocks of the frame are `wanted`; None if it shows none of that.

        Only after `find`.
        """
        wanted = self.part(wanted)
        left, top, columns, rows = cv2.boundingRect(wanted)
        if not columns or not self.trust.any():
            return None
        size = (columns * self.block, rows * self.block)
        image = np.zeros((size[1], size[0], 3), np.uint8)
        for first in range(top, top + rows, BAND):
            last = min(first + BAND, top + rows)
            x, _, width, _ = cv2.boundingRect(wanted[first:last])
            if width:
                to = np.s_[(first - top) * self.block : (last - top) * self.block, (x - left) * self.block :]
                image[to][:, : width * self.block] = self._pixels((x, first, width, last - first))
        part = np.s_[top : top + rows, left : left + columns]
        trust = _by_pixel(self.trust[part] * HIDDEN, size)
        box: Box = (self.box[0] + left * self.block, self.box[1] + top * self.block, *size)
        x, y, width, height = box
        seen = frame[y : y + height, x : x + width]
        differs = difference(seen, image, max(round(OFF_BLOCKS * self.block), 1)).weight()
        thing = None
        if self.thing[part].any():
            rough = cv2.blur(cv2.dilate(self.thing, _SQUARE), (3, 3)) * self._inside(frame)
            within = _by_pixel(cv2.erode(self.thing, _SQUARE)[part], size)
            thing = _outlined(rough[part], np.asarray(cv2.max(differs, within), np.uint8))
        rim = self._rim[part] * cv2.erode(wanted[part], _SQUARE)
        return Fill(box, image, trust, thing, _outlined(rim, differs))

    def _inside(self, frame: Image) -> Levels:
        """1, falling to 0 at those edges of the view that are not the frame's."""
        ramps = []
        for axis in (0, 1):
            first, count = self.blocks[axis], self.blocks[axis + 2]
            ends = first + count >= frame.shape[1 - axis] // self.block
            before = np.arange(count) + FADE_BLOCKS * (first == 0)
            after = np.arange(count)[::-1] + FADE_BLOCKS * ends
            ramps.append(np.clip(np.minimum(before, after) / FADE_BLOCKS, 0, 1))
        return np.asarray(np.minimum.outer(ramps[1], ramps[0]), np.float32)

    def _pixels(self, blocks: Box) -> Image:
        """The view as it looks now in a box of its blocks."""
        assert self._flow is not None and self._light is not None
        x, y, columns, rows = blocks
        block = self.block
        # With a block around it: what is interpolated must not depend on where a box ends.
        left, top = max(x - 1, 0), max(y - 1, 0)
        part = np.s_[top : y + rows + 1, left : x + columns + 1]
        whole = self._flow[part].shape[1] * block, self._flow[part].shape[0] * block
        own = np.s_[(y - top) * block : (y - top + rows) * block, (x - left) * block : (x - left + columns) * block]
        there = cv2.add(_resized(self._flow[part], whole)[own], grid((rows * block, columns * block)))
        start = np.array((x * block, y * block), np.float32)
        image = cv2.remap(self._image, there + start, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        return np.asarray(cv2.multiply(image, _resized(self._light[part], whole)[own], dtype=cv2.CV_8U), np.uint8)

    @functools.cached_property
    def _grey(self) -> Image:
        return np.asarray(cv2.cvtColor(reduced_by(self._image, self.block), cv2.COLOR_BGR2GRAY), np.uint8)

    @functools.cached_property
    def _colours(self) -> Levels:
        return reduced_by(self._image, self.block).astype(np.float32)

    def _to_blocks(self) -> Affine:
        """Matrix from frame pixels to this view's blocks."""
        return compose(to_cells(self.block), translation(-self.box[0], -self.box[1]))

    def _prior(self, frame: SceneFrame) -> tuple[Levels, Levels]:
        """Motion of the heads by their landmarks, from now to the view, in pixels, fading out around each.

        And where the heads are, 0..1.
        """
        prior, heads = np.zeros((*self.valid.shape, 2), np.float32), np.zeros_like(self.valid)
        for person, to_crop in frame.faces.items():
            then = self._faces.get(person)
            if then is None:
                continue
            now_to_then = compose(
                compose(self._to_blocks(), inverse(then)), compose(to_crop, inverse(self._to_blocks()))
            )
            points = grid(self.valid.shape)
            moved = points @ now_to_then[:, :2].T + now_to_then[:, 2] - points
            head = self._in_view(_head(), to_crop)
            prior += moved * head[..., None]
            cv2.max(heads, head, dst=heads)
        return prior * self.block, heads

    def _in_view(self, field: Levels, to_crop: Affine) -> Levels:
        """`field` of a face's wide field in this view's blocks."""
        matrix = compose(self._to_blocks(), inverse(to_wide_field(to_crop)))
        size = self.blocks[2:]
        return np.asarray(cv2.warpAffine(field, matrix, size), np.float32)

    def _measured(self, now: Image, expected: Levels, frame: SceneFrame, optical_flow: cv2.DenseOpticalFlow) -> Levels:
        """Optical flow from now to the view, in pixels; where nothing is visible, the expected one."""
        guess = expected * np.float32(1 / self.block)
        known = (self._seen(frame) > 0) & self._valid_now(expected) & (cv2.dilate(self.thing, _SQUARE) == 0)
        today = warped(self._grey, guess)
        cv2.copyTo(cv2.cvtColor(now, cv2.COLOR_BGR2GRAY), known.astype(np.uint8), today)
        flow = optical_flow.calc(today, self._grey, guess)
        return np.asarray(flow * np.float32(self.block), np.float32)

    def _valid_now(self, flow: Levels) -> NDArray[np.bool_]:
        """Blocks for which the view has something valid, at most a little beyond its edge."""
        there = grid(self.valid.shape) + flow * np.float32(1 / self.block)
        last = np.array([self.blocks[2] - 1, self.blocks[3] - 1], np.float32)
        near = (np.abs(there - np.clip(there, 0, last)) < EDGE_BLOCKS).all(axis=2)
        valid = cv2.remap(self.valid, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        return np.asarray((valid > 0.99) & near)

    def _seen(self, frame: SceneFrame) -> Levels:
        """How far each block counts as visible: less where no segmenter looked."""
        assert frame.visible is not None and frame.outside is not None
        seen = self.part(frame.visible) * (1 / HIDDEN) + self.part(frame.outside) * (0.5 / HIDDEN)
        return np.asarray(seen, np.float32)

    def _follow_thing(self, off: Levels, seen: Levels, frame: SceneFrame) -> None:
        """Follows things out of the wide field, into what differs there from the view; takes that out of `seen`.

        A block belongs to a thing from THING_FROM levels on; once it does, down to half of that.
        """
        assert frame.hidden is not None and frame.outside is not None
        outside, hidden = self.part(frame.outside), self.part(frame.hidden)
        if not cv2.countNonZero(cv2.bitwise_and(cv2.dilate(outside, _SQUARE), hidden)):
            self.thing[:] = 0
            return
        near = np.asarray(cv2.dilate(self.thing, _SQUARE)) > 0
        differs = (off > np.where(near, THING_FROM / 2, THING_FROM)) & (outside > 0) & (seen > 0)
        parts = np.where(differs, np.uint8(HIDDEN), hidden).astype(np.uint8)
        joined = np.asarray(cv2.morphologyEx(parts, cv2.MORPH_CLOSE, _SQUARE), np.uint8)
        self.thing = followed(joined & outside, np.asarray(cv2.dilate(hidden, _SQUARE), np.uint8))
        seen[cv2.dilate(self.thing, _SQUARE) > 0] = 0

    def _camera_moved(self, flow: Levels, agreed: Levels, frame: SceneFrame) -> bool:
        """Whether what is around the people moved as a whole."""
        behind, scale = agreed.copy(), 1.0
        for to_crop in frame.faces.values():
            behind *= 1 - self._in_view(_body(), to_crop)
            scale = scale_of(to_crop)
        moved = _length(flow) * scale > CAMERA_MOVED_PX
        if self._flow is not None and frame.at > self._found_at:
            moved |= _length(flow - self._flow) * scale > CAMERA_PX_A_SECOND * (frame.at - self._found_at)
        return bool(behind.sum() > LEAST_BACKGROUND * behind.size and behind[moved].sum() > MOST * behind.sum())

    def _trusted(self, moved: Levels, off: Levels, seen: Levels, disagreement: Levels, frame: SceneFrame) -> Levels:
        """Trust of each block by the error that is expected there."""
        scale = max(scale_of(to_crop) for to_crop in frame.faces.values())
        difference = cv2.blur(spread(np.minimum(off, 40)[..., None], seen)[..., 0], (5, 5))
        detail = _detail(moved)
        far = cv2.distanceTransform((seen == 0).astype(np.uint8), cv2.DIST_L2, 3) * (self.block * scale)
        error = PER_DIFFERENCE * difference + np.maximum(difference - DIFFERS_ABOVE, 0)
        error += PER_DISAGREEMENT * np.sqrt(disagreement * detail / self.block) + PER_DISTANCE * far * np.sqrt(detail)
        error += PER_SECOND * (frame.at - self.at)
        error = cv2.blur(error, (7, 7))
        trust = np.clip((NO_TRUST_ABOVE - error) / (NO_TRUST_ABOVE - FULL_TRUST_BELOW), 0, 1)
        return np.asarray(trust, np.float32)

    def _around_things(self, frame: SceneFrame) -> Levels:
        """Weight, 0..1, of the blocks in which a rim of the things may have been missed: none on the faces."""
        assert frame.hidden is not None
        near = cv2.dilate(self.part(frame.hidden), _SQUARE) * np.float32(1 / HIDDEN)
        for to_crop in frame.faces.values():
            near *= 1 - self._in_view(_face(), to_crop)
        return np.asarray(cv2.blur(near, (3, 3)), np.float32)

    def _known_faces(self, frame: SceneFrame) -> Levels:
        """0 where now is a face of somebody whom the view does not show, 1 elsewhere."""
        known = np.ones_like(self.valid)
        for person, to_crop in frame.faces.items():
            if person not in self._faces:
                around = transform_points(AROUND, compose(self._to_blocks(), inverse(to_crop)))
                cv2.fillConvexPoly(known, np.round(around).astype(np.int32), 0)
        return known


def _outlined(blocks: Levels, differs: Image) -> Image:
    """Blocks' weights, 0..255, as a weight by pixel: what looks as the fill does stays as it is."""
    return np.asarray(cv2.min(differs, _by_pixel(blocks, differs.shape[::-1])), np.uint8)


def _by_pixel(blocks: MatLike, size: Sequence[int]) -> Image:
    return np.asarray(cv2.resize(blocks.astype(np.uint8), tuple(size), interpolation=cv2.INTER_LINEAR), np.uint8)


def _inner(valid: NDArray[np.bool_]) -> Levels:
    """1 inside what is `valid`, falling to 0 at its rim: blocks must not be seen."""
    return np.asarray(cv2.blur(cv2.erode(valid.astype(np.float32), _SQUARE), (3, 3)), np.float32)


def _length(flow: Levels) -> Levels:
    return np.asarray(cv2.magnitude(flow[..., 0], flow[..., 1]), np.float32)


def _difference(one: Levels, other: Levels) -> Levels:
    blue, green, red = cv2.split(cv2.absdiff(one, other))
    return (blue + green + red) * np.float32(1 / 3)


def _light(then: Levels, now: Levels, weight: Levels) -> Levels:
    """Gain of each channel from `then` to `now`, smooth over the blocks."""
    size = weight.shape[1], weight.shape[0]
    half = (size[0] + 1) // 2, (size[1] + 1) // 2
    share = _resized(weight, half)
    levels = [cv2.blur(spread(_resized(picture, half), share), (5, 5)) for picture in (now, then)]
    now_mean, then_mean = (np.array(cv2.mean(level)[:3], np.float32) for level in levels)
    whole = np.float32(DARK) * now_mean / (then_mean + 1)
    return _resized(np.clip((levels[0] + whole) / (levels[1] + np.float32(DARK)), *GAIN_RANGE), size)


def _eased(last: Levels | None, light: Levels) -> Levels:
    """`light`, of which the part that is not the same everywhere changes slowly."""
    if last is None:
        return light
    now_mean, then_mean = (np.array(cv2.mean(each)[:3], np.float32) for each in (light, last))
    last = last * (now_mean / then_mean)
    return np.asarray(last + np.float32(EASE) * (light - last), np.float32)


def _resized(values: MatLike, size: Sequence[int]) -> Levels:
    return np.asarray(cv2.resize(values, (size[0], size[1]), interpolation=cv2.INTER_LINEAR), np.float32)


def _extended(flow: Levels, prior: Levels, weight: Levels, head: Levels) -> tuple[Levels, Levels]:
    """`flow` continued where it has no weight, and by how many pixels it disagrees around there.

    What the prior does not explain is continued, not the motion itself: that of the head inside the head, that of
    what is around it outside.
    """
    rest = flow - prior
    values = np.concatenate([rest, np.square(rest).sum(axis=2, keepdims=True)], axis=2)
    inside, outside = (spread(values, weight * layer + np.float32(1e-3) * weight) for layer in (head, 1 - head))
    smooth = outside + (inside - outside) * head[..., None]
    blurred = cv2.GaussianBlur(smooth, (0, 0), 1.5)
    variance = blurred[..., 2] - np.square(blurred[..., 0]) - np.square(blurred[..., 1])
    return prior + smooth[..., :2], np.sqrt(np.maximum(variance, 0))


def _texture(colours: Levels) -> Levels:
    """How far motion can be measured in each block, 0..1."""
    detail = cv2.blur(_detail(colours), (3, 3))
    return np.asarray(np.minimum(0.1 * detail, 1), np.float32)


def _detail(colours: Levels) -> Levels:
    """Mean difference between neighbouring blocks, in levels."""
    grey = cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY)
    across, down = (cv2.Sobel(grey, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    # A running mean of zeros may end just below zero.
    return np.maximum(np.asarray(cv2.blur(np.abs(across) + np.abs(down), (3, 3)), np.float32), 0)


@functools.cache
def _face() -> Levels:
    """Where the template is restored for a face in the wide field, 416x416: 1 inside, fading out."""
    return np.asarray(in_wide(face_weight()) * np.float32(1 / HIDDEN), np.float32)


@functools.cache
def _head() -> Levels:
    """Head in the wide field, 416x416: 1 inside, fading out."""
    area = np.zeros((WIDE_PX, WIDE_PX), np.float32)
    cv2.ellipse(area, (WIDE_OFFSET[0] + CROP_PX // 2, WIDE_OFFSET[1] + 120), (95, 125), 0, 0, 360, 1.0, cv2.FILLED)
    return np.asarray(cv2.blur(area, (61, 61)), np.float32)


@functools.cache
def _body() -> Levels:
    """Head, neck and shoulders in the wide field, 416x416, generously: 1 inside."""
    area = np.zeros((WIDE_PX, WIDE_PX), np.float32)
    cv2.ellipse(area, (WIDE_OFFSET[0] + CROP_PX // 2, WIDE_OFFSET[1] + 115), (115, 150), 0, 0, 360, 1.0, cv2.FILLED)
    area[WIDE_OFFSET[1] + 220 :] = 1
    return area
