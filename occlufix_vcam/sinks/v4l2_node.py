"""v4l2loopback node from its writer's side: a few ioctls of Linux' V4L2, and frames through write(2).

No library is used because existing ones reject a node that is writable: after a clean exit of an earlier writer,
v4l2loopback 0.12 no longer announces it as an output.
"""

from __future__ import annotations

import errno
import os
import select
import struct
from typing import Protocol

from engines.contract import Image

#: The two layouts that every program reads, and the bytes of two pixels of a row by two rows.
BYTES_OF_4_PIXELS = {"YU12": 6, "YUYV": 8}

_READ, _WRITE = 2, 1
_OUTPUT = 2  # V4L2_BUF_TYPE_VIDEO_OUTPUT
_NO_INTERLACING = 1
#: Values are those of cv2: BT.601, 16 to 235. `_EXTENDED` says that these fields are set.
_SRGB, _BT601, _LIMITED, _EXTENDED = 8, 1, 2, 0xFEEDCAFE
#: v4l2loopback's own event, from 0.13 on: the number of readers that accept frames now.
_USAGE_EVENT, _TELL_AT_ONCE = 0x08000000 + 0x08E00000 + 1, 1


def _request(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | ord("V") << 8 | number


_SET_FORMAT = _request(_READ | _WRITE, 5, 208)
_SET_RATE = _request(_READ | _WRITE, 22, 204)
_STREAM_ON = _request(_WRITE, 18, 4)
_SUBSCRIBE = _request(_WRITE, 90, 32)
_TAKE_EVENT = _request(_READ, 89, 136)


class V4l2Node(Protocol):
    """Operations of a node that the sink needs. All raise OSError."""

    def set_format(self, size: tuple[int, int], layout: str) -> tuple[tuple[int, int], str]:
        """Requests (width, height) and a layout; returns what the node then has."""
        ...

    def set_rate(self, rate: float) -> None: ...

    def start(self) -> None: ...

    def write(self, picture: Image) -> None: ...

    def usage(self) -> int | None:
        """Number of readers that accept frames, if it changed and the module reports it."""
        ...

    def close(self) -> None: ...


class LoopbackNode:
    """Open /dev/videoN of v4l2loopback. Used by one thread."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._events: select.poll | None = None
        if self._ask(_SUBSCRIBE, struct.pack("<III20x", _USAGE_EVENT, 0, _TELL_AT_ONCE)):
            self._events = select.poll()
            self._events.register(self._file, select.POLLPRI)

    def set_format(self, size: tuple[int, int], layout: str) -> tuple[tuple[int, int], str]:
        width, height = size
        length = width * height * BYTES_OF_4_PIXELS[layout] // 4
        row = width if layout == "YU12" else 2 * width
        code = int.from_bytes(layout.encode(), "little")
        colours = (_SRGB, _EXTENDED, 0, _BT601, _LIMITED, _SRGB)
        answer = bytearray(208)
        struct.pack_into("<I4x12I", answer, 0, _OUTPUT, width, height, code, _NO_INTERLACING, row, length, *colours)
        self._tell(_SET_FORMAT, answer)
        width, height = struct.unpack_from("<II", answer, 8)
        return (width, height), bytes(answer[16:20]).decode(errors="replace")

    def set_rate(self, rate: float) -> None:
        answer = bytearray(204)
        struct.pack_into("<IIIII", answer, 0, _OUTPUT, 0, 0, 1000, round(1000 * rate))
        self._tell(_SET_RATE, answer)

    def start(self) -> None:
        try:
            # This call, not the first frame, makes 0.12 remember who the writer is, and forget it at the end.
            self._tell(_STREAM_ON, bytearray(struct.pack("<I", _OUTPUT)))
        except OSError as error:
            if error.errno != errno.EINVAL:  # newer versions require buffers for it, which write(2) does not use
                raise

    def write(self, picture: Image) -> None:
        data = picture.reshape(-1).data
        written = os.write(self._file, data)
        if written != len(data):
            raise OSError(errno.EIO, f"it took {written} of {len(data)} bytes")

    def usage(self) -> int | None:
        count = None
        while self._events is not None and self._events.poll(0):
            event = bytearray(136)
            self._tell(_TAKE_EVENT, event)
            kind, count = struct.unpack_from("<I4xI", event)
            count = count if kind == _USAGE_EVENT else None
        return count

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _tell(self, request: int, argument: bytearray) -> None:
        import fcntl  # not on Windows, where this module is only imported

        fcntl.ioctl(self._file, request, argument)

    def _ask(self, request: int, argument: bytes) -> bool:
        try:
            self._tell(request, bytearray(argument))
        except OSError:
            return False
        return True
