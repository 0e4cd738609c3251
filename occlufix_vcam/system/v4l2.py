"""Linux video nodes: which are cameras and which are inputs of a virtual camera.

Both ends of the pipeline need it: sources to leave out our own output, sinks to find it. Other systems have no such
nodes and the list is empty.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: Label under which every program lists our virtual camera.
OWN_LABEL = "OccluFix Camera"

_QUERYCAP, _GET_FORMAT = 0x80685600, 0xC0D05604
_OUTPUT_BUFFER = 2  # V4L2_BUF_TYPE_VIDEO_OUTPUT
_CAPTURE, _OUTPUT, _HAS_DEVICE_CAPS = 0x1, 0x2, 0x80000000


@dataclass(frozen=True, slots=True)
class VideoNode:
    """One /dev/videoN. `accessible` is False if this user may not open it; the rest is then a guess."""

    index: int
    path: str
    name: str
    loopback: bool
    captures: bool
    accepts: bool
    accessible: bool = True

    @property
    def is_ours(self) -> bool:
        # `insmod` cuts a label at its first space; of labels that are quoted one by one, the inner quotes are kept.
        name = self.name.strip('"')
        return self.loopback and (name.startswith(OWN_LABEL) or name == OWN_LABEL.split()[0])


def query_capabilities(path: str) -> tuple[str, int]:
    """Driver name and capability bits of a node. Raises OSError if it cannot be opened or is no video node."""
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        answer = bytearray(104)
        fcntl.ioctl(descriptor, _QUERYCAP, answer)
    finally:
        os.close(descriptor)
    whole, own = struct.unpack_from("<II", answer, 84)
    return answer[:16].split(b"\0")[0].decode(), own if whole & _HAS_DEVICE_CAPS else whole


def output_format(path: str) -> tuple[tuple[int, int], str] | None:
    """(width, height) and layout that a node was last set to accept; None if it does not report them."""
    import fcntl

    answer = bytearray(208)
    struct.pack_into("<I", answer, 0, _OUTPUT_BUFFER)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.ioctl(descriptor, _GET_FORMAT, answer)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    width, height = struct.unpack_from("<II", answer, 8)
    return (width, height), bytes(answer[16:20]).decode(errors="replace")


def is_exclusive(place: int, parameter: Path = Path("/sys/module/v4l2loopback/parameters/exclusive_caps")) -> bool:
    """Whether v4l2loopback was told to present its device number `place`, from 0 on, only as a camera."""
    told = _text(parameter).split(",")
    return told[place : place + 1] in (["Y"], ["1"])


def video_nodes(
    sysfs: Path = Path("/sys/class/video4linux"),
    query: Callable[[str], tuple[str, int]] = query_capabilities,
    *,
    virtual_only: bool = False,
) -> list[VideoNode]:
    """Every /dev/videoN, by number. Inspecting a node opens it, which wakes a camera; `virtual_only` wakes none."""
    if sys.platform != "linux" or not sysfs.is_dir():
        return []
    folders = [folder for folder in sysfs.iterdir() if folder.name.removeprefix("video").isdigit()]
    if virtual_only:
        folders = [folder for folder in folders if _is_virtual(folder)]
    return [_node(folder, query) for folder in sorted(folders, key=lambda folder: int(folder.name[5:]))]


def _node(folder: Path, query: Callable[[str], tuple[str, int]]) -> VideoNode:
    index, path, name = int(folder.name[5:]), f"/dev/{folder.name}", _text(folder / "name") or folder.name
    try:
        driver, bits = query(path)
    except OSError:
        # Without the capabilities: a webcam's first node captures, the others carry metadata; a device without hardware
        # behind it is a loopback.
        first = _text(folder / "index") in ("", "0")
        virtual = _is_virtual(folder)
        return VideoNode(index, path, name, virtual, first and not virtual, virtual, accessible=False)
    return VideoNode(index, path, name, driver == "v4l2 loopback", bool(bits & _CAPTURE), bool(bits & _OUTPUT))


def _is_virtual(folder: Path) -> bool:
    """Whether there is no hardware behind it."""
    return "/devices/virtual/" in str(folder.resolve())


def stable_paths(folder: Path = Path("/dev/v4l/by-id")) -> dict[str, str]:
    """For each node that has one, the link that names the device itself and not the order of connection."""
    try:
        links = sorted(folder.iterdir())
    except OSError:
        return {}
    return {os.path.realpath(link): str(link) for link in links}


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def holders(path: str, processes: Path = Path("/proc")) -> list[str]:
    """Other processes that have `path` open, as "name (pid)"; only those that this user may inspect."""
    target, found = os.path.realpath(path), []
    for folder in sorted(processes.glob("[0-9]*")):
        if folder.name == str(os.getpid()):
            continue
        try:
            # There are thousands of these links, so no Path for each of them.
            if any(os.readlink(link.path) == target for link in os.scandir(folder / "fd")):  # noqa: PTH115
                found.append(f"{_text(folder / 'comm') or 'a program'} ({folder.name})")
        except OSError:  # not ours to inspect, or just ended
            continue
    return found
