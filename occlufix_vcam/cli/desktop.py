"""The commands that put the product into the desktop: start at log-in, the tray icon."""

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
    wait: Annotated[float, typer.Option(min=0, hidden=True, help="so many seconds the desktop may take")] = 0.0,
) -> None:
    """Shows an icon beside the clock that says what goes on; a click on it switches. Starts the camera if need be."""
    try:
        from occlufix_vcam.desktop.tray import app as icon
    except ImportError as error:
        raise OccluFixError(
            f"the tray icon needs PySide6, which can't be used here: {error}",
            f"install it: {install_extra('tray')}; until then `occlufix-vcam preview` does the same",
        ) from error
    raise typer.Exit(icon.run(StateFolder(), wait))


def autostart(
    action: Annotated[Autostarting, typer.Argument(help="on, off or status")] = Autostarting.STATUS,
    tray: Annotated[bool | None, typer.Option(help="also the tray icon; without it, where PySide6 is there")] = None,
) -> None:
    """Starts the camera, and the tray icon, whenever you log in; `off` removes every trace of that."""
    from occlufix_vcam.desktop.autostart import autostart_here, tray_is_installed

    here = autostart_here()
    if action is Autostarting.ON:
        told = here.turn_on(tray_is_installed() if tray is None else tray)
    elif action is Autostarting.OFF:
        told = here.turn_off()
    else:
        told = here.status()
    what = "camera and tray icon" if told.tray else "camera"
    typer.echo(f"on: {what} start at the next log-in" if told.on else "off")
    for place in told.where:
        typer.echo(f"  {place}")
    if told.problem:
        typer.echo(f"  but {told.problem}\n  {told.hint}")
