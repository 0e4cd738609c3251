"""Start at log-in: one entry for the camera and one for the tray icon, where this system expects them.

Linux: a systemd user unit, and a desktop entry for the icon. macOS: LaunchAgents. Windows: the Run key. Turning it off
removes every trace. Nothing starts or stops right away, so a running call continues.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import plistlib
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.files import write_atomically

CAMERA, TRAY = "occlufix-vcam", "occlufix-vcam-tray"
#: Variables that relocate the product's files: programs started at log-in must find the same ones.
FOLDERS = ("OCCLUFIX_CONFIG", "OCCLUFIX_STATE_DIR", "OCCLUFIX_CACHE_DIR", "OCCLUFIX_FACES_DIR")
RELOAD = ("systemctl", "--user", "daemon-reload")
RELOAD_WITHIN_S = 10.0
RUN_KEY = r"Software\Microsoft\Windows\CurrentVersion\Run"

#: Where Debian's package has the same unit, switched off, for every user.
PACKAGED_UNITS = Path("/usr/lib/systemd/user")
WRITTEN = "# Written by `occlufix-vcam autostart on`; `occlufix-vcam autostart off` removes it.\n"
# No namespaces (ProtectSystem, PrivateTmp and the like): user units need unprivileged ones, which many systems
# forbid, and then nothing starts. MemoryDenyWriteExecute would keep engines from compiling.
UNIT = """\
[Unit]
Description=OccluFix Camera
After=pipewire.service wireplumber.service
StartLimitIntervalSec=300
StartLimitBurst=20

