"""The occlufix-vcam command: parses arguments, calls the product, and turns errors into two lines and an exit code.

Each command imports what it needs, so that `status` does not wait for OpenCV.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from engines.errors import EngineError
from occlufix_vcam import __version__
from occlufix_vcam.cli import daemon, desktop, enroll, machine, offline
from occlufix_vcam.core.errors import DeviceError, OccluFixError

#: Threads that may hang in a driver, by the names that daemon and camera give them.
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
    help="A virtual camera that restores the hidden part of your face. Add --debug anywhere to see tracebacks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Command(typer.core.TyperCommand):
    """Command whose help shows the type of one value where several may be given."""

    def get_help(self, ctx: Any) -> str:
        return re.sub(r"<list\[(\S+?)\]>", r"<\1>      ", super().get_help(ctx))


for command in COMMANDS:
    app.command(cls=Command)(command)


def main(failure: Exception | None = None) -> NoReturn:
    """Runs the command; errors become two lines and an exit code. `failure`: an error from before the command ran."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if not debug:  # both print failed attempts to the terminal even if they succeed later
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    code = 0
    try:
        if failure is not None:
            raise failure
        app(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 2
    except Exception as error:  # noqa: BLE001  last boundary: our own faults become two lines too
        told = _explained(error)
        _print_error(told.message, told.hint, debug)
        code = told.exit_code
    _leave(code)


def _explained(error: Exception) -> OccluFixError | EngineError:
    if isinstance(error, OccluFixError | EngineError):
        return error
    if isinstance(error, OSError) and error.strerror:
        what = f"{error.filename}: " if error.filename else ""
        return DeviceError(f"{what}{error.strerror.lower()}", "check the path, its permissions and the free space")
    return OccluFixError(f"unexpected: {error!r}", "run it again with --debug and report what it prints")


def _print_error(message: str, hint: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    typer.echo(f"error: {message}", err=True)
    if hint:
        typer.echo(f"  {hint}", err=True)


def _leave(code: int) -> NoReturn:
    """Exits, even if a worker of the daemon hangs in a driver."""
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
    """Options that come before a command."""
