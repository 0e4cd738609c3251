"""A PipeWire session of its own for a test: bus, server, session manager and portal, in a folder, gone at the end."""

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
    """What a session needs and is not installed; "" where all is there."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if not list(Path("/usr/lib/python3/dist-packages").glob("gi/__init__.py")):
        absent.append("python3-gi")
    return ", ".join(absent)


@contextmanager
def pipewire_session(folder: Path, *, portal: tuple[str, ...] = (), manager: bool = True) -> Iterator[dict[str, str]]:
    """The environment for programs in the session; `portal` are arguments for the portal. Logs lie in `folder`."""
    runtime = folder / "run"
    runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DBUS_", "PIPEWIRE_"))},
        "XDG_RUNTIME_DIR": str(runtime),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime}/bus",
        "DISABLE_RTKIT": "1",
        "OCCLUFIX_STATE_DIR": str(folder / "occlufix"),
        "OCCLUFIX_CONFIG": str(folder / "settings.toml"),
        "NO_AT_BRIDGE": "1",
    }
    with ExitStack() as programs:

        def start(name: str, *command: str) -> None:
            programs.enter_context(background(list(command), environment, folder / f"{name}.log"))

        address = environment["DBUS_SESSION_BUS_ADDRESS"]
        start("bus", "dbus-daemon", "--session", "--nofork", f"--address={address}")
        wait_for(lambda: (runtime / "bus").exists(), "the bus")
        start("pipewire", "pipewire")
        wait_for(lambda: (runtime / "pipewire-0").exists(), "PipeWire")
        if manager:
            start("wireplumber", "wireplumber")
            wait_for(lambda: '"default"' in things(environment, "Metadata"), "WirePlumber")
        start("portal", SYSTEM_PYTHON, str(Path(__file__).with_name("portal.py")), *portal)
        wait_for(lambda: "ready" in (folder / "portal.log").read_text(), "the portal")
        yield environment


@contextmanager
def background(
    command: list[str], environment: Mapping[str, str], log: Path, keep: tuple[int, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A program as long as the block lasts, with all that it starts; it has the descriptors in `keep` too."""
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
    """Ends a program that was started in a group of its own, and the whole group."""
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
    """What PipeWire tells of everything of one kind: Node, Link, Client, ..."""
    command = ["pw-cli", "ls", kind]
    return subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=WAIT_S).stdout


def wait_for(there: Callable[[], bool], what: str, within: float = WAIT_S) -> float:
    """Seconds until `there()` is true."""
    began = time.monotonic()
    while not there():
        if time.monotonic() - began > within:
            raise TimeoutError(f"{what} did not come within {within:.0f} s")
        time.sleep(0.02)
    return time.monotonic() - began
