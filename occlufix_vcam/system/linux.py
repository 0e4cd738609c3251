"""Facts of a Linux machine from its files: kernel, module, packages, groups, Secure Boot, sandboxes.

Everything is read below `root`, so that a test can lay out any machine in a folder.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from occlufix_vcam.system.v4l2 import OWN_LABEL

MODULE = "v4l2loopback"
OPTIONS_FILE = "etc/modprobe.d/occlufix-vcam.conf"
WITHOUT_MODULE = (
    "PipeWire's camera needs no module: `occlufix-vcam start --sink pipewire` on a desktop; or record instead: "
    "`occlufix-vcam start --sink null --record FILE.mp4`"
)
LOAD_FILE = "etc/modules-load.d/occlufix-vcam.conf"

PackageManager = Literal["apt", "dnf", "pacman"]
_MANAGERS: dict[PackageManager, str] = {"apt": "usr/bin/apt-get", "dnf": "usr/bin/dnf", "pacman": "usr/bin/pacman"}
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_FLATPAKS = {
    "org.mozilla.firefox": "Firefox",
    "org.chromium.Chromium": "Chromium",
    "com.google.Chrome": "Chrome",
    "com.brave.Browser": "Brave",
    "com.microsoft.Edge": "Edge",
    "us.zoom.Zoom": "Zoom",
    "com.obsproject.Studio": "OBS Studio",
    "com.discordapp.Discord": "Discord",
    "com.slack.Slack": "Slack",
}
_SNAPS = {"firefox": "Firefox", "chromium": "Chromium", "zoom-client": "Zoom", "discord": "Discord", "slack": "Slack"}


@dataclass(frozen=True, slots=True)
class Sandboxed:
    """Program that runs in a sandbox: `identity` is its name in snap or flatpak."""

    kind: Literal["snap", "flatpak"]
    identity: str
    name: str


@dataclass(frozen=True)
class LinuxMachine:
    """Linux machine as its files describe it; `kernel` is the output of `uname -r`, `user` who would use the camera."""

    kernel: str
    user: str
    home: Path
    root: Path = Path("/")

    @functools.cached_property
    def release(self) -> dict[str, str]:
        """/etc/os-release: ID, ID_LIKE, VERSION_ID, PRETTY_NAME ..."""
        lines = _text(self.root / "etc/os-release").splitlines()
        return {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines)}

    @property
    def package_manager(self) -> PackageManager | None:
        """Package manager; None if it is unknown, or no package can be installed."""
        if (self.root / "run/ostree-booted").exists():
            return None
        return next((name for name, path in _MANAGERS.items() if (self.root / path).exists()), None)

    # ---- the kernel and its module ----

    @property
    def modules(self) -> Path:
        return self.root / "lib/modules" / self.kernel

    @property
    def can_load(self) -> bool:
        """Whether the module is loaded, or this kernel has modules at all: in a container it has none."""
        return self.is_loaded or self.modules.is_dir()

    @property
    def has_headers(self) -> bool:
        """Whether modules can be built for this kernel."""
        return (self.modules / "build").exists()

    @property
    def kernel_package(self) -> str:
        """Arch: package of this kernel."""
        return _text(self.modules / "pkgbase") or "linux"

    @property
    def has_module(self) -> bool:
        return f"/{MODULE}.ko" in _text(self.modules / "modules.dep")

    @property
    def is_loaded(self) -> bool:
        return (self.root / "sys/module" / MODULE).is_dir()

    @property
    def exclusive(self) -> bool:
        """Whether the loaded module presents itself to readers only as a camera: browsers list no others."""
        return _text(self.root / "sys/module" / MODULE / "parameters/exclusive_caps")[:1] in ("Y", "1")

    @property
    def labels(self) -> list[str]:
        """Labels of the loopback devices."""
        nodes = sorted((self.root / "sys/devices/virtual/video4linux").glob("video*/name"))
        return [_text(node) for node in nodes]

    @property
    def is_labelled(self) -> bool:
        return any(label == OWN_LABEL for label in self.labels)

    @property
    def secure_boot(self) -> bool:
        """Whether the firmware requires signed kernel modules."""
        try:
            return (self.root / _SECURE_BOOT).read_bytes()[-1:] == b"\1"
        except OSError:
            return False

    # ---- configuration ----

    @property
    def options(self) -> str:
        """Our own options for modprobe; "" if there are none."""
        return _text(self.root / OPTIONS_FILE)

    @property
    def loads_at_start(self) -> bool:
        return _text(self.root / LOAD_FILE) == MODULE

    @property
    def other_options(self) -> list[str]:
        """Files of others that set options for the module too."""
        folders = ("etc/modprobe.d", "run/modprobe.d", "usr/lib/modprobe.d")
        files = [file for folder in folders for file in sorted((self.root / folder).glob("*.conf"))]
        ours = self.root / OPTIONS_FILE
        spoken = re.compile(rf"^\s*options\s+{MODULE}\b", re.MULTILINE)
        return [f"/{file.relative_to(self.root)}" for file in files if file != ours and spoken.search(_text(file))]

    def is_in_group(self, group: str) -> bool:
        primary = next(
            (line.split(":")[3] for line in self._lines("etc/passwd") if line.split(":")[0] == self.user), ""
        )
        for line in self._lines("etc/group"):
            name, _, number, members = line.split(":")
            if name == group:
                return number == primary or self.user in members.split(",")
        return False

    def _lines(self, file: str) -> list[str]:
        return [line for line in _text(self.root / file).splitlines() if line.count(":") >= 3]

    # ---- sandboxed programs ----

    @property
    def sandboxed(self) -> list[Sandboxed]:
        """Sandboxed browsers and call programs, which the sandbox may keep from the camera."""
        snaps = [Sandboxed("snap", key, name) for key, name in _SNAPS.items() if (self.root / "snap" / key).is_dir()]
        homes = (self.root / "var/lib/flatpak/app", self.home / ".local/share/flatpak/app")
        there = [key for key in _FLATPAKS if any((home / key).is_dir() for home in homes)]
        return snaps + [Sandboxed("flatpak", key, _FLATPAKS[key]) for key in there]


def this_machine() -> LinuxMachine:
    """This machine; behind sudo, with the user who called it."""
    import getpass
    import platform

    user = os.environ.get("SUDO_USER") or getpass.getuser()
    return LinuxMachine(platform.release(), user, Path(f"~{user}").expanduser())


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
