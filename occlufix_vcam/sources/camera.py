"""Physical camera: finds it by index, name or path, opens it in its best format, watches it, and reports its loss."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import cv2

from engines.contract import Image
from engines.installing import install_package
from occlufix_vcam.core.errors import CameraBusy, CameraLost, CameraNotFound, DeviceError
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.handoff import Latest
from occlufix_vcam.core.media.pictures import to_bgr
from occlufix_vcam.sources import CameraInfo, SourceOptions
from occlufix_vcam.sources.watchdog import Frozen, RateMeter
from occlufix_vcam.system import v4l2

log = logging.getLogger(__name__)

_API = {"linux": cv2.CAP_V4L2, "win32": cv2.CAP_MSMF, "darwin": cv2.CAP_AVFOUNDATION}.get(sys.platform, cv2.CAP_ANY)
_MJPG, _RAW = (int(cv2.VideoWriter.fourcc(*code)) for code in ("MJPG", "YUYV"))

#: Names of the virtual cameras on other systems that receive our own frames.
_VIRTUAL_NAMES = (v4l2.OWN_LABEL, "OBS Virtual Camera", "Unity Video Capture")

#: Where a system keeps programs from cameras.
_PRIVACY = {"win32": "Settings", "darwin": "System Settings"}

#: A camera may take seconds to start; one that has delivered frames and is silent for this long is lost.
_FIRST_PICTURE_TIMEOUT, _SILENCE_TIMEOUT = 5.0, 3.0
#: A pixel format that delivers less than this share of the requested rate makes us try the other one, which must
#: deliver this much more to be kept.
_SLOW, _BETTER = 0.8, 1.2
#: Broken frames in a row (a bad USB cable) after which a camera counts as lost.
_MOST_BROKEN_IN_A_ROW = 30


class VideoCapture(Protocol):
    """The part of cv2.VideoCapture that is used here."""

    def isOpened(self) -> bool: ...  # noqa: N802 - OpenCV's name

    def grab(self) -> bool: ...

    def retrieve(self) -> tuple[bool, Image]: ...

    def get(self, prop: int) -> float: ...

    def set(self, prop: int, value: float) -> bool: ...

    def release(self) -> None: ...


def open_capture(camera: CameraInfo) -> VideoCapture:
    """Opens the camera through OpenCV; an OpenCV error gives a capture that is not open."""
    # For this long the driver is waited for, and the camera not free for another attempt.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(round(_SILENCE_TIMEOUT)))
    where: Any = camera.path if sys.platform == "linux" else camera.index
    return cast(VideoCapture, cv2.VideoCapture(where, _API))


def find_cameras() -> list[CameraInfo]:
    """Cameras that capture, by index; no device that programs write to."""
    if sys.platform == "linux":
        links = v4l2.stable_paths()
        nodes = [node for node in v4l2.video_nodes() if node.captures and not node.accepts and not node.is_ours]
        return [CameraInfo(node.index, node.name, node.path, links.get(node.path, node.path)) for node in nodes]
    try:
        library = importlib.import_module("cv2_enumerate_cameras")
    except ImportError as error:
        raise DeviceError(f"cannot list cameras: {error}", f"`{install_package('cv2-enumerate-cameras')}`") from error
    listed = library.enumerate_cameras(_API)
    found = [CameraInfo(each.index, each.name, each.path or "", each.name) for each in listed]
    return [camera for camera in found if not camera.name.startswith(_VIRTUAL_NAMES)]


class Camera:
    """Reads in a background thread: a driver may block for 10 s, and `read` must not.

    The newest frame wins, so that no driver queue makes frames old. `rate` is measured over the last 60 frames; before
    that, it is what the driver announced. Drivers announce rates that they do not reach: a pixel format that turns out
    too slow is compared with the other one, and the better one is remembered.
    """

    #: Better pixel format by camera: what was compared once is not compared again.
    _better_format: ClassVar[dict[str, int]] = {}

    def __init__(
        self,
        target: str,
        options: SourceOptions,
        *,
        open_capture: Callable[[CameraInfo], VideoCapture] = open_capture,
        cameras: Callable[[], list[CameraInfo]] = find_cameras,
        first_picture_timeout: float = _FIRST_PICTURE_TIMEOUT,
        silence_timeout: float = _SILENCE_TIMEOUT,
    ) -> None:
        self._info = choose_camera(target, cameras())
        self.identity = self._info.identity or target
        self._options = options
        self.description = self._info.description
        self._silence_timeout = silence_timeout
        self._capture = open_capture(self._info)
        if not self._capture.isOpened():
            self._capture.release()
            raise _why_not(self._info)
        self.rate = _negotiate(self._capture, options, self._better_format.get(self.identity))
        self._newest: Latest[Frame] = Latest()
        self._stop = threading.Event()
        self._lost_because = ""
        self._slow_format: tuple[int, float] | None = None
        # A daemon thread, because the driver may hold it long after `close`; only it releases the camera.
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()
        first = self._first_picture(first_picture_timeout)
        self._waiting: Frame | None = first
        self._last_at = time.monotonic()
        self.size = (first.image.shape[1], first.image.shape[0])
        log.info("camera opened: %dx%d, %.0f frames per second announced", *self.size, self.rate)

    def _first_picture(self, timeout: float) -> Frame:
        first = self._newest.take(timeout)
        if first is None:
            self.close()
            # Some drivers let two programs open a camera, and only refuse to stream.
            raise _why_not(self._info)
        return first

    def read(self, timeout: float) -> Frame | None:
        frame = self._waiting or self._newest.take(timeout)
        self._waiting = None
        now = time.monotonic()
        if frame is not None:
            self._last_at = now
            return frame
        if not self._lost_because and now - self._last_at > self._silence_timeout:
            self._lost_because = f"it sent no frame for {self._silence_timeout:.0f} s"
        if self._lost_because:
            raise CameraLost(
                f"the camera {self.description} is gone: {self._lost_because}",
                "reconnect it, or choose another",
                code="camera_gone",
                camera=self._info.name,
            )
        return None

    def close(self) -> None:
        self._stop.set()
        self._newest.close()
        self._thread.join(0.5)

    def _run(self) -> None:
        pace, frozen = RateMeter(), Frozen()
        index = broken = 0
        try:
            while not self._stop.is_set() and broken < _MOST_BROKEN_IN_A_ROW:
                if not self._capture.grab():  # `isOpened` stays true when a camera is disconnected
                    self._lost_because = "it was disconnected or switched off"
                    return
                captured_at = time.monotonic()
                decoded, image = self._capture.retrieve()
                broken = 0 if decoded else broken + 1
                if decoded:
                    self._newest.put(Frame(to_bgr(image), index, captured_at))
                    index += 1
                    if frozen.note(image, captured_at):
                        self._lost_because = "it keeps sending the same frame"
                        return
                pace.note(captured_at)
                self.rate = pace.rate or self.rate
                if pace.is_sure and self.identity not in self._better_format:
                    self._compare_formats(pace)
            self._lost_because = "its frames cannot be decoded" if broken else "it is closed"
        except (cv2.error, DeviceError) as error:
            self._lost_because = str(error).splitlines()[0]
        finally:
            self._capture.release()
            self._newest.close()

    def _compare_formats(self, pace: RateMeter) -> None:
        """Called when a format has been measured: tries the other one, or settles for the better of both."""
        used, first = int(self._capture.get(cv2.CAP_PROP_FOURCC)), self._slow_format
        if first is None and pace.rate < _SLOW * self._options.rate:
            self._slow_format = used, pace.rate
            if self._capture.set(cv2.CAP_PROP_FOURCC, _MJPG if used != _MJPG else _RAW):
                _ask(self._capture, self._options)
                pace.forget()
                return
        elif first is not None and pace.rate < _BETTER * first[1]:
            used = first[0]
            self._capture.set(cv2.CAP_PROP_FOURCC, used)
            _ask(self._capture, self._options)
            pace.forget()
        self._better_format[self.identity] = used
        log.info("the camera sends %.1f frames per second", pace.rate)


def choose_camera(target: str, cameras: list[CameraInfo]) -> CameraInfo:
    """Camera by "camera" or "auto" (the first), index, path or part of a name. Raises CameraNotFound."""
    if target in ("auto", "camera"):
        if cameras:
            return cameras[0]
        raise CameraNotFound("there is no camera", "connect one, or use `--source demo`", code="no_camera")
    if target.isdigit():
        matches = [camera for camera in cameras if camera.index == int(target)]
    elif target.startswith("/"):
        return _by_path(target, cameras)
    else:
        wanted = target.casefold()
        matches = [camera for camera in cameras if camera.name.casefold() == wanted]
        matches = matches or [camera for camera in cameras if wanted in camera.name.casefold()]
    if not matches:
        raise _not_found(target, cameras)
    return matches[0]


def _by_path(path: str, cameras: list[CameraInfo]) -> CameraInfo:
    device = os.path.realpath(path)
    if any(node.path == device and node.is_ours for node in v4l2.video_nodes()):
        raise CameraNotFound(
            f"{path} is the virtual camera's own output", "choose the physical camera", code="own_output"
        )
    for camera in cameras:
        if os.path.realpath(camera.path) == device:
            return camera
    if not Path(device).exists():
        raise _not_found(path, cameras)
    return CameraInfo(-1, path, device, path)  # not a known camera, but requested by its path


def _not_found(target: str, cameras: list[CameraInfo]) -> CameraNotFound:
    there = ", ".join(f"{camera.index} ({camera.name})" for camera in cameras)
    return CameraNotFound(
        f"there is no camera {target!r}; " + (f"there are: {there}" if there else "none is connected"),
        "choose one of them, or use `--source demo`" if there else "connect one, or use `--source demo`",
        code="no_such_camera",
        camera=target,
    )


def _why_not(camera: CameraInfo) -> DeviceError:
    """Error that says why a listed camera cannot be used."""
    if place := _PRIVACY.get(sys.platform):
        return CameraBusy(
            f"the camera {camera.name} sends no frames; another program may be using it",
            f"close other programs that use it, and allow camera access in {place} > Privacy > Camera",
            code="camera_busy",
            camera=camera.name,
        )
    if not Path(camera.path).exists():
        return CameraNotFound(
            f"the camera {camera.name} ({camera.path}) is gone", "reconnect it", code="camera_gone", camera=camera.name
        )
    if not os.access(camera.path, os.R_OK | os.W_OK):
        hint = "join the video group: `sudo usermod -aG video $USER`, then log in again"
        message = f"no permission to use the camera {camera.name} ({camera.path})"
        return DeviceError(message, hint, code="camera_forbidden", camera=camera.name)
    programs = v4l2.holders(camera.path)
    if programs:
        users = ", ".join(programs)
        return CameraBusy(
            f"the camera {camera.name} ({camera.path}) is in use by {users}",
            "close that program, or choose another camera with `--source`",
            code="camera_in_use",
            camera=camera.name,
            programs=users,
        )
    return DeviceError(
        f"the camera {camera.name} ({camera.path}) opens but sends no frames",
        "reconnect it, or choose another with `--source`",
        code="camera_silent",
        camera=camera.name,
    )


def _negotiate(capture: VideoCapture, options: SourceOptions, known_format: int | None) -> float:
    """Requests size and rate; uses MJPG if the raw format is smaller or slower. Returns the rate."""
    if known_format is not None and capture.set(cv2.CAP_PROP_FOURCC, known_format):
        _ask(capture, options)
    else:
        _take_better_format(capture, options)
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if 1 <= rate <= 240 else options.rate


def _take_better_format(capture: VideoCapture, options: SourceOptions) -> None:
    """Picks the better format by what the driver announces."""
    raw_format = capture.get(cv2.CAP_PROP_FOURCC)
    raw = _ask(capture, options)
    if raw < _wish(options) and capture.set(cv2.CAP_PROP_FOURCC, _MJPG):
        packed = _ask(capture, options)
        if packed <= raw:
            capture.set(cv2.CAP_PROP_FOURCC, raw_format)
            _ask(capture, options)


def _wish(options: SourceOptions) -> tuple[float, float]:
    """Result of `_ask` if everything is granted, with some tolerance for the rate: pixels first, then frames."""
    return float(options.width * options.height), 0.95 * options.rate


def _ask(capture: VideoCapture, options: SourceOptions) -> tuple[float, float]:
    """Sets size and rate; returns the pixels and rate granted, at most what was requested."""
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, options.width)
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, options.height)
    capture.set(cv2.CAP_PROP_FPS, options.rate)
    pixels = capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    return min(pixels, float(options.width * options.height)), min(capture.get(cv2.CAP_PROP_FPS), options.rate)
