"""PipeWire session for one test: bus, server, session manager and portal, in a folder, removed at the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"  # with Debian's python3-gi
PROGRAMS = ("dbus-daemon", "pipewire", "wireplumber", "pw-cli")
DEBIAN_PACKAGES = ("dbus", "pipewire", "wireplumber", "pipewire-bin", "python3-gi")
WAIT_S = 20.0


def missing() -> str:
    """Missing programs that a session needs; "" if all are installed."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if not list(Path("/usr/lib/python3/dist-packages").glob("gi/__init__.py")):
        absent.append("python3-gi")
    return ", ".join(absent)


Inside = Callable[[list[str]], list[str]]


class Programs:
    """Programs of a running session, which a test may end and restart one by one; logs are in `folder`."""

    def __init__(self, folder: Path, portal: tuple[str, ...] = (), inside: Inside = list) -> None:
        self._folder, self._runtime = folder, folder / "run"
        self._runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DBUS_", "PIPEWIRE_"))},
            "XDG_RUNTIME_DIR": str(self._runtime),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self._runtime}/bus",
            "DISABLE_RTKIT": "1",
            "OCCLUFIX_STATE_DIR": str(folder / "occlufix"),
            "OCCLUFIX_CONFIG": str(folder / "settings.toml"),
            "NO_AT_BRIDGE": "1",
        }
        address = self.environment["DBUS_SESSION_BUS_ADDRESS"]
        #: Command of each program, and what shows that it is ready.
        self._known: dict[str, tuple[list[str], Callable[[], bool]]] = {
            "bus": (
                ["dbus-daemon", "--session", "--nofork", f"--address={address}"],
                (self._runtime / "bus").exists,
            ),
            "pipewire": (inside(["pipewire"]), (self._runtime / "pipewire-0").exists),
            "wireplumber": (inside(["wireplumber"]), lambda: '"default"' in things(self.environment, "Metadata")),
            "portal": (
                [SYSTEM_PYTHON, str(Path(__file__).with_name("portal.py")), *portal],
                lambda: "ready" in (folder / "portal.log").read_text(),
            ),
        }
        self._running: dict[str, tuple[int, ExitStack]] = {}

    def start(self, name: str) -> None:
        command, is_there = self._known[name]
        running = ExitStack()
        program = running.enter_context(background(command, self.environment, self._folder / f"{name}.log"))
        self._running[name] = program.pid, running
        wait_for(is_there, name)

    def end(self, name: str) -> None:
        self._running.pop(name)[1].close()

    def end_all(self) -> None:
        for name in reversed(tuple(self._running)):
            self.end(name)

    def pid(self, name: str) -> int:
        return self._running[name][0]


@contextmanager
def programs(
    folder: Path, *, portal: tuple[str, ...] = (), manager: bool = True, inside: Inside = list
) -> Iterator[Programs]:
    """Session in `folder`; `portal` are arguments for the portal, `inside` runs PipeWire in another Debian."""
    running = Programs(folder, portal, inside)
    try:
        for name in ("bus", "pipewire", *(("wireplumber",) if manager else ()), "portal"):
            running.start(name)
        yield running
    finally:
        running.end_all()


@contextmanager
def pipewire_session(
    folder: Path, *, portal: tuple[str, ...] = (), manager: bool = True, inside: Inside = list
) -> Iterator[dict[str, str]]:
    """Environment of programs in such a session."""
    with programs(folder, portal=portal, manager=manager, inside=inside) as running:
        yield running.environment


@contextmanager
def background(
    command: list[str], environment: Mapping[str, str], log: Path, keep: tuple[int, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a program and its children during the block; it inherits the descriptors in `keep`."""
    with log.open("wb") as told:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=told,
            start_new_session=True,
            pass_fds=keep,
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a program started in a group of its own, with the whole group."""
    for step in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, step)
            process.wait(5)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def things(environment: Mapping[str, str], kind: str) -> str:
    """Objects of one kind in PipeWire: Node, Link, Client, ..."""
    command = ["pw-cli", "ls", kind]
    return subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=WAIT_S).stdout


def wait_for(there: Callable[[], bool], what: str, within: float = WAIT_S) -> float:
    """Seconds until `there()` is true."""
    began = time.monotonic()
    while not there():
        if time.monotonic() - began > within:
            raise TimeoutError(f"{what} did not appear within {within:.0f} s")
        time.sleep(0.02)
    return time.monotonic() - began
