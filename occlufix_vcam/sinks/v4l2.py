"""Camera that programs on Linux list, through the kernel module v4l2loopback."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from engines.contract import Image
from occlufix_vcam.core.errors import SinkUnavailable, Trouble
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.output_transform import OutputTransform, even_size
from occlufix_vcam.core.placeholder import placeholder
from occlufix_vcam.sinks import VirtualCameraInfo
from occlufix_vcam.sinks.places import failed, named_places, open_first
from occlufix_vcam.sinks.v4l2_node import BYTES_OF_4_PIXELS, LoopbackNode, V4l2Node
from occlufix_vcam.sinks.v4l2_readers import Readers, WhoReads
from occlufix_vcam.system import v4l2
from occlufix_vcam.system.linux import WITHOUT_MODULE, this_machine

log = logging.getLogger(__name__)

_FROM_BGR = {"YU12": cv2.COLOR_BGR2YUV_I420, "YUYV": cv2.COLOR_BGR2YUV_YUY2}
_SETUP_HINT = "run `occlufix-vcam setup`, which installs and loads it"


class V4l2Camera:
    """Virtual camera of a fixed size; frames of another size get black bars. The caller paces.

    `target` is "auto", a device path or a virtual camera's name. The first frame is sent on creation: only then do
    programs list it. Raises SinkUnavailable with the reason of each node.
    """

    def __init__(
        self,
        target: str,
        *,
        size: tuple[int, int],
        rate: float,
        open_node: Callable[[str], V4l2Node] = LoopbackNode,
        watch: Callable[[str], WhoReads] = Readers,
    ) -> None:
        even = even_size(size)
        place, (self._node, self.size, self._layout) = open_first(
            named_places(target, find_virtual_cameras()),
            lambda place: _open_one(place.path, even, rate, open_node),
            _explained,
        )
        self.name = f"{place.path} (v4l2loopback)"
        self.flaw = Trouble(place.flaw, place.hint, code="virtual_camera_flawed" if place.flaw else "")
        self._fit = OutputTransform(self.size)
        width, height = self.size
        self._picture = np.empty(width * height * BYTES_OF_4_PIXELS[self._layout] // 4, np.uint8)
        self._shown: Frame | None = None
        self._readers: WhoReads | None = None
        try:
            self.send(Frame(placeholder(self.size, "starting"), index=-1, captured_at=-1.0))
            self._readers = watch(place.path)
        except BaseException:
            self.close()
            raise
        log.info("virtual camera opened: %s, %dx%d %s", self.name, *self.size, self._layout)

    def viewers(self) -> Sequence[str]:
        """Programs that have the node open, except those that only list it."""
        try:
            return self._readers.now(self._node.usage()) if self._readers else []
        except OSError as error:
            raise self._stopped(error) from error

    def send(self, frame: Frame) -> None:
        if frame is not self._shown:  # repeats the last frame if there is no new one
            self._convert(self._fit(frame.image))
            self._shown = frame
        try:
            self._node.write(self._picture)
        except OSError as error:
            raise self._stopped(error) from error

    def close(self) -> None:
        if self._readers is not None:
            self._readers.close()
        self._node.close()

    def _convert(self, image: Image) -> None:
        width, height = self.size
        shape = (height * 3 // 2, width) if self._layout == "YU12" else (height, width, 2)
        cv2.cvtColor(image, _FROM_BGR[self._layout], dst=self._picture.reshape(shape))

    def _stopped(self, error: OSError) -> SinkUnavailable:
        return SinkUnavailable(
            f"the virtual camera {self.name} stopped: {error}", "run `occlufix-vcam doctor`", code="virtual_camera_lost"
        )


def _open_one(
    path: str, size: tuple[int, int], rate: float, open_node: Callable[[str], V4l2Node]
) -> tuple[V4l2Node, tuple[int, int], str]:
    try:
        return _take(path, size, rate, open_node)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    _free(path, open_node)
    return _take(path, size, rate, open_node)


def _free(path: str, open_node: Callable[[str], V4l2Node]) -> None:
    """Wakes a node that is neither a camera nor an output, as 0.12 leaves it after programs that only write to it.

    A program that has asked to start counts as its writer, even if that fails, and once it is gone the node is an
    output again.
    """
    node = open_node(path)
    try:
        node.start()
    finally:
        node.close()
    with contextlib.suppress(OSError):
        v4l2.query_capabilities(path)  # the kernel uses what this call told it last


def _take(
    path: str, size: tuple[int, int], rate: float, open_node: Callable[[str], V4l2Node]
) -> tuple[V4l2Node, tuple[int, int], str]:
    node = open_node(path)
    try:
        for layout in BYTES_OF_4_PIXELS:
            granted = node.set_format(size, layout)
            if granted == (size, layout):
                break
        size, layout = granted
        if layout not in BYTES_OF_4_PIXELS:  # if its size is kept, our frames get bars
            raise _KeptFormatError(size, layout)
        node.set_rate(rate)
        node.start()
    except BaseException:
        node.close()
        raise
    return node, size, layout


def _explained(place: VirtualCameraInfo, error: OSError) -> VirtualCameraInfo:
    """What is wrong with a node that looked usable and did not open."""
    if isinstance(error, _KeptFormatError):
        return _kept(place, error.size, error.layout)
    if error.errno == errno.EBUSY:
        return _taken(place, ", ".join(v4l2.holders(place.path)) or "another program")
    return failed(place, error)


class _KeptFormatError(OSError):
    """The node has a fixed format that we cannot produce."""

    def __init__(self, size: tuple[int, int], layout: str) -> None:
        super().__init__(errno.EBUSY, "it keeps another format")
        self.size, self.layout = size, layout


def _kept(place: VirtualCameraInfo, size: tuple[int, int], layout: str) -> VirtualCameraInfo:
    programs = ", ".join(v4l2.holders(place.path)) or "no program"
    problem = f"it keeps the format {layout} {size[0]}x{size[1]} of an earlier program"
    hint = f"`v4l2-ctl -d {place.path} -c keep_format=0`, after closing {programs}"
    return VirtualCameraInfo(place.backend, place.name, place.path, problem, hint)


def _taken(place: VirtualCameraInfo, programs: str) -> VirtualCameraInfo:
    hint = "close that program, or load v4l2loopback with a second device (`devices=2`)"
    return VirtualCameraInfo(place.backend, place.name, place.path, f"{programs} uses it", hint)


def find_virtual_cameras() -> list[VirtualCameraInfo]:
    """Every node of v4l2loopback, best first; one entry that reports it if there is none."""
    nodes = [node for node in v4l2.video_nodes(virtual_only=True) if node.loopback]
    if not nodes:
        problem = "the kernel module v4l2loopback is not loaded"
        hint = _SETUP_HINT if this_machine().can_load else WITHOUT_MODULE
        return [VirtualCameraInfo("v4l2loopback", "", "", problem, hint)]
    exclusive = {node.path: v4l2.is_exclusive(place) for place, node in enumerate(nodes)}
    return [_look_at(node, exclusive[node.path]) for node in sorted(nodes, key=lambda node: not node.is_ours)]


def _look_at(node: v4l2.VideoNode, exclusive: bool) -> VirtualCameraInfo:
    place = VirtualCameraInfo("v4l2loopback", node.name, node.path)
    if not node.accessible:
        problem = "no permission to write to it"
        hint = "join the video group: `sudo usermod -aG video $USER`, then log in again"
        return VirtualCameraInfo(place.backend, place.name, place.path, problem, hint)
    # A node that accepts no frames is in use, or an earlier program ended without notice and no program holds it.
    if not node.accepts and (programs := v4l2.holders(node.path)):
        return _taken(place, ", ".join(programs))
    # A node that keeps an earlier program's format appears as a camera before any program writes to it.
    kept = v4l2.output_format(node.path) if exclusive and node.captures else None
    if kept is not None and kept[1] not in BYTES_OF_4_PIXELS:
        return _kept(place, *kept)
    flaw = ""
    if node.captures and node.accepts and not exclusive:
        flaw = "browsers do not list it: v4l2loopback was loaded without exclusive_caps=1"
    elif node.is_ours and node.name != v4l2.OWN_LABEL:
        flaw = f'it is listed as "{node.name}": v4l2loopback was loaded with another label'
    hint = "run `occlufix-vcam setup` to reload it" if flaw else ""
    return VirtualCameraInfo(place.backend, place.name, place.path, "", hint, flaw)
