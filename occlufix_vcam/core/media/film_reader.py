"""Reads films with FFmpeg: upright, progressive, in their own time, and past what is damaged."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from engines.contract import Image
from occlufix_vcam.core.errors import DeviceError
from occlufix_vcam.core.media.colours import ColourConverter, tags_of
from occlufix_vcam.core.media.ffmpeg import av

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

#: Only containers of films, and only this file: a playlist could name others, on this machine or elsewhere.
_FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,dv,mxf,mxf_opatom,gxf,ivf,nut,rm,wtv,yuv4mpegpipe,gif,apng"
_ONLY_THIS_FILE = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
#: By how many degrees counterclockwise a frame is to be turned.
_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
#: A film that ends this much before the time that it names is cut off.
_CUT_OFF_S, _CUT_OFF_FRAMES = 0.25, 2.5
_USUAL_RATE = 30.0


def open_container(path: Path) -> InputContainer:
    """Raises DeviceError if FFmpeg cannot read it as a film."""
    try:
        return av.open(f"file:{path}", options=_ONLY_THIS_FILE)
    except (av.FFmpegError, OSError, UnicodeError) as error:
        raise DeviceError(f"{path} is not a readable video or image", "check that it plays elsewhere") from error


def frames_named(container: InputContainer, stream: VideoStream) -> int:
    """Number of frames that the file names or that fit its duration; 0 if it tells neither."""
    rate = float(stream.average_rate or stream.guessed_rate or _USUAL_RATE)
    return stream.frames or round((_duration_s(container, stream) or 0) * rate)


def _duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


@dataclass(slots=True, eq=False)
class FilmFrame:
    """One image of a film; `pts` and `duration` are in the reader's `time_base`. It is converted only on demand."""

    pts: int
    duration: int
    _frame: av.VideoFrame
    _reader: FilmReader

    @property
    def image(self) -> Image:
        """Upright, progressive, height x width x 3 uint8 BGR, read-only."""
        return self._reader.convert(self._frame)


