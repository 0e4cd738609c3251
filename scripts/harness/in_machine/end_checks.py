"""Checks that end the daemon, or the node's writer, again and again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from occlufix_vcam.system import v4l2
from scripts.harness.in_machine.reading import opencv
from scripts.harness.in_machine.scene import (
    CLIP_PICTURES,
    LOOPBACK,
    PICTURES,
    SIZE,
    Scene,
    captures,
    until,
)

RESTARTS, KILLS = 100, 50
#: Ends of the whole daemon, by the signal of `stop` and by kill -9: seconds each.
DAEMON_RESTARTS, DAEMON_KILLS = int(os.environ.get("RESTARTS", "2")), int(os.environ.get("KILLS", "2"))


def the_node_is_usable_after_every_end_of_the_daemon(scene: Scene) -> dict[str, Any]:
    """From its command line on, except for imports. Every other end comes while a program still reads."""
    from scripts.harness.readers import numbered

    scene.end(signal.SIGTERM)
    seconds = []
    for round_ in range(DAEMON_RESTARTS + DAEMON_KILLS):
        how = signal.SIGKILL if round_ >= DAEMON_RESTARTS else signal.SIGTERM
        seconds.append(scene.fork(scene.clip))
        with contextlib.ExitStack() as reading:
            read = reading.enter_context(opencv())
            numbers: list[int] = []

            def look(read: Callable[[], Any] = read, numbers: list[int] = numbers) -> bool:
                picture = read()
                number = numbered.read(picture[..., 1]) if picture is not None else None
                numbers += [] if number is None else [number]
                # If the clip was closed a moment before, it starts again: earlier frames do not count.
                return len(numbers) >= 3 and numbered.are_in_order(numbers[-3:], CLIP_PICTURES)

            until(look, f"numbered pictures in order in round {round_}")
            if round_ % 2:
                reading.close()
            code = scene.end(how)
        assert code in (0, -signal.SIGKILL), f"round {round_}: it ended with {code}"
        assert not captures(LOOPBACK), f"round {round_}: it is not free"
    left = v4l2.holders(LOOPBACK)
    assert left == [], f"left behind: {left}"
    told = {"restarts": DAEMON_RESTARTS, "kills": DAEMON_KILLS}
    return {**told, "seconds until listed": [min(seconds), sorted(seconds)[len(seconds) // 2], max(seconds)]}


def the_node_is_usable_after_every_end_of_its_writer(scene: Scene) -> dict[str, Any]:
    """Without the daemon around it, which takes half a minute to start here: 100 clean ends, 50 kills."""
    scene.end(signal.SIGTERM)
    for round_ in range(RESTARTS + KILLS):
        kill = round_ >= RESTARTS
        writer, told = fork_writer(number=round_)
        try:
            assert told == b"ok", f"round {round_}: {told.decode(errors='replace')}"
            assert captures(LOOPBACK), f"round {round_}: it is no camera"
        finally:
            os.kill(writer, signal.SIGKILL if kill else signal.SIGTERM)
            os.waitpid(writer, 0)
        assert not captures(LOOPBACK), f"round {round_}: it is not free"
    return {"clean ends": RESTARTS, "kills": KILLS}


def a_reader_that_stays_sees_the_next_daemon(scene: Scene) -> dict[str, Any]:
    from scripts.harness.readers import numbered

    width, height = SIZE
    film = Path("/run/film")
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "v4l2", "-i", LOOPBACK, "-vsync", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", "gray", "-flush_packets", "1", str(film)]

    def numbers(skip: int = 0) -> list[int]:
        """Numbers in the frames that have arrived, from byte `skip` on."""
        raw = np.fromfile(film, np.uint8, offset=skip) if film.exists() else np.empty(0, np.uint8)
        whole = raw[: raw.size // (width * height) * width * height].reshape(-1, height, width)
        return [number for picture in whole if (number := numbered.read(picture)) is not None]

    scene.end(signal.SIGTERM)
    scene.fork(scene.clip)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as reader:
        try:
            until(lambda: len(numbers()) > 2, "the first daemon's pictures")
            scene.end(signal.SIGTERM)
            skip = film.stat().st_size // (width * height) * width * height
            scene.fork(scene.clip)

            def shows_it() -> bool:
                seen = numbers(skip)  # the clip may start again meanwhile
                return len(seen) > PICTURES and numbered.are_in_order(seen[-5:], CLIP_PICTURES)

            seconds = until(shows_it, "the next one's pictures in order")
            assert reader.poll() is None, "the reader has ended"
        finally:
            reader.kill()
    return {"seconds": seconds}


def a_reader_that_stays_sees_the_next_writer(scene: Scene) -> dict[str, Any]:
    scene.end(signal.SIGTERM)
    from scripts.harness.readers import numbered

    writer, _ = fork_writer(number=1)
    with opencv() as read:
        try:
            until(lambda: numbered.read(read()[..., 1]) == 1, "the first writer's picture")
        finally:
            os.kill(writer, signal.SIGTERM)
            os.waitpid(writer, 0)
        writer, told = fork_writer(number=2)
        try:
            assert told == b"ok", told.decode(errors="replace")
            seconds = until(lambda: (seen := read()) is not None and numbered.read(seen[..., 1]) == 2, "the next one's")
        finally:
            os.kill(writer, signal.SIGTERM)
            os.waitpid(writer, 0)
    return {"seconds": seconds}


def fork_writer(number: int) -> tuple[int, bytes]:
    """Process that writes one numbered frame until it is ended, and its output afterwards."""
    from occlufix_vcam.core.frame import Frame
    from occlufix_vcam.sinks.opening import open_sink
    from scripts.harness.readers import numbered

    reading, writing = os.pipe()
    writer = os.fork()
    if writer == 0:
        said = b"ok"
        ended: list[int] = []
        signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
        try:
            sink = open_sink("v4l2", size=SIZE, rate=20.0)
            picture = numbered.stamp(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8), number)
            frame = Frame(picture, 0, 0.0)
            sink.send(frame)
            os.write(writing, said)
            while not ended:
                sink.send(frame)
                time.sleep(0.05)
            sink.close()
        except BaseException as error:  # noqa: BLE001  the parent reports it
            with contextlib.suppress(OSError):
                os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    told = os.read(reading, 4096)
    os.close(reading)
    return writer, told
