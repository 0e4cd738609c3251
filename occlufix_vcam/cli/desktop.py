"""Commands of the desktop integration: start at log-in and tray icon."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from engines.installing import install_extra
from occlufix_vcam.core.errors import OccluFixError
from occlufix_vcam.core.state import StateFolder


class Autostarting(StrEnum):
    ON = "on"
    OFF = "off"
    STATUS = "status"


def tray(
    wait: Annotated[
        float, typer.Option(min=0, hidden=True, help="wait this many seconds for the desktop to start")
    ] = 0.0,
) -> None:
    """Shows a tray icon with the state of the camera; click it to toggle. Starts the camera if it does not run."""
    try:
        from occlufix_vcam.desktop.tray import app as icon
    except ImportError as error:
        raise OccluFixError(
            f"the tray icon needs PySide6, which cannot be used on this machine: {error}",
            f"install it: {install_extra('tray')}; until then `occlufix-vcam preview` does the same",
        ) from error
    raise typer.Exit(icon.run(StateFolder(), wait))


def autostart(
    action: Annotated[Autostarting, typer.Argument(help="on, off or status")] = Autostarting.STATUS,
    tray: Annotated[
        bool | None, typer.Option(help="also start the tray icon; default: if PySide6 is installed")
    ] = None,
) -> None:
    """Starts the camera and the tray icon when you log in. `off` removes every trace."""
    from occlufix_vcam.desktop.autostart import autostart_here, tray_is_installed

    here = autostart_here()
    if action is Autostarting.ON:
        told = here.turn_on(tray_is_installed() if tray is None else tray)
    elif action is Autostarting.OFF:
        told = here.turn_off()
    else:
        told = here.status()
    what = "camera and tray icon" if told.tray else "camera"
    typer.echo(f"on: {what} will start at the next log-in" if told.on else "off")
    for place in told.where:
        typer.echo(f"  {place}")
    if told.problem:
        typer.echo(f"  problem: {told.problem}\n  {told.hint}")
