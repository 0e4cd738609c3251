"""Rounds in which the camera disconnects and returns."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from occlufix_vcam.core.settings import Settings
from occlufix_vcam.runtime.daemon import Daemon, Parts
from occlufix_vcam.sources import CameraInfo, CameraSource, SourceOptions
from occlufix_vcam.sources.camera import Camera
from scripts.harness.endurance.scene import RATE, SIZE, Scene, read_in_order, wait_for_placeholder
from scripts.harness.endurance.tally import Tally
from scripts.harness.readers import numbered, session


class Plug:
    """Camera of numbered frames that can be disconnected; it replaces OpenCV's capture and the list of cameras.

    Its failures alternate, as real ones do: missing from the list; only a driver error such as EIO; in use by another
    program when it returns; another size when it returns; silent.
    """

    WAYS = ("gone", "error", "busy", "other size", "gone", "silent")

    def __init__(self, file: Path) -> None:
        file.touch()
        self._camera = CameraInfo(0, "enduring camera", str(file), "enduring camera")
        self.way = ""
        self._out = threading.Event()
        self._busy = 0
        self._size = SIZE
        self._began = time.monotonic()
        self._shots: dict[tuple[int, int], Any] = {}

    def pull(self, way: str) -> None:
        self.way = way
        self._out.set()

    def put_back(self) -> None:
        self._busy = 1 if self.way == "busy" else 0
        self._size = (480, 270) if self.way == "other size" else SIZE
        self._out.clear()

    def cameras(self) -> list[CameraInfo]:
        listed = not self._out.is_set() or self.way in ("error", "silent")
        return [self._camera] if listed else []

    def open(self, _: CameraInfo) -> _Capture:
        self._busy -= 1
        return _Capture(self, opens=not self._out.is_set() and self._busy < 0)

    def grab(self) -> bool:
        """Whether the driver has a frame; blocks until then, as drivers do."""
        if self._out.is_set():
            while self.way == "silent" and self._out.is_set():
                time.sleep(0.05)
            return False
        time.sleep(1 / RATE)
        return True

    def picture(self) -> Any:
        number = int((time.monotonic() - self._began) * RATE) % numbered.MANY
        blank = self._shots.setdefault(self._size, np.full((self._size[1], self._size[0], 3), 90, np.uint8))
        return numbered.stamp(blank, number)

    @property
    def size(self) -> tuple[int, int]:
        return self._size


class _Capture:
    """cv2.VideoCapture of a Plug."""

    def __init__(self, plug: Plug, opens: bool) -> None:
        self._plug, self._opens = plug, opens

    def isOpened(self) -> bool:  # noqa: N802  OpenCV's name
        return self._opens

    def grab(self) -> bool:
        return self._plug.grab()

    def retrieve(self) -> tuple[bool, Any]:
        return True, self._plug.picture()

    def get(self, prop: int) -> float:
        import cv2

        width, height = self._plug.size
        return {cv2.CAP_PROP_FRAME_WIDTH: width, cv2.CAP_PROP_FRAME_HEIGHT: height, cv2.CAP_PROP_FPS: RATE}.get(prop, 0)

    def set(self, prop: int, value: float) -> bool:
        return True

    def release(self) -> None:
        return


def replug_again_and_again(scene: Scene, rounds: int) -> Tally:
    """Disconnects and reconnects the camera of one daemon in this process, with one reader that stays."""
    plug = Plug(scene.folder / "camera")

    def open_camera(settings: Settings) -> CameraSource:
        options = SourceOptions(*SIZE, RATE)
        return Camera(settings.source, options, open_capture=plug.open, cameras=plug.cameras)

    parts = Parts(open_camera=open_camera, find_camera=lambda _: "enduring camera")
    settings = Settings().but(sinks=("pipewire",), width=SIZE[0], height=SIZE[1], rate=RATE, backend="fake")
    daemon = Daemon(settings, parts)
    here = psutil.Process()

    def count() -> dict[str, int]:
        return {**scene.count(), "daemon descriptors": here.num_fds(), "daemon threads": here.num_threads()}

    tally = Tally()
    with _in_session(scene.environment), _running(daemon):
        session.wait_for(lambda: daemon.state == "idle", "the daemon")
        with scene.reader() as reader:
            read_in_order(reader, numbered.MANY)
            for number in range(rounds + len(Plug.WAYS)):
                if number == len(Plug.WAYS):  # each kind of failure occurred once
                    tally = Tally(before=count())
                with tally.round():
                    plug.pull(Plug.WAYS[number % len(Plug.WAYS)])
                    tally.note(said=wait_for_placeholder(reader))
                    plug.put_back()
                    tally.note(back=read_in_order(reader, numbered.MANY))
            session.wait_for(lambda: not daemon.status()["trouble"], "the end of all trouble")
            scene.settle(tally, count)
    return tally


@contextmanager
def _in_session(environment: Mapping[str, str]) -> Iterator[None]:
    """Adds this process to the session during the block."""
    names = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "OCCLUFIX_FACES_DIR")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: environment[name] for name in names})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({name: value} if value is not None else {})


@contextmanager
def _running(daemon: Daemon) -> Iterator[None]:
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        yield
    finally:
        daemon.stop()
        thread.join()
