"""GStreamer as a reader that receives every frame: the numbers, and the arrival times."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from engines.contract import Image
from scripts.harness.readers.session import background

DEBIAN_PACKAGES = ("gstreamer1.0-tools", "gstreamer1.0-pipewire", "gstreamer1.0-plugins-base")
WITHIN_S = 15.0


def missing() -> str:
    """What is not installed; "" if everything is."""
    if shutil.which("gst-inspect-1.0") is None:
        return "gstreamer1.0-tools"
    there = subprocess.run(["gst-inspect-1.0", "pipewiresrc"], capture_output=True).returncode == 0
    return "" if there else "gstreamer1.0-pipewire"


class Film:
    """Frames as they arrive: (time.monotonic() of the last byte, YUY2 frame HxWx2)."""

    def __init__(self, pipe: int, size: tuple[int, int]) -> None:
        self.opened_at = time.monotonic()
        self._shape = (size[1], size[0], 2)
        self._pictures: queue.Queue[tuple[float, Image] | None] = queue.Queue()
        self.thread = threading.Thread(target=self._read, args=(pipe,))
        self.thread.start()

    def next(self, within: float = WITHIN_S) -> tuple[float, Image]:
        """Next frame. Raises TimeoutError if none comes, EOFError if none will."""
        try:
            item = self._pictures.get(timeout=within)
        except queue.Empty:
            raise TimeoutError(f"no frame within {within:.0f} s") from None
        if item is None:
            raise EOFError("the reader ended")
        return item

    def _read(self, pipe: int) -> None:
        with os.fdopen(pipe, "rb", buffering=0) as stream:
            while True:
                picture = np.empty(self._shape, np.uint8)
                view, filled = memoryview(picture.reshape(-1)), 0
                while filled < picture.nbytes:
                    read = stream.readinto(view[filled:])
                    if not read:
                        self._pictures.put(None)
                        return
                    filled += read
                self._pictures.put((time.monotonic(), picture))


@contextmanager
def film(environment: Mapping[str, str], log: Path, size: tuple[int, int] = (1280, 720)) -> Iterator[Film]:
    """Program that reads the camera during the block."""
    ours, theirs = os.pipe()
    caps = f"video/x-raw,format=YUY2,width={size[0]},height={size[1]}"
    command = ["gst-launch-1.0", "-q", "pipewiresrc", "target-object=occlufix-camera", "!", caps, "!"]
    command += ["fdsink", f"fd={theirs}", "sync=false"]
    with background(command, environment, log, keep=(theirs,)):
        os.close(theirs)
        watching = Film(ours, size)
        yield watching
    watching.thread.join()
