"""Makes films of every kind, and reads them as a player does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

MILLISECOND = Fraction(1, 1000)


@dataclass(frozen=True)
class FilmFacts:
    """What a player sees: times in seconds, frames as BGR, and what lies beside the picture."""

    times: list[float]
    frames: list[np.ndarray[Any, Any]]
    duration: float
    codec: str
    pixels: str
    shape: Fraction
    sound: list[str]
    subtitles: list[str]
    chapters: list[str]
    metadata: dict[str, str] = field(default_factory=dict)


def make_film(
    path: Path,
    frames: Sequence[np.ndarray[Any, Any]],
    times_ms: Sequence[int],
    *,
    codec: str = "libx264",
    shape: Fraction = Fraction(1),
    interlaced: bool = False,
    sound: str = "",
    metadata: dict[str, str] | None = None,
    chapters: Sequence[str] = (),
) -> Path:
    """Writes `frames` at `times_ms`, whose last number is the end, with a tone encoded by `sound`."""
    with av.open(str(path), "w") as film:
        film.metadata.update(metadata or {})
        options = {"flags": "+ildct+ilme", "x264-params": "tff=1"} if interlaced else {}
        stream: Any = film.add_stream(codec, rate=30, options={"crf": "12", **options})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.time_base = "yuv420p", MILLISECOND
        stream.codec_context.time_base, stream.codec_context.sample_aspect_ratio = MILLISECOND, shape
        if chapters:
            length = times_ms[-1] // len(chapters)
            film.set_chapters(
                [
                    {"id": n, "start": n * length, "end": (n + 1) * length, "time_base": MILLISECOND,
                     "metadata": {"title": title}}
                    for n, title in enumerate(chapters)
                ]
            )  # fmt: skip
        tone: Any = film.add_stream(sound, rate=48_000, layout="mono") if sound else None
        durations = dict(zip(times_ms, np.diff(times_ms).tolist(), strict=False))
        for image, at in zip(frames, times_ms, strict=False):
            frame = av.VideoFrame.from_ndarray(image, "bgr24")
            frame.pts, frame.time_base = at, MILLISECOND
            _mux(film, stream.encode(frame), durations)
        _mux(film, stream.encode(None), durations)
        if tone is not None:
            for start in range(0, times_ms[-1] * 48, 1024):
                part = av.AudioFrame(tone.codec_context.format.name, "mono", 1024)
                for plane in part.planes:
                    plane.update(bytes(plane.buffer_size))
                part.sample_rate, part.pts, part.time_base = 48_000, start, Fraction(1, 48_000)
                film.mux(tone.encode(part))
            film.mux(tone.encode(None))
    return path


def _mux(film: Any, packets: list[Any], durations: dict[int, int]) -> None:
    for packet in packets:
        packet.duration = durations.get(packet.pts, 0)
        film.mux(packet)


def play(path: Path) -> FilmFacts:
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        shown = [(float(frame.time or 0), frame.to_ndarray(format="bgr24")) for frame in film.decode(stream)]
        assert film.duration is not None
        return FilmFacts(
            times=[time for time, _ in shown],
            frames=[frame for _, frame in shown],
            duration=film.duration / av.time_base,
            codec=stream.codec_context.name,
            pixels=str(stream.codec_context.pix_fmt),
            shape=stream.sample_aspect_ratio or Fraction(1),
            sound=[sound.codec_context.name for sound in film.streams.audio],
            subtitles=[text.codec_context.name for text in film.streams.subtitles],
            chapters=[chapter["metadata"].get("title", "") for chapter in film.chapters()],
            metadata=dict(film.metadata),
        )
