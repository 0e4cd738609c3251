"""How each program is started unattended so that it shows the camera: the PipeWire one, or that of a V4L2 node."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripts.harness.readers.programs import linphone, obs

#: A second Debian whose programs and PipeWire are used instead: the folder that debootstrap made.
ROOT_VARIABLE = "OCCLUFIX_PROGRAMS_ROOT"
#: The camera's name in PipeWire.
NODE = "occlufix-camera"

_SHOW = ("!", "videoconvert", "!", "ximagesink", "sync=false")

Command = Callable[[Path, str], list[str]]


@dataclass(frozen=True, slots=True)
class Program:
    """A program that shows a camera.

    A command gets an empty folder for its settings, and the camera's node name in PipeWire or its V4L2 node; None where
    the program cannot read such a camera. `since` is the first version that reads PipeWire. A program that crashes
    while it starts gets several `starts`. `plugin` is a file in the folder of libraries that it needs, too.
    """

    packages: str
    version: tuple[str, ...]
    pipewire: Command | None = None
    v4l2: Command | None = None
    since: tuple[int, ...] = ()
    starts: int = 1
    plugin: str = ""


PROGRAMS: dict[str, Program] = {
    "gstreamer": Program(
        "gstreamer1.0-tools gstreamer1.0-x",
        ("gst-launch-1.0", "--version"),
        pipewire=lambda folder, node: ["gst-launch-1.0", "pipewiresrc", f"target-object={node}", *_SHOW],
        v4l2=lambda folder, node: ["gst-launch-1.0", "v4l2src", f"device={node}", *_SHOW],
        plugin="gstreamer-1.0/libgstximagesink.so",
    ),
    "ffplay": Program(
        "ffmpeg",
        ("ffplay", "-version"),
        v4l2=lambda folder, node: ["ffplay", "-loglevel", "warning", "-f", "v4l2", node],
    ),
    "cheese": Program(
        "cheese",
        ("cheese", "--version"),
        pipewire=lambda folder, node: ["cheese"],  # it finds V4L2 cameras through udev, which the machine lacks
        starts=4,  # pipewiresrc 0.3.65 frees frames that are still read when Cheese opens the camera a second time
    ),
    "snapshot": Program("gnome-snapshot", ("snapshot", "--version"), pipewire=lambda folder, node: ["snapshot"]),
    "guvcview": Program(
        "guvcview",
        ("guvcview", "--version"),
        v4l2=lambda folder, node: ["guvcview", f"--device={node}", "--audio=none", "--gui=none"],
    ),
    "linphone": Program(
        "linphone-cli pipewire-v4l2",
        ("linphonec", "-v"),
        pipewire=linphone.with_pipewire,
        v4l2=linphone.with_v4l2,
        plugin="pipewire-0.3/v4l2/libpw-v4l2.so",
    ),
    "obs": Program(
        "obs-studio obs-plugins",
        ("obs", "--version"),
        pipewire=obs.with_pipewire,
        v4l2=obs.with_v4l2,
        since=(30, 1),
    ),
}


def by_pipewire() -> dict[str, Program]:
    return {name: program for name, program in PROGRAMS.items() if program.pipewire is not None}


def by_v4l2() -> dict[str, Program]:
    return {name: program for name, program in PROGRAMS.items() if program.v4l2 is not None}


def absent(program: Program) -> str:
    """Debian's packages that a program needs and that are not installed; "" if it can be started."""
    root = _root()
    if root is None:
        there = shutil.which(program.version[0]) is not None
    else:
        there = (root / "usr/bin" / program.version[0]).exists()
    if there and program.plugin:
        there = any((root or Path("/")).glob(f"usr/lib/*/{program.plugin}"))
    return "" if there else program.packages


def too_old(program: Program) -> str:
    """The version of an installed program that is too old to read PipeWire; "" if it is not."""
    if not program.since:
        return ""
    told = subprocess.run(inside(list(program.version)), capture_output=True, text=True, timeout=60).stdout
    numbers = re.search(r"\d+(\.\d+)+", told)
    if numbers is None or tuple(map(int, numbers[0].split("."))) < program.since:
        return numbers[0] if numbers else "unknown"
    return ""


def inside(command: list[str]) -> list[str]:
    """The command in the Debian whose programs are used, with this machine's devices and temporary folders."""
    root = _root()
    if root is None:
        return command
    seen = [word for place in ("/tmp", "/run", "/sys") for word in ("--bind", place, place)]
    return ["bwrap", "--bind", str(root), "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc", *seen, *command]


def _root() -> Path | None:
    """Root folder of another Debian; None for this machine's own."""
    named = os.environ.get(ROOT_VARIABLE)
    return Path(named) if named else None
