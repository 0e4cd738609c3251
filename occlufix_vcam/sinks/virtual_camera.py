"""Camera that Zoom, Teams, browsers and OBS list, through pyvirtualcam: the only way on Windows and macOS."""

from __future__ import annotations

import importlib
import logging
import sys
from types import ModuleType
from typing import Protocol

import cv2
import numpy as np

from engines.contract import Image
from engines.installing import install_extra
from occlufix_vcam.core.errors import SinkUnavailable
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.output_transform import OutputTransform, even_size
from occlufix_vcam.sinks import VirtualCameraInfo
from occlufix_vcam.sinks.places import named_places, open_first
from occlufix_vcam.sinks.v4l2 import find_virtual_cameras as loopback_nodes

log = logging.getLogger(__name__)

_INSTALL_HINTS = {
    "unitycapture": "install Unity Capture (github.com/schellingb/UnityCapture)",
    "obs": "install OBS Studio 26.1 or later and start its virtual camera once",
}
#: Names of the two kinds on Windows and macOS in other programs.
_NAMES = {"unitycapture": "Unity Video Capture", "obs": "OBS Virtual Camera"}


class PyvirtualcamCamera(Protocol):
    """The part of pyvirtualcam.Camera that is used here."""

    device: str
    backend: str

    def send(self, frame: Image) -> None: ...

    def close(self) -> None: ...


class VirtualCamera:
    """Virtual camera of a fixed size; frames of another size get black bars. The caller paces.

    `target` is "auto", a device path or a virtual camera's name. Raises SinkUnavailable with the reason of each one.
    """

    def __init__(
        self, target: str, *, size: tuple[int, int], rate: float, pyvirtualcam: ModuleType | None = None
    ) -> None:
        module = pyvirtualcam or _import_pyvirtualcam()
        even = even_size(size)
        _, (self._camera, self._planar) = open_first(
            named_places(target, find_virtual_cameras(module)),
            lambda place: _open(module, target, place, even, rate),
        )
        self._fit = OutputTransform(even)
        self.size = even
        self.name = f"{self._camera.device} ({self._camera.backend})"
        log.info("virtual camera opened: %s, %dx%d", self.name, *even)

    def send(self, frame: Frame) -> None:
        image = self._fit(frame.image)
        if self._planar is not None:
            cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420, dst=self._planar)
            image = self._planar
        try:
            self._camera.send(image)
        except (RuntimeError, OSError) as error:
            raise SinkUnavailable(
                f"the virtual camera {self.name} stopped: {error}", "start it again", code="virtual_camera_lost"
            ) from error

    def close(self) -> None:
        self._camera.close()


def _open(
    module: ModuleType, target: str, place: VirtualCameraInfo, size: tuple[int, int], rate: float
) -> tuple[PyvirtualcamCamera, Image | None]:
    """Camera of one place and, if it accepts no BGR, the I420 buffer to convert into. Raises OSError."""
    device = place.path or (None if target == "auto" else place.name)
    try:
        return _open_one(module, place.backend, device, size, rate)
    except RuntimeError as error:
        raise OSError(str(error)) from error


def _open_one(
    module: ModuleType, backend: str, device: str | None, size: tuple[int, int], rate: float
) -> tuple[PyvirtualcamCamera, Image | None]:
    width, height = size
    options = {"backend": backend, "device": device}
    try:
        return module.Camera(width, height, rate, fmt=module.PixelFormat.BGR, **options), None
    except RuntimeError as error:
        try:
            camera = module.Camera(width, height, rate, fmt=module.PixelFormat.I420, **options)
        except RuntimeError:
            raise error from None  # then the format is not the reason
        return camera, np.empty((height * 3 // 2, width), np.uint8)


def find_virtual_cameras(module: ModuleType | None = None) -> list[VirtualCameraInfo]:
    """Every virtual camera of this system and every missing kind, best first."""
    try:
        module = module or _import_pyvirtualcam()
    except SinkUnavailable as error:
        return [VirtualCameraInfo("pyvirtualcam", "", "", error.message, error.hint)]
    if sys.platform == "linux":
        return loopback_nodes()
    ranked = sorted(module.BACKENDS, key=lambda backend: backend != "unitycapture")
    return [_probe(module, backend) for backend in ranked]


def _probe(module: ModuleType, backend: str) -> VirtualCameraInfo:
    """Tries to open it: only that shows whether it is installed, and free."""
    name = _NAMES.get(backend, backend)
    try:
        module.Camera(640, 480, 30, fmt=module.PixelFormat.BGR, backend=backend).close()
    except RuntimeError as error:
        return VirtualCameraInfo(backend, name, "", str(error), _INSTALL_HINTS.get(backend, ""))
    return VirtualCameraInfo(backend, name, "")


def _import_pyvirtualcam() -> ModuleType:
    try:
        return importlib.import_module("pyvirtualcam")
    except ImportError as error:
        hint = f"`{install_extra('virtualcam')}`"
        raise SinkUnavailable(f"pyvirtualcam cannot be loaded: {error}", hint) from error
