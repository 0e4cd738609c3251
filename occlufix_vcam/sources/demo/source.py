"""A face on any machine: a photograph that moves as in a call, while a mask, a hand and a mug come and go.

It demonstrates the product without a camera. Every frame depends on its number alone, so it also tells tests and
documentation what was hidden: see `truth`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from engines.contract import Affine, Image
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.sources import EndOfClip, SourceOptions
from occlufix_vcam.sources.demo.occluders import DemoOccluder, draw_hand, draw_mask, draw_mug, paste, paste_solid
from occlufix_vcam.sources.demo.portrait import COLUMNS, ROWS, STAGE, Portrait, Pose, on_stage, pose_at
from occlufix_vcam.sources.pace import Pace

#: Length of a loop in seconds; it repeats without a jump.
ROUND_S = 15.0


@dataclass(frozen=True, slots=True)
class Act:
    """An occluder enters within `move` seconds, stays, and leaves; `away` is its starting distance in stage pixels."""

    occluder: str
    begin: float
    end: float
    move: float
    away: tuple[float, float]

    def presence(self, seconds: float) -> float:
        """0 away, 1 in place, smooth between."""
        near = min((seconds - self.begin) / self.move, (self.end - seconds) / self.move, 1.0)
        return near * near * (3 - 2 * near) if near > 0 else 0.0


ACTS = (
    Act("mask", 1.5, 5.5, 0.5, (0, 470)),
    Act("hand", 7.0, 10.0, 0.8, (330, 620)),
    Act("mug", 11.0, 14.5, 0.8, (260, 480)),
)
#: Points to which hand and mug are held, in photograph pixels.
_MOUTH = (225.0, 143.0)


class Demo:
    """Endless, or one loop. Frames of other sizes than 1280x720 are cut and scaled from it."""

    description, identity = "demo (moving photograph)", "demo"

    def __init__(
        self,
        target: str,
        options: SourceOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.size = (options.width, options.height)
        self.rate = options.rate
        self._loop, self._clock = options.loop, clock
        self._pace = Pace(self.rate, options.realtime, clock, sleep)
        self._index = 0
        self._portrait = Portrait()
        self._occluders = {"mask": draw_mask(), "hand": draw_hand(), "mug": draw_mug()}
        self._bare = np.ascontiguousarray(self._portrait.plate[ROWS, COLUMNS])
        self._masked = self._bare.copy()
        paste(self._occluders["mask"], _worn(self._occluders["mask"], 0, 0), self._masked)

    @property
    def round_frames(self) -> int:
        """Number of frames in a loop."""
        return round(ROUND_S * self.rate)

    def read(self, timeout: float) -> Frame | None:
        if not self._loop and self._index >= self.round_frames:
            raise EndOfClip
        due = self._pace.wait(self._index, timeout)
        if due is None:
            return None
        self._index = due + 1
        image = self.render(due)
        return Frame(image, due, self._clock(), is_demo=True)  # a camera's frame is ready when it is captured

    def close(self) -> None:
        """Does nothing: there is nothing to release."""

    def render(self, index: int) -> Image:
        """Frame `index`: HxWx3 BGR, read-only."""
        seconds, pose = self._moment(index)
        act = _act_at(seconds)
        picture = self._portrait.plate.copy()
        self._portrait.bend(self._region(act, seconds), pose, picture[ROWS, COLUMNS])
        if act is not None and act.occluder != "mask":
            paste(self._occluders[act.occluder], self._carried(act, seconds, pose), picture)
        return self._fit(picture)

    def truth(self, index: int) -> tuple[Image, Image]:
        """Frame `index` without the occluders, and their mask: HxW, 255 where something is in front.

        The soft shadows of mask, hand and mug are not in the mask.
        """
        seconds, pose = self._moment(index)
        act = _act_at(seconds)
        picture = self._portrait.plate.copy()
        self._portrait.bend(self._bare, pose, picture[ROWS, COLUMNS])
        hidden = np.zeros(picture.shape[:2], np.uint8)
        if act is not None and act.occluder == "mask":
            region = np.zeros(self._bare.shape[:2], np.uint8)
            occluder = self._occluders["mask"]
            paste_solid(occluder, _worn(occluder, *_distance(act, seconds)), region)
            self._portrait.bend(region, pose, hidden[ROWS, COLUMNS])
        elif act is not None:
            paste_solid(self._occluders[act.occluder], self._carried(act, seconds, pose), hidden)
        return self._fit(picture), np.where(self._fit(hidden) > 127, 255, 0).astype(np.uint8)

    def _moment(self, index: int) -> tuple[float, Pose]:
        seconds = (index % self.round_frames) / self.rate
        return seconds, pose_at(seconds / ROUND_S)

    def _region(self, act: Act | None, seconds: float) -> Image:
        """Moving part of the stage at rest, with the mask while it is worn."""
        if act is None or act.occluder != "mask":
            return self._bare
        if act.presence(seconds) == 1:
            return self._masked
        region = self._bare.copy()
        paste(self._occluders["mask"], _worn(self._occluders["mask"], *_distance(act, seconds)), region)
        return region

    def _carried(self, act: Act, seconds: float, pose: Pose) -> Affine:
        """Place of hand or mug on the stage: it follows the face."""
        occluder, held = self._occluders[act.occluder], act.presence(seconds)
        x, y = on_stage(_MOUTH)
        x, y = self._portrait.place((float(x), float(y)), pose)
        off_x, off_y = _distance(act, seconds)
        if act.occluder == "hand":
            off_x += 46 * math.sin(4.2 * (seconds - act.begin))
        angle = math.radians(-24 + 10 * held) if act.occluder == "hand" else math.radians(14 - 20 * held)
        cosine, sine = math.cos(angle), math.sin(angle)
        turn = np.array([[cosine, -sine], [sine, cosine]], np.float32)
        shift = np.array([x + off_x, y + off_y], np.float32) - turn @ np.array(occluder.grip, np.float32)
        return np.hstack([turn, shift[:, None]]).astype(np.float32)

    def _fit(self, picture: Image) -> Image:
        """Cuts to the requested shape, and scales to it."""
        width, height = self.size
        if self.size != STAGE:
            scale = max(width / STAGE[0], height / STAGE[1])
            columns, rows = min(STAGE[0], round(width / scale)), min(STAGE[1], round(height / scale))
            left, top = (STAGE[0] - columns) // 2, (STAGE[1] - rows) // 2
            window = picture[top : top + rows, left : left + columns]
            picture = np.asarray(cv2.resize(window, self.size, interpolation=cv2.INTER_AREA), np.uint8)
        picture.flags.writeable = False
        return picture


def _act_at(seconds: float) -> Act | None:
    return next((act for act in ACTS if act.presence(seconds) > 0), None)


def _distance(act: Act, seconds: float) -> tuple[float, float]:
    away = 1 - act.presence(seconds)
    return act.away[0] * away, act.away[1] * away


def _worn(mask: DemoOccluder, off_x: float, off_y: float) -> Affine:
    """Place of the mask in the moving part of the stage."""
    x, y = mask.grip[0] - COLUMNS.start + off_x, mask.grip[1] - ROWS.start + off_y
    return np.array([[1, 0, x], [0, 1, y]], np.float32)
