"""Checks with vivid as the physical camera."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from scripts.harness.in_machine.reading import opencv
from scripts.harness.in_machine.scene import (
    LOOPBACK,
    RATE,
    SIZE,
    VIVID,
    Scene,
    captures,
    run,
    until,
)

VIVID_DRIVER = Path("/sys/bus/platform/drivers/vivid")
ROUNDS = int(os.environ.get("ROUNDS", "3"))  # of disconnecting: seconds each


def colourful(picture: Any) -> bool:
    """Whether it shows vivid's colour bars; a placeholder frame has hardly any colour."""
    spread = picture.max(axis=2).astype(int) - picture.min(axis=2)
    return bool((spread > 100).mean() > 0.3)


def the_camera_is_never_our_own_and_opens_only_when_watched(scene: Scene) -> dict[str, Any]:
    scene.start("auto")
    scene.until(lambda status: status["state"] == "idle", "the idle state")
    status = scene.status()
    assert VIVID in status["camera"] and not status["camera_open"], status["camera"]
    with opencv() as read:
        seconds = until(lambda: (seen := read()) is not None and colourful(seen), "the camera's picture")
        assert scene.status()["camera_open"]
    closed = scene.until(lambda status: not status["camera_open"], "the camera to be closed")
    return {"seconds to the picture": seconds, "seconds until closed": closed}


def a_camera_unplugged_is_said_and_back_again_without_the_reader(scene: Scene) -> dict[str, Any]:
    scene.start("auto")
    gone, back = [], []
    with opencv() as read:

        def shows_camera() -> bool:
            picture = read()
            assert picture is not None, "the reader received no more frames"
            return colourful(picture)

        until(shows_camera, "the camera's picture")
        scene.until(lambda status: bool(status["engine"]), "all of the daemon")  # what it opens once is open then
        descriptors = open_files(scene)
        for _ in range(ROUNDS):
            (VIVID_DRIVER / "unbind").write_text("vivid.0")
            gone.append(until(lambda: not shows_camera(), "the placeholder frame"))
            (VIVID_DRIVER / "bind").write_text("vivid.0")
            back.append(until(shows_camera, "the camera's picture"))
        assert scene.status()["trouble"] == {}
        left = open_files(scene)
    assert left <= descriptors + 2, f"descriptors: {descriptors} before, {left} after {ROUNDS} rounds"
    files = [descriptors, left]
    return {"rounds": ROUNDS, "seconds until said": gone, "seconds until back": back, "descriptors": files}


def open_files(scene: Scene) -> int:
    assert scene.daemon is not None
    return len(list(Path(f"/proc/{scene.daemon.pid}/fd").iterdir()))


def the_node_is_free_after_a_kill(scene: Scene) -> dict[str, Any]:
    scene.start("auto")
    scene.end(signal.SIGKILL)
    assert not captures(LOOPBACK)
    return {}


def a_kept_format_is_said_before_it_is_tried(scene: Scene) -> dict[str, Any]:
    from occlufix_vcam.core.errors import SinkUnavailable
    from occlufix_vcam.sinks.opening import open_sink
    from occlufix_vcam.sinks.v4l2 import find_virtual_cameras

    scene.end(signal.SIGTERM)
    run("v4l2-ctl", "-d", LOOPBACK, "-c", "keep_format=1")
    other = ["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=5"]
    run(*other, "-frames:v", "2", "-pix_fmt", "rgb24", "-f", "v4l2", LOOPBACK)
    (place,) = find_virtual_cameras()
    assert "keeps the format" in place.problem, place
    try:
        open_sink("v4l2", size=SIZE, rate=RATE)
        raise AssertionError("it was opened")
    except SinkUnavailable as error:
        assert place.problem in error.message and place.hint == error.hint, error.message
    run("v4l2-ctl", "-d", LOOPBACK, "-c", "keep_format=0")
    (again,) = find_virtual_cameras()
    assert (again.problem, again.flaw) == ("", ""), again
    open_sink("v4l2", size=SIZE, rate=RATE).close()  # though ffmpeg, that ended, has left it neither camera nor output
    return {"said": place.problem}