class FilmReader:
    """A film's main video stream; with `companions`, `carry_to` gets the packets of every other stream meanwhile.

    `size` is upright (width, height), `pixel_shape` the width of a pixel over its height, `expected` the number of
    frames that the file names or that fit its duration. `lost` counts frames that could not be read so far.
    """

    def __init__(self, path: Path, *, companions: bool = False, square: bool = False) -> None:
        """`square` gives frames in square pixels, as they are shown."""
        self.container = open_container(path)
        self._companions, self._square = companions, square
        self._early: list[Packet[Any]] = []
        self._carry: Callable[[Packet[Any]], None] = self._early.append
        try:
            self._open(path)
        except BaseException:
            self.container.close()
            raise

    def _open(self, path: Path) -> None:
        films = [stream for stream in self.container.streams.video if not stream.disposition & _COVER]
        if not films:
            raise DeviceError(f"{path} contains no video", "choose another file")
        self.stream = films[0]
        self.time_base = self.stream.time_base or Fraction(1, 1000)
        self.rate = float(self.stream.average_rate or self.stream.guessed_rate or _USUAL_RATE)
        self.duration_s = _duration_s(self.container, self.stream)
        self.expected = frames_named(self.container, self.stream)
        self.read = self.lost = 0
        self.was_interlaced = False
        self._ends_at, self._last_pts = 0.0, -(2**62)
        self._deinterlace = _Deinterlacer()
        self._frames = self._decoded()
        self._first = next(self._frames, None)
        if self._first is None:
            raise DeviceError(f"{path} contains no readable frame", "check that it plays in a video player")
        shown = self._first._frame
        self.tags = tags_of(shown)
        self._colours = ColourConverter(self.tags)
        self._stored = shown.width, shown.height
        self._turn = _TURNS.get(round(shown.rotation) % 360)
        swaps = self._turn in (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE)
        self.size = (shown.height, shown.width) if swaps else self._stored
        shape = self.stream.sample_aspect_ratio or Fraction(1)
        self.pixel_shape = Fraction(1) if shape <= 0 else 1 / shape if swaps else shape
        self._stretch = Fraction(1)
        if self._square:
            self._stretch, self.pixel_shape = self.pixel_shape, Fraction(1)
            self.size = _square_size(self.size, self._stretch)

    @property
    def is_cut_off(self) -> bool:
        """Whether it ended before its time. Known once it is read to its end."""
        least = max(_CUT_OFF_S, _CUT_OFF_FRAMES / self.rate)
        return self.duration_s is not None and self._ends_at < self.duration_s - least

    def next(self) -> FilmFrame | None:
        """Next frame; None at the end."""
        first, self._first = self._first, None
        return first or next(self._frames, None)

    def carry_to(self, carry: Callable[[Packet[Any]], None]) -> None:
        """Gives `carry` the packets of the other streams, first those that came while the film was opened."""
        for packet in self._early:
            carry(packet)
        self._early.clear()
        self._carry = carry

    def convert(self, frame: av.VideoFrame) -> Image:
        image = self._colours.to_bgr(frame, self._stored)
        if self._turn is not None:
            image = cv2.rotate(image, self._turn)  # type: ignore[assignment]
        image = in_square_pixels(image, self._stretch)
        image.flags.writeable = False
        return image

    def close(self) -> None:
        self._frames.close()
        self.container.close()

    def _decoded(self) -> Generator[FilmFrame]:
        for packet in self._packets():
            if packet.stream is not self.stream:
                self._carry(packet)
                continue
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                log.debug("a frame cannot be read: %s", error)
                self.lost += 1
                continue
            for frame in frames:
                yield from self._in_time(self._deinterlace(frame))
        yield from self._in_time(self._deinterlace(None))

    def _packets(self) -> Iterator[Packet[Any]]:
        streams = self.container.streams if self._companions else [self.stream]
        packets = self.container.demux(*streams)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:  # beyond this nothing can be found; `is_cut_off` tells
                log.debug("the film ends early: %s", error)
                return
            if packet.pts is not None and packet.time_base is not None:
                since_start = packet.pts - (packet.stream.start_time or 0) + (packet.duration or 0)
                self._ends_at = max(self._ends_at, float(since_start * packet.time_base))
            yield packet

    def _in_time(self, frames: list[av.VideoFrame]) -> Iterator[FilmFrame]:
        """Frames with times that only grow: damaged files repeat or omit some."""
        usual = max(1, round(1 / (self.rate * self.time_base)))
        for frame in frames:
            pts = frame.pts if frame.pts is not None else self._last_pts + usual if self.read else 0
            self._last_pts = max(pts, self._last_pts + 1)
            self.was_interlaced |= self._deinterlace.works
            self.read += 1
            yield FilmFrame(self._last_pts, frame.duration or usual, frame, self)


def in_square_pixels(image: Image, pixel_shape: Fraction) -> Image:
    """`image` as it is shown: wider if its pixels are wide, higher if they are high."""
    if pixel_shape == 1:
        return image
    size = _square_size((image.shape[1], image.shape[0]), pixel_shape)
    square: Image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    square.flags.writeable = False
    return square


def _square_size(size: tuple[int, int], pixel_shape: Fraction) -> tuple[int, int]:
    wide = max(Fraction(1), pixel_shape)
    return round(size[0] * wide), round(size[1] * wide / pixel_shape)


class _Deinterlacer:
    """Makes whole images of fields, from the first interlaced frame on; progressive frames pass as they are."""

    def __init__(self) -> None:
        self._graph: av.filter.Graph | None = None
        self._times: deque[tuple[int | None, int]] = deque()

    @property
    def works(self) -> bool:
        return self._graph is not None

    def __call__(self, frame: av.VideoFrame | None) -> list[av.VideoFrame]:
        """Frames that are ready once `frame` came; None: the rest of them."""
        if self._graph is None:
            if frame is None or not frame.interlaced_frame:
                return [] if frame is None else [frame]
            self._graph = _deinterlacing(frame)
        if frame is not None:
            self._times.append((frame.pts, frame.duration))
        self._graph.push(frame)
        return list(self._ready(self._graph))

    def _ready(self, graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
        while self._times:
            try:
                frame = graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            frame.pts, frame.duration = self._times.popleft()  # the filter counts in half frames
            yield frame


def _deinterlacing(frame: av.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
    )
    graph.link_nodes(
        source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")
    ).configure()
    return graph


_COVER = av.stream.Disposition.attached_pic
