"""The daemon on a camera that plays a film and is connected while a file exists.

    python -m scripts.harness.endurance.plugged FILM FILE

Settings come from the environment, as for every command. It runs until SIGTERM.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2

from engines.contract import Image
from occlufix_vcam.client.client import ControlClient, ControlError
from occlufix_vcam.control.api import serve
from occlufix_vcam.core.settings import Settings, load_settings
from occlufix_vcam.core.state import StateFolder
from occlufix_vcam.core.telemetry import configure_logging
from occlufix_vcam.runtime.daemon import Daemon, Parts
from occlufix_vcam.sources import CameraInfo, CameraSource, SourceOptions
from occlufix_vcam.sources.camera import Camera
from occlufix_vcam.sources.clip import Clip
from scripts.harness.readers.session import background, wait_for

NAME = "film camera"
READY_WITHIN_S = 120.0


class FilmCapture:
    """cv2.VideoCapture of a film, at the film's pace."""

    def __init__(self, film: Path, plug: Path) -> None:
        self._film, self._plug = Clip(str(film), SourceOptions()), plug
        self._image: Image | None = None

    def isOpened(self) -> bool:  # noqa: N802  OpenCV's name
        return self._plug.exists()

    def grab(self) -> bool:
        while self._plug.exists():
            if (frame := self._film.read(0.1)) is not None:
                self._image = frame.image
                return True
        return False

    def retrieve(self) -> tuple[bool, Any]:
        return True, self._image

    def get(self, prop: int) -> float:
        width, height = self._film.size
        known = {cv2.CAP_PROP_FRAME_WIDTH: width, cv2.CAP_PROP_FRAME_HEIGHT: height, cv2.CAP_PROP_FPS: self._film.rate}
        return known.get(prop, 0)

    def set(self, prop: int, value: float) -> bool:
        return True

    def release(self) -> None:
        self._film.close()


def main(film: Path, plug: Path) -> None:
    def cameras() -> list[CameraInfo]:
        return [CameraInfo(0, NAME, str(plug), NAME)] if plug.exists() else []

    def open_camera(settings: Settings) -> CameraSource:
        options = SourceOptions(settings.width, settings.height, settings.rate)
        return Camera("auto", options, open_capture=lambda _: FilmCapture(film, plug), cameras=cameras)

    settings, state = load_settings({"sinks": ("pipewire",)}), StateFolder()
    with state.hold():
        configure_logging(state.log)
        daemon = Daemon(settings, Parts(open_camera=open_camera, find_camera=lambda _: NAME))
        signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
        with serve(daemon, state):
            daemon.run(on_running=lambda: print("ready", flush=True))


@contextmanager
def plugged(film: Path, plug: Path, environment: Mapping[str, str], log: Path) -> Iterator[ControlClient]:
    """Runs this file during the block, once its camera is listed and its networks are loaded; yields a client."""
    plug.touch()
    command = [sys.executable, "-m", "scripts.harness.endurance.plugged", str(film), str(plug)]
    with background(command, environment, log):
        wait_for(lambda: "ready" in log.read_text(errors="replace"), "the daemon", READY_WITHIN_S)
        with ControlClient(StateFolder(Path(environment["OCCLUFIX_STATE_DIR"]))) as client:
            wait_for(lambda: _has_networks(client), "the networks", READY_WITHIN_S)
            yield client


def _has_networks(client: ControlClient) -> bool:
    """Where the machine is busy, the daemon may answer late while it loads them."""
    with suppress(ControlError):
        return "restore" in client.status()["engine"]
    return False


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
