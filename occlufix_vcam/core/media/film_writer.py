"""Writes films that browsers, phones and players play, in a constant or variable rate."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import cv2

from engines.contract import Image
from occlufix_vcam.core.errors import SinkUnavailable
from occlufix_vcam.core.media.colours import ColourConverter, ColourTags
from occlufix_vcam.core.media.ffmpeg import av
from occlufix_vcam.core.media.film_formats import FORMATS, Quality
from occlufix_vcam.core.output_transform import even_size

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

#: Constant rate factor by quality, of H.264 and of VP9.
_H264_CRF = {Quality.HIGH: 17, Quality.MEDIUM: 22, Quality.LOW: 28}
#: The quickest encoder keeps more of a frame at the same factor, and needs the less time the higher it is.
_LIVE_CRF = {Quality.HIGH: 20, Quality.MEDIUM: 24, Quality.LOW: 30}
_VP9_CRF = {Quality.HIGH: 20, Quality.MEDIUM: 30, Quality.LOW: 40}
#: A killed recording plays up to its last half second; a closed one is an ordinary file.
_MP4 = {
    "movflags": "hybrid_fragmented+frag_keyframe+empty_moov+default_base_moof",
    "frag_duration": "500000",  # microseconds
    "flush_packets": "1",
}
_MATROSKA = {"cluster_time_limit": "500", "flush_packets": "1"}
_RECORDING = {"mp4": _MP4, "mov": _MP4, "matroska": _MATROSKA, "webm": _MATROSKA}
_FILE: dict[str, dict[str, str]] = {"mp4": {"movflags": "faststart"}, "mov": {"movflags": "faststart"}}


def open_film(path: Path, suffix: str) -> OutputContainer:
    """Container of the kind that `suffix` names, at `path`. Raises OSError."""
    name = FORMATS[suffix.lower()]
    return av.open(f"file:{path}", "w", format=name, options=dict(_FILE.get(name, {})))


def open_recording(file: IO[bytes], suffix: str) -> OutputContainer:
    """Container in an open file of which all that is written plays, at any moment."""
    name = FORMATS[suffix.lower()]
    return av.open(file, "w", format=name, options=dict(_RECORDING[name]))


class FilmWriter:
    """Encodes the video stream of `container`; odd sizes grow by one pixel, as codecs require.

    `time_base` is the unit of times and durations, a frame if None. `quality` is not auto. `live` is quick enough to
    encode beside a call. Raises SinkUnavailable without an encoder.
    """

    def __init__(
        self,
        container: OutputContainer,
        size: tuple[int, int],
        rate: float,
        tags: ColourTags,
        *,
        time_base: Fraction | None = None,
        pixel_shape: Fraction = Fraction(1),
        quality: Quality = Quality.HIGH,
        live: bool = False,
    ) -> None:
        self._container, self._size = container, even_size(size)
        fraction = Fraction(rate).limit_denominator(1001)
        self.codec, self._pixels, options = _encoder(container.format.name, quality, fraction, live)
        try:
            self.stream = cast("VideoStream", container.add_stream(self.codec, rate=fraction, options=options))
        except ValueError as error:  # PyAV's "unknown codec"
            raise SinkUnavailable(
                f"this PyAV has no encoder {self.codec}", "install its own wheel: pip install --only-binary av av"
            ) from error
        self.stream.width, self.stream.height = self._size
        self.stream.pix_fmt = self._pixels
        self.stream.time_base = time_base = time_base or 1 / fraction
        encoder = self.stream.codec_context
        encoder.time_base, encoder.sample_aspect_ratio = time_base, pixel_shape
        if self._pixels == "yuv420p":
            tags.put_on(encoder)
        self._colours = ColourConverter(tags)
        self._durations: dict[int, int] = {}

    def write(self, image: Image, pts: int, duration: int) -> None:
        """Adds an image at `pts`. Raises OSError or av.FFmpegError."""
        frame = self._colours.to_yuv(self._even(image), self._pixels)
        frame.pts, frame.time_base = pts, self.stream.codec_context.time_base
        self._durations[pts] = duration
        self._mux(self.stream.encode(frame))

    def finish(self) -> None:
        """Writes what the encoder holds back. Raises OSError or av.FFmpegError."""
        self._mux(self.stream.encode(None))

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:  # encoders forget durations, of which the last is the film's end
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            self._container.mux_one(packet)

    def _even(self, image: Image) -> Image:
        right, below = self._size[0] - image.shape[1], self._size[1] - image.shape[0]
        if not right and not below:
            return image
        return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)  # type: ignore[return-value]


def _encoder(container: str, quality: Quality, rate: Fraction, live: bool) -> tuple[str, str, dict[str, str]]:
    """Codec, pixel format and the codec's options."""
    key_frames = {"g": str(max(1, round(2 * rate)))} if live else {}
    if quality is Quality.LOSSLESS:
        return "ffv1", "bgr0", {"level": "3"}
    if container == "webm":
        live_speed = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
        speed = live_speed if live else {"deadline": "good", "cpu-used": "4"}
        return "libvpx-vp9", "yuv420p", {"crf": str(_VP9_CRF[quality]), "b": "0", "row-mt": "1", **speed, **key_frames}
    speed = {"preset": "ultrafast", "tune": "zerolatency"} if live else {"preset": "fast"}
    crf = (_LIVE_CRF if live else _H264_CRF)[quality]
    return "libx264", "yuv420p", {"crf": str(crf), **speed, **key_frames}
