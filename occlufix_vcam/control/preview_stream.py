"""Output frames as JPEG for viewers: encoded only while there are any, once for all of them.

The video path only leaves each picture in `Daemon.broadcast`. A thread of its own takes the newest so many times a
second; a slow viewer gets fewer of them. The thread has no lower priority than others: one that holds the interpreter's
lock and does not get the processor would hold up everybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from cv2.typing import MatLike

from engines.contract import Image
from occlufix_vcam.core.frame import Frame, HiddenCrop
from occlufix_vcam.core.handoff import Broadcast
from occlufix_vcam.stages.geometry import inverse, to_wide_field

View = Literal["both", "before", "after"]

PICTURES_A_SECOND = 15.0
WIDEST_PX = 960  # larger ones are reduced by whole factors, the cheap ones
QUALITY, SNAPSHOT_QUALITY = 75, 95
PATIENCE_S = 0.2
#: An outline needs no more detail than this: pixels of the face template.
OUTLINE_PX = 1.5


@dataclass(frozen=True, slots=True)
class PreviewPicture:
    """`halves` is 2 where the picture before lies above the one after, 1 where both are the same or one was asked for.

    `outlines` are what was hidden: polygons of x, y, each as a share of the picture's width and height.
    """

    jpeg: bytes
    number: int
    halves: int
    outlines: list[list[tuple[float, float]]]

    def part(self) -> bytes:
        """One part of a multipart/x-mixed-replace stream."""
        head = (
            f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(self.jpeg)}\r\nX-Number: {self.number}\r\n"
            f"X-Halves: {self.halves}\r\nX-Outlines: {json.dumps(self.outlines, separators=(',', ':'))}\r\n\r\n"
        )
        return head.encode() + self.jpeg + b"\r\n"


class PreviewStream:
    """The preview's streams and the snapshots. All but the encoding runs in the event loop's thread."""

    MOST_VIEWERS = 16

    def __init__(
        self,
        shown: Broadcast[Frame],
        watched: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """`watched` is entered while there are viewers: it keeps the camera open."""
        self._shown = shown
        self._watched = watched
        self._viewers: Counter[View] = Counter({"both": 0, "before": 0, "after": 0})
        self._waiting: Counter[View] = Counter(self._viewers)  # those who took all that there was
        self._newest: dict[View, PreviewPicture] = {}
        self._came = asyncio.Event()
        self._encoder: threading.Thread | None = None
        self._closing = threading.Event()

    async def stream(self, view: View) -> AsyncIterator[bytes]:
        """The parts of a stream for one viewer, until it goes."""
        seen = -1
        self._viewers[view] += 1
        try:
            while not self._closing.is_set():
                picture = self._newest.get(view)
                if picture is None or picture.number == seen:
                    await self._wait_for_more(view)
                    continue
                seen = picture.number
                yield picture.part()
        finally:
            self._viewers[view] -= 1
            if not self._viewers[view]:
                self._newest.pop(view, None)

    async def _wait_for_more(self, view: View) -> None:
        self._encode_on()
        self._waiting[view] += 1
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._came.wait(), PATIENCE_S)
        finally:
            self._waiting[view] -= 1

    def full(self) -> bool:
        return self._viewers.total() >= self.MOST_VIEWERS

    def snapshot(self, view: View, kind: Literal["jpeg", "png"]) -> bytes | None:
        """The newest picture at its full size, in the caller's thread; None where there is none yet."""
        shown = self._shown.after(0, 0)
        if shown is None:
            return None
        images = _views(shown[1])[view]
        image = np.vstack(images) if len(images) > 1 else images[0]
        options = [cv2.IMWRITE_JPEG_QUALITY, SNAPSHOT_QUALITY] if kind == "jpeg" else []
        return cv2.imencode(f".{kind}", image, options)[1].tobytes()

    def close(self) -> None:
        self._closing.set()
        self._came.set()
        if self._encoder is not None:
            self._encoder.join(1.0)

    def _encode_on(self) -> None:
        if self._encoder is None or not self._encoder.is_alive():
            loop = asyncio.get_running_loop()
            self._encoder = threading.Thread(target=self._encode, args=(loop,), name="preview", daemon=True)
            self._encoder.start()

    def _encode(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs until the last viewer leaves."""
        with self._watched():
            self._encode_newest(loop)

    def _encode_newest(self, loop: asyncio.AbstractEventLoop) -> None:
        number = 0
        while self._viewers.total() and not self._closing.is_set():
            began = time.monotonic()
            wanted = [view for view, viewers in self._waiting.items() if viewers]
            has_new_viewer = any(view not in self._newest for view in wanted)
            shown = self._shown.after(-1 if has_new_viewer else number, PATIENCE_S) if wanted else None
            if shown is not None:
                number, frame = shown
                self._hand_over(loop, _encode_views(frame, number, wanted))
            self._closing.wait(max(0.0, began + 1 / PICTURES_A_SECOND - time.monotonic()))

    def _hand_over(self, loop: asyncio.AbstractEventLoop, pictures: dict[View, PreviewPicture]) -> None:
        def show() -> None:
            self._newest.update({view: one for view, one in pictures.items() if self._viewers[view]})
            self._came.set()
            self._came = asyncio.Event()

        with contextlib.suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(show)


def _views(frame: Frame) -> dict[View, list[Image]]:
    """The images of each view, from top to bottom."""
    if frame.restored_from is None:
        return {"both": [frame.image], "before": [frame.image], "after": [frame.image]}
    before, after = frame.restored_from.image, frame.image
    return {"both": [before, after], "before": [before], "after": [after]}


def _encode_views(frame: Frame, number: int, wanted: list[View]) -> dict[View, PreviewPicture]:
    outlines = outlines_of(frame)
    pictures: dict[View, PreviewPicture] = {}
    for view in wanted:
        reduced = [_reduced(image) for image in _views(frame)[view]]
        image = np.vstack(reduced) if len(reduced) > 1 else reduced[0]
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
        pictures[view] = PreviewPicture(jpeg, number, len(reduced), outlines)
    return pictures


def _reduced(image: Image) -> Image:
    height, width = image.shape[:2]
    factor = math.ceil(width / WIDEST_PX)
    if factor == 1:
        return image
    size = (max(1, width // factor), max(1, height // factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def outlines_of(frame: Frame) -> list[list[tuple[float, float]]]:
    """The rims of what was hidden in `frame`, as shares of its width and height."""
    if frame.restored_from is None:
        return []
    height, width = frame.image.shape[:2]
    return [
        [(round(float(x) / width, 4), round(float(y) / height, 4)) for x, y in rim]
        for crop in frame.restored_from.hidden
        for rim in _rims(crop)
    ]


def _rims(crop: HiddenCrop) -> list[MatLike]:
    """In frame pixels."""
    rims, _ = cv2.findContours(crop.wide_mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    to_frame = inverse(to_wide_field(crop.crop.to_crop))
    few = [cv2.approxPolyDP(rim, OUTLINE_PX, closed=True) for rim in rims]
    return [cv2.transform(rim.astype(np.float32), to_frame)[:, 0] for rim in few if len(rim) > 2]