[Service]
ExecStart={command}
{environment}Restart=on-failure
RestartSec=5
# 2: wrong settings, or already running; 4: a damaged model file. A retry fixes neither.
RestartPreventExitStatus=2 4
TimeoutStopSec=15
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=default.target
"""

DESKTOP_ENTRY = """\
[Desktop Entry]
Type=Application
Name=OccluFix Camera
Comment=Switches the restoring of hidden faces
Exec={command}
Terminal=false
X-GNOME-Autostart-enabled=true
"""


class AutostartEntry(Protocol):
    """A program that starts at log-in, where this system stores such entries. Its methods raise OSError."""

    @property
    def where(self) -> str: ...
    def write(self, command: Sequence[str]) -> None: ...
    def read(self) -> list[str] | None:
        """Command of the entry; None if there is no entry, [] if it names no program."""

    def remove(self) -> None: ...


@dataclass(frozen=True, slots=True)
class AutostartStatus:
    """What starts at log-in. `problem` says why that will fail, `hint` what to do."""

    on: bool
    tray: bool
    where: tuple[str, ...]
    problem: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Autostart:
    """Turns start at log-in on and off, and reports its state."""

    camera: AutostartEntry
    tray: AutostartEntry
    python: str = sys.executable
    platform: str = sys.platform

    def turn_on(self, with_tray: bool) -> AutostartStatus:
        """Creates the entries. Raises ConfigError."""
        with _writing("start at log-in cannot be turned on"):
            self.camera.write(self._command("start", *(() if self.platform == "win32" else ("--foreground",))))
            if with_tray:
                self.tray.write(self._command("tray", "--wait", "60"))
            else:
                self.tray.remove()
        return self.status()

    def turn_off(self) -> AutostartStatus:
        """Removes the entries. Raises ConfigError."""
        with _writing("start at log-in cannot be turned off"):
            self.camera.remove()
            self.tray.remove()
        return self.status()

    def status(self) -> AutostartStatus:
        """State of the entries. Raises ConfigError."""
        with _writing("start at log-in cannot be checked"):
            entries = [(entry, entry.read()) for entry in (self.camera, self.tray)]
        there = [(entry, command) for entry, command in entries if command is not None]
        problems = (self._problem(command) for _, command in there)
        problem = next(filter(None, problems), "")
        return AutostartStatus(
            entries[0][1] is not None,
            entries[1][1] is not None,
            tuple(entry.where for entry, _ in there),
            problem,
            "run `occlufix-vcam autostart on` to rewrite it, or `off` to remove it" if problem else "",
        )

    def _command(self, *arguments: str) -> list[str]:
        return [self._interpreter(), "-m", "occlufix_vcam", *arguments]

    def _interpreter(self) -> str:
        """Python interpreter; on Windows the one that opens no console, if there is one."""
        silent = Path(self.python).with_name("pythonw.exe")
        return str(silent) if self.platform == "win32" and silent.exists() else self.python

    def _problem(self, command: Sequence[str]) -> str:
        if not command:
            return "the entry names no program"
        if not Path(command[0]).exists():
            return f"it starts {command[0]}, which is gone: this installation was moved or replaced"
        if command[0] != self._interpreter():
            return f"it starts another installation, {command[0]}"
        return ""


@contextmanager
def _writing(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or "the system's list"
        hint = "fix its owner or permissions"
        raise ConfigError(f"{what}: {place}: {error.strerror}", hint, code="login_refused", file=place) from error


def autostart_here() -> Autostart:
    """Start at log-in on this system."""
    home, environment = Path.home(), os.environ
    folders = {name: environment[name] for name in FOLDERS if environment.get(name)}
    if sys.platform == "darwin":
        agents = home / "Library/LaunchAgents"
        return Autostart(LaunchAgent(agents, CAMERA, folders, True), LaunchAgent(agents, TRAY, folders, False))
    if sys.platform == "win32":
        return Autostart(RunValue(CAMERA), RunValue(TRAY))
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    return Autostart(SystemdUnit(config / "systemd/user", folders), DesktopEntry(config / "autostart", folders))


def tray_is_installed() -> bool:
    return importlib.util.find_spec("PySide6") is not None


# ---- Linux ----


def _reload() -> None:
    """Reloads the user's systemd if it runs; otherwise it reads its units at the next log-in."""
    try:
        subprocess.run(RELOAD, capture_output=True, timeout=RELOAD_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return


class SystemdUnit:
    """Systemd user unit, wanted by the default target; the link is the one that `systemctl --user enable` creates.

    A unit in `packaged` that starts the same command is linked; otherwise the user gets a unit of their own.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        reload: Callable[[], None] = _reload,
        systemd: Path = Path("/run/systemd/system"),
        packaged: Path = PACKAGED_UNITS,
    ) -> None:
        self._unit = folder / f"{CAMERA}.service"
        self._packaged = packaged / self._unit.name
        self._wanted = folder / "default.target.wants" / self._unit.name
        self._environment, self._reload, self._systemd = environment, reload, systemd

    @property
    def where(self) -> str:
        return str(self._used())

    def _used(self) -> Path:
        return self._unit if self._unit.is_file() or not self._packaged.is_file() else self._packaged

    def write(self, command: Sequence[str]) -> None:
        if not self._systemd.exists():
            raise ConfigError(
                "this system does not run systemd, which starts OccluFix Camera at log-in",
                "add `occlufix-vcam start` to the programs that your desktop starts",
                code="no_login_start",
            )
        self._wanted.parent.mkdir(parents=True, exist_ok=True)
        self._wanted.unlink(missing_ok=True)
        unit = unit_file(command, self._environment)
        if self._packaged.is_file() and self._packaged.read_text(encoding="utf-8") == unit:
            self._unit.unlink(missing_ok=True)
            self._wanted.symlink_to(self._packaged)
        else:
            write_atomically(self._unit, (WRITTEN + unit).encode())
            self._wanted.symlink_to(Path("..") / self._unit.name)
        self._reload()

    def read(self) -> list[str] | None:
        unit = self._used()
        if not unit.is_file() or not self._wanted.is_symlink():
            return None
        lines = unit.read_text(encoding="utf-8").splitlines()
        start = next((line for line in lines if line.startswith("ExecStart=")), "")
        words = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(start.partition("=")[2])]
        return words[1:]

    def remove(self) -> None:
        was_there = self._unit.exists() or self._wanted.is_symlink()
        self._wanted.unlink(missing_ok=True)
        self._unit.unlink(missing_ok=True)
        if was_there:
            _remove_if_empty(self._wanted.parent)
            self._reload()


def unit_file(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Text of the unit that runs `command`."""
    # Run through env, because systemd accepts no program whose path contains a quote.
    words = " ".join(["/usr/bin/env", *(_unit_word(word).replace("$", "$$") for word in command)])
    lines = [f"Environment={_unit_word(f'{name}={value}')}\n" for name, value in environment.items()]
    return UNIT.format(command=words, environment="".join(lines))


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _unit_word(word: str) -> str:
    """Quotes a word for a unit; `$` is literal in Environment, but not in ExecStart."""
    quoted = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{quoted}"'


class DesktopEntry:
    """Autostart entry of the desktop: unlike a unit, it always has a display."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._file = folder / f"{TRAY}.desktop"
        self._environment = environment

    @property
    def where(self) -> str:
        return str(self._file)

    def write(self, command: Sequence[str]) -> None:
        settings = [f"{name}={value}" for name, value in self._environment.items()]
        words = " ".join(map(desktop_word, [*(["env", *settings] if settings else []), *command]))
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file, DESKTOP_ENTRY.format(command=words).encode())

    def read(self) -> list[str] | None:
        if not self._file.is_file():
            return None
        lines = self._file.read_text(encoding="utf-8").splitlines()
        start = next((line for line in lines if line.startswith("Exec=")), "")
        words = shlex.split(start.partition("=")[2].replace("\\\\", "\\"))
        words = [word.replace("%%", "%").replace("\\$", "$").replace("\\`", "`") for word in words]
        if words[:1] == ["env"]:
            words = [word for word in words[1:] if not word.startswith("OCCLUFIX_")]
        return words

    def remove(self) -> None:
        self._file.unlink(missing_ok=True)


def desktop_word(word: str) -> str:
    """Quotes a word for Exec, then again as every value of a desktop entry."""
    for special in ("\\", '"', "`", "$"):
        word = word.replace(special, f"\\{special}")
    word = word.replace("\\", "\\\\").replace("%", "%%")
    return f'"{word}"'


# ---- macOS ----


class LaunchAgent:
    """Property list in the user's LaunchAgents, which launchd reads at log-in."""

    def __init__(self, folder: Path, name: str, environment: Mapping[str, str], restarts: bool) -> None:
        self._label = f"org.{name.replace('occlufix-vcam', 'occlufix.vcam').replace('-', '.')}"
        self._file = folder / f"{self._label}.plist"
        self._environment, self._restarts = environment, restarts

    @property
    def where(self) -> str:
        return str(self._file)

    def write(self, command: Sequence[str]) -> None:
        told: dict[str, Any] = {
            "Label": self._label,
            "ProgramArguments": list(command),
            "RunAtLoad": True,
            "ProcessType": "Interactive",  # else the system throttles it, and the frame rate with it
            "EnvironmentVariables": dict(self._environment),
        }
        if self._restarts:
            told |= {"KeepAlive": {"SuccessfulExit": False}, "ThrottleInterval": 30}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file, plistlib.dumps(told))

    def read(self) -> list[str] | None:
        try:
            told = plistlib.loads(self._file.read_bytes())
        except FileNotFoundError:
            return None
        except (plistlib.InvalidFileException, ValueError):
            return []
        return [str(word) for word in told.get("ProgramArguments", [])]

    def remove(self) -> None:
        self._file.unlink(missing_ok=True)


