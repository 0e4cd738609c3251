"""Commands of the daemon: start, stop, status, toggle, preview."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from occlufix_vcam.cli.render import print_running, print_started, print_status
from occlufix_vcam.core.errors import OccluFixError
from occlufix_vcam.core.media.film_formats import check_recording
from occlufix_vcam.core.settings import Settings, load_settings
from occlufix_vcam.core.state import NotRunning, StateFolder

if TYPE_CHECKING:
    from occlufix_vcam.client.client import ControlClient
    from occlufix_vcam.core.status import Status
    from occlufix_vcam.runtime.daemon import Daemon

STOPPED_WITHIN_S = 10.0
GONE_POLL_S = 0.02


class Switch(StrEnum):
    ON = "on"
    OFF = "off"


def start(
    source: Annotated[
        str | None, typer.Option(metavar="CAMERA", help="camera index, name or path, a video or image, or demo")
    ] = None,
    sink: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="auto, null or the name of a virtual camera; repeatable")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="also record to this file: .mp4, .webm, lossless .mkv")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.1, help="stop after this many seconds")
    ] = None,
    finder: Annotated[str | None, typer.Option(metavar="NAME", help="face detector: own or insightface")] = None,
    backend: Annotated[str | None, typer.Option(metavar="NAME", help="engine backend; auto picks the fastest")] = None,
    always_on: Annotated[bool, typer.Option("--always-on", help="keep the camera open while no program reads")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="print engines and sinks too")] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="run in this terminal until Ctrl-C")] = False,
    detached: Annotated[bool, typer.Option("--detached", hidden=True)] = False,
) -> None:
    """Starts the camera in the background and waits until programs can list it. One runs per user."""
    given: dict[str, object] = {
        "source": source,
        "sinks": sink,
        "record": record,
        "finder": finder,
        "backend": backend,
        "always_on": always_on or None,
    }
    settings = load_settings({name: value for name, value in given.items() if value is not None})
    if record is not None:
        check_recording(record)
    state = StateFolder()
    if foreground or detached:
        _run_daemon(settings, state, seconds, detached, verbose)
        return
    if state.held():
        raise state.already_running()
    from occlufix_vcam.sinks.opening import check_names

    check_names(settings.sinks)
    arguments = [f"--{name}={given[name]}" for name in ("source", "record", "finder", "backend") if given[name]]
    arguments += [f"--sink={name}" for name in sink or ()]
    arguments += ["--always-on"] if always_on else []
    arguments += [f"--seconds={seconds}"] if seconds is not None else []
    from occlufix_vcam.client.launch import launch

    running = launch(arguments, state)
    if running is None:
        typer.echo("stopped before it was ready")
    else:
        _print_start(*running, verbose)


def _print_start(status: Status, url: str, verbose: bool) -> None:
    if verbose:
        print_running(status, url)
    else:
        print_started(status, url)


def _run_daemon(settings: Settings, state: StateFolder, seconds: float | None, detached: bool, verbose: bool) -> None:
    from occlufix_vcam.control.api import serve
    from occlufix_vcam.core.telemetry import configure_logging
    from occlufix_vcam.runtime.daemon import Daemon
    from occlufix_vcam.runtime.idle_autotune import autotune_when_idle
    from occlufix_vcam.system.core_dumps import disable_core_dumps

    disable_core_dumps()
    with state.hold():
        configure_logging(state.log, settings.log_level.upper())
        daemon = Daemon(settings)
        _stop_on_signals(daemon)
        with serve(daemon, state, settings.control_port) as address, autotune_when_idle(daemon):

            def told() -> None:
                if detached:
                    _go_silent()
                else:
                    _print_start(daemon.status(), address.url, verbose)

            daemon.run(seconds, on_running=told)
        if not detached:
            typer.echo(f"stopped after {daemon.status()['frames']} frames")


def _stop_on_signals(daemon: Daemon) -> None:
    def stop(*_: object) -> None:
        # In a thread: the handler may have interrupted a wait that holds the lock `stop` needs.
        threading.Thread(target=daemon.stop, name="stop").start()

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:  # as `nohup` has it
        numbers.append(hang_up)
    for number in numbers:
        signal.signal(number, stop)


def _go_silent() -> None:
    """Discards further output: nothing reads it any more, and the file that held it must not grow."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123  not a path on Windows
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere.fileno(), stream.fileno())


def stop() -> None:
    """Stops the camera and waits until it has ended."""
    state = StateFolder()
    with open_client(state) as client:
        pid = client.address.pid
        client.stop()
    if not (state.wait_until_free(STOPPED_WITHIN_S) and _is_gone(pid, STOPPED_WITHIN_S)):
        raise OccluFixError(f"process {pid} did not stop within {STOPPED_WITHIN_S:.0f} s", "end that process")
    typer.echo("stopped")


def _is_gone(pid: int, within_s: float) -> bool:
    """Whether the process has ended, after waiting for that; its lock is free a little earlier."""
    import psutil

    ends_at = time.monotonic() + within_s
    while time.monotonic() < ends_at:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(GONE_POLL_S)
    return False


def status(as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False) -> None:
    """Shows the state of the running camera."""
    try:
        with open_client(StateFolder()) as client:
            now, url, other = client.status(), client.address.url, client.other_version()
    except NotRunning:
        if as_json:
            typer.echo(json.dumps({"state": "stopped"}))
        raise
    if as_json:
        typer.echo(json.dumps(now))
    else:
        print_status(now, url, other)


def toggle(
    switch: Annotated[Switch | None, typer.Argument(help="on or off; omit it to switch")] = None,
) -> None:
    """Switches restoring on or off. Off passes frames untouched."""
    with open_client(StateFolder()) as client:
        enabled = client.toggle(None if switch is None else switch is Switch.ON)
    typer.echo("on" if enabled else "off")


def preview(
    no_browser: Annotated[bool, typer.Option("--print", help="print the link instead of opening it")] = False,
) -> None:
    """Opens the control page: before and after, statistics, settings. Its link works once, within a minute.

    Prints the link if no browser opens it.
    """
    with open_client(StateFolder()) as client:
        from occlufix_vcam.client.open_page import open_page

        link = client.link() if no_browser else open_page(client)
    if link:
        typer.echo(link)


def open_client(state: StateFolder) -> ControlClient:
    """Client of the running daemon. Raises NotRunning."""
    if not state.held():
        raise NotRunning  # reported without waiting for the client's imports
    from occlufix_vcam.client.client import ControlClient

    return ControlClient(state)
