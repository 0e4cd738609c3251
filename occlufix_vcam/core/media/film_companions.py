"""What a film carries beside its picture: sound, subtitles, chapters, dates. Copied; what cannot be is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from occlufix_vcam.core.media.ffmpeg import av

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

#: The muxer writes its own.
_OF_THE_CONTAINER = frozenset(("major_brand", "minor_version", "compatible_brands", "encoder"))
_OF_THE_STREAM = frozenset(("encoder", "duration", "number_of_bytes", "number_of_frames"))
#: By the number of channels, where a file does not name them.
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
_COVER = av.stream.Disposition.attached_pic
Carry = Callable[["Packet[Any] | None"], None]


class Companions:
    """Carries every stream but `main` from `source` to `target`, packet by packet.

    `left_out` names what the target's format cannot hold. Sound of another format is encoded anew.
    """

    def __init__(self, source: InputContainer, target: OutputContainer, main: Any) -> None:
        self._target = target
        self._carriers: dict[int, Carry] = {}
        self.left_out: list[str] = []
        copied = {key: value for key, value in source.metadata.items() if key not in _OF_THE_CONTAINER}
        target.metadata.update(copied)
        target.set_chapters(source.chapters())
        for stream in source.streams:
            if stream is not main and stream.discard != av.stream.Discard.all:  # a track of chapters, which are copied
                self._add(stream)

    def carry(self, packet: Packet[Any]) -> None:
        carrier = self._carriers.get(packet.stream.index)
        if carrier is not None:
            carrier(packet)

    def finish(self) -> None:
        for carrier in self._carriers.values():
            carrier(None)

    def _add(self, stream: Any) -> None:
        codec = stream.codec_context.name if stream.codec_context is not None else ""
        if stream.type == "attachment" and self._target.format.name == "matroska":
            self._target.add_attachment(stream.name or "attachment", stream.mimetype or "", stream.data or b"")
        elif stream.type in ("audio", "video", "subtitle") and self._takes(stream, codec):
            self._carriers[stream.index] = copier(stream, self._target)
        elif stream.type == "audio" and codec:
            self._carriers[stream.index] = _encoder_of_sound(stream, self._target)
        else:
            self.left_out.append(f"{stream.type} ({codec})" if codec else str(stream.type))

    def _takes(self, stream: Any, codec: str) -> bool:
        name = self._target.format.name
        if stream.disposition & _COVER and name not in ("mp4", "mov"):
            return False
        if codec.startswith("pcm_") and (name == "mp4" or (name == "mov" and _is_unordered(stream))):
            return False  # no browser plays it, or the muxer refuses it
        return codec in self._target.supported_codecs


def copier(stream: Any, target: OutputContainer) -> Carry:
    """Copies a stream's packets as they are; those that go back in time, as in damaged files, are dropped."""
    copy = target.add_stream_from_template(stream)
    take_facts(stream, copy)
    is_dense = stream.type != "subtitle"
    last: int | None = None

    def carry(packet: Packet[Any] | None) -> None:
        nonlocal last
        if packet is None or not packet.size:
            return
        if packet.dts is None:  # a cover picture has no time
            packet.pts = packet.dts = packet.pts or 0
        if last is not None and is_dense and packet.dts <= last:
            return
        last = packet.dts
        packet.stream = copy
        target.mux_one(packet)

    return carry


def take_facts(stream: Any, copy: Any) -> None:
    """Language, title, date and role of a stream."""
    copy.metadata.update({key: value for key, value in stream.metadata.items() if key.lower() not in _OF_THE_STREAM})
    copy.disposition = stream.disposition


def _is_unordered(stream: Any) -> bool:
    """Whether the file says how many channels there are, but not which, as AVI does."""
    return str(stream.codec_context.layout.name).endswith(" channels")


def _encoder_of_sound(stream: Any, target: OutputContainer) -> Carry:
    codec = "libopus" if target.format.name == "webm" else "aac"
    rate = 48_000 if codec == "libopus" else stream.codec_context.sample_rate
    layout = _LAYOUTS.get(stream.codec_context.channels, "stereo") if _is_unordered(stream) else None
    copy: Any = target.add_stream(codec, rate=rate, layout=layout or stream.codec_context.layout)
    take_facts(stream, copy)
    fitted = av.AudioResampler(
        format=copy.codec_context.codec.audio_formats[0],
        layout=copy.codec_context.layout,
        rate=rate,
        frame_size=960 if codec == "libopus" else 1024,
    )

    def carry(packet: Packet[Any] | None) -> None:
        try:
            frames: list[Any] = [None] if packet is None else packet.decode()
        except av.FFmpegError:  # a damaged packet of sound
            return
        for frame in frames:
            for part in fitted.resample(frame):
                target.mux(copy.encode(part))
        if packet is None:
            target.mux(copy.encode(None))

    return carry
