"""Camera without a kernel module: a node in the user's PipeWire session, for browsers, OBS and sandboxes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np

from engines.contract import Image
from occlufix_vcam.core.errors import SinkUnavailable, Trouble
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.output_transform import OutputTransform
from occlufix_vcam.sinks import VirtualCameraInfo
from occlufix_vcam.sinks.libpipewire import PipeWireError
from occlufix_vcam.sinks.pipewire_node import RESTART_HINT, CameraNode, Session
from occlufix_vcam.system.camera_portal import Refusals, refusal, refused_programs
from occlufix_vcam.system.v4l2 import OWN_LABEL

log = logging.getLogger(__name__)


class PipeWireNode(Protocol):
    """The part of pipewire_node.CameraNode that is used here."""

    @property
    def watched(self) -> bool: ...

    @property
    def lost(self) -> str: ...

    def readers(self) -> list[str]: ...

    def send(self, picture: Image) -> bool: ...

    def close(self) -> None: ...


class PipeWireCamera:
    """Camera of a fixed size in PipeWire; frames of another size get black bars. The caller paces.

    Nothing is converted or copied while no program reads. `target` is "auto" or our own name. Raises SinkUnavailable.
    """

    def __init__(
        self,
        target: str,
        *,
        size: tuple[int, int],
        rate: float,
        open_node: Callable[[str, tuple[int, int], float], PipeWireNode] = CameraNode,
        refused: Callable[[], list[str]] = refused_programs,
    ) -> None:
        if target not in ("auto", OWN_LABEL):
            raise SinkUnavailable(f"OccluFix Camera has no PipeWire camera {target}", "use `--sink pipewire`")
        # Two pixels of a row share their colour.
        self.size = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        self._fit = OutputTransform(self.size)
        self._picture: Image = np.empty((self.size[1], self.size[0], 2), np.uint8)
        self._shown: Frame | None = None
        self.name = f"{OWN_LABEL} (PipeWire)"
        try:
            self._node = open_node(OWN_LABEL, self.size, rate)
        except PipeWireError as error:
            raise SinkUnavailable(str(error), error.hint, code="no_pipewire") from error
        self._refusals = Refusals(refused)
        log.info("camera in PipeWire opened: %dx%d", *self.size)

    @property
    def flaw(self) -> Trouble:
        """Programs that the desktop refuses this camera, as far as known."""
        if not (programs := self._refusals.newest()):
            return Trouble("")
        return Trouble(*refusal(programs), code="programs_refused", values={"programs": ", ".join(programs)})

    def viewers(self) -> list[str]:
        """Current readers: "program (pid)", as far as PipeWire tells. Raises SinkUnavailable if the camera is gone."""
        self._check()
        return (self._node.readers() or ["a program"]) if self._node.watched else []

    def send(self, frame: Frame) -> None:
        self._check()
        if not self._node.watched:
            return
        if frame is not self._shown:  # repeats the last frame if there is no new one
            cv2.cvtColor(self._fit(frame.image), cv2.COLOR_BGR2YUV_YUY2, dst=self._picture)
            self._shown = frame
        self._node.send(self._picture)

    def close(self) -> None:
        self._node.close()
        self._refusals.close()

    def _check(self) -> None:
        if self._node.lost:
            raise SinkUnavailable(
                f"the camera in PipeWire is gone: {self._node.lost}", RESTART_HINT, code="virtual_camera_lost"
            )


def find_virtual_cameras(
    open_session: Callable[[], Session] = Session, refused: Callable[[], list[str]] = refused_programs
) -> list[VirtualCameraInfo]:
    """PipeWire's camera on this system: one entry on Linux, none elsewhere."""
    if sys.platform != "linux":
        return []
    name = f"{OWN_LABEL} in PipeWire"
    try:
        open_session().close()
    except PipeWireError as error:
        return [VirtualCameraInfo("pipewire", name, "", str(error), error.hint)]
    flaw, hint = refusal(refused())
    return [VirtualCameraInfo("pipewire", name, "", "", hint, flaw)]
