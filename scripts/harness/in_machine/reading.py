"""Third-party programs that read the virtual camera in the machine, and what their frames prove."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scripts.harness.in_machine.scene import (
    CLIP_PICTURES,
    LOOPBACK,
    PATIENCE_S,
    PICTURES,
    SIZE,
    run,
    until,
)


def proved(pictures: list[Any]) -> dict[str, Any]:
    """Results that numbered BGR frames prove; raises if they do not."""
    from scripts.harness.readers import numbered

    read = [(number, picture) for picture in pictures if (number := numbered.read(picture[..., 1])) is not None]
    # A reader that starts as the clip is closed may see one of its last frames; then it starts again.
    again = [place for place, (number, _) in enumerate(read[:4]) if number == 0]
    read = read[again[-1] :] if again else read
    numbers = [number for number, _ in read]
    assert len(numbers) >= PICTURES, f"{len(numbers)} of {len(pictures)} frames have a number"
    steps = numbered.steps(numbers, CLIP_PICTURES)
    assert min(steps) >= 0 and max(steps) > 0, f"out of order: {numbers}"
    last = read[-1][1]
    height = last.shape[0]
    side = height // 6
    error = 0
    for place, rgb in enumerate(numbered.COLOURS_RGB.values()):
        seen = last[height - side // 2, int((place + 0.5) * side)][::-1]
        error = max(error, *(abs(int(a) - b) for a, b in zip(seen, rgb, strict=True)))
    assert error <= 12, f"a colour is off by {error}"
    return {"numbers": len(numbers), "colour error": error}


def by_v4l2_ctl(pictures: int) -> list[Any]:
    import cv2

    file = Path("/run/pictures")
    run("v4l2-ctl", "-d", LOOPBACK, "--stream-mmap=4", f"--stream-count={pictures}", f"--stream-to={file}")
    width, height = SIZE
    raw = np.fromfile(file, np.uint8).reshape(-1, height * 3 // 2, width)
    file.unlink()
    return [cv2.cvtColor(one, cv2.COLOR_YUV2BGR_I420) for one in raw]


def by_ffmpeg(pictures: int) -> list[Any]:
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "v4l2", "-i", LOOPBACK, "-vsync", "passthrough"]
    command += ["-frames:v", str(pictures), "-f", "rawvideo", "-pix_fmt", "bgr24", "-"]
    raw = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=True).stdout
    return list(np.frombuffer(raw, np.uint8).reshape(-1, SIZE[1], SIZE[0], 3))


@contextlib.contextmanager
def opencv(device: str = LOOPBACK) -> Iterator[Callable[[], Any]]:
    """Function that reads the next frame with OpenCV, as most Python programs do; None if there is none."""
    import cv2

    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "60")  # the emulated processor may stall for a long time
    capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
    assert capture.isOpened(), f"OpenCV cannot open {device}"
    try:
        yield lambda: capture.read()[1]
    finally:
        capture.release()


def first_with_number(read: Callable[[], Any]) -> float:
    from scripts.harness.readers import numbered

    return until(lambda: (seen := read()) is not None and numbered.read(seen[..., 1]) is not None, "a numbered frame")
