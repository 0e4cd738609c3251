"""The occlufix-vcam command: parses, calls, and turns errors into two lines and an exit code.

What a command needs is imported inside it, so that `status` does not wait for OpenCV.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from typing import Annotated, NoReturn

import typer

from engines.errors import EngineError
from occlufix_vcam import __version__
from occlufix_vcam.cli import daemon, desktop, enroll, machine, offline
from occlufix_vcam.core.errors import OccluFixError

#: Threads that may hang in a driver, as the daemon and the camera name them.
WORKERS = {"capture", "process", "output", "opening", "camera"}

#: In the order of `--help`.
COMMANDS = (
    desktop.tray,
    desktop.autostart,
    daemon.start,
    daemon.stop,
    daemon.status,
    daemon.toggle,
    daemon.preview,
    offline.process,
    enroll.enroll,
    machine.devices,
    machine.doctor,
    machine.setup,
    offline.build_engine,
    offline.bench,
    machine.config,
)

app = typer.Typer(
    name="occlufix-vcam",
    help="A virtual camera that restores the hidden part of your face. --debug, anywhere, shows tracebacks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in COMMANDS:
    app.command()(command)


def main(failure: Exception | None = None) -> NoReturn:
    """Runs the command; errors become two lines and an exit code. `failure`: what went wrong before it was asked."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if not debug:  # both say on the terminal what they tried in vain before they succeeded
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    code = 0
    try:
        if failure is not None:
            raise failure
        app(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 2
    except Exception as error:  # noqa: BLE001  the last boundary: our own fault is said in two lines too
        told = _explained(error)
        _print_error(told.message, told.hint, debug)
        code = told.exit_code
    _leave(code)


def _explained(error: Exception) -> OccluFixError | EngineError:
    if isinstance(error, OccluFixError | EngineError):
        return error
    return OccluFixError(f"unexpected: {error!r}", "run it again with --debug and report what it prints")


def _print_error(message: str, hint: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    typer.echo(f"error: {message}", err=True)
    if hint:
        typer.echo(f"  {hint}", err=True)


def _leave(code: int) -> NoReturn:
    """Exits; a worker of the daemon that hangs in a driver does not keep the process alive."""
    if any(thread.name in WORKERS for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"occlufix-vcam {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """What is said before a command."""