# ---- Windows ----


class RunValue:
    """Value of the user's Run key. `registry` is the module winreg."""

    def __init__(self, name: str, registry: Any = None) -> None:
        self._name = name
        self._registry = registry or importlib.import_module("winreg")

    @property
    def where(self) -> str:
        return rf"HKEY_CURRENT_USER\{RUN_KEY}\{self._name}"

    def write(self, command: Sequence[str]) -> None:
        with self._registry.CreateKey(self._registry.HKEY_CURRENT_USER, RUN_KEY) as key:
            self._registry.SetValueEx(key, self._name, 0, self._registry.REG_SZ, subprocess.list2cmdline(command))

    def read(self) -> list[str] | None:
        try:
            with self._registry.OpenKey(self._registry.HKEY_CURRENT_USER, RUN_KEY) as key:
                line = str(self._registry.QueryValueEx(key, self._name)[0])
        except FileNotFoundError:
            return None
        return [word.strip('"') for word in shlex.split(line, posix=False)]

    def remove(self) -> None:
        try:
            with self._registry.OpenKey(
                self._registry.HKEY_CURRENT_USER, RUN_KEY, 0, self._registry.KEY_SET_VALUE
            ) as key:
                self._registry.DeleteValue(key, self._name)
        except FileNotFoundError:
            return
