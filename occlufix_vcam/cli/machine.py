"""Commands about this machine: devices, doctor, setup, config."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from occlufix_vcam.cli.render import print_devices, print_findings, print_plan, print_steps_by_hand
from occlufix_vcam.core import settings as configuration
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.media.film_formats import check_recording
from occlufix_vcam.core.settings import Settings, load_settings


class ConfigAction(StrEnum):
    SHOW = "show"
    PATH = "path"
    GET = "get"
    SET = "set"
    UNSET = "unset"


def devices(as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False) -> None:
    """Lists cameras, virtual cameras and engine backends."""
    from occlufix_vcam.diagnostics.doctor import list_devices

    found = list_devices()
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        print_devices(found)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False) -> None:
    """Reports problems on this machine and how to fix them. Exits with 1 if there is an error."""
    from occlufix_vcam.diagnostics.doctor import examine

    findings = examine()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        print_findings(findings)
    if any(finding.verdict == "error" for finding in findings):
        raise typer.Exit(1)


def setup(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the commands without running them")] = False,
    desktop: Annotated[
        bool,
        typer.Option(
            "--desktop", help="install only the menu entry, icon, manual page and shell completion, for your user"
        ),
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="revert what setup changed")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask for confirmation")] = False,
) -> None:
    """Shows what is missing for programs to list OccluFix Camera and, after confirmation, installs it."""
    from occlufix_vcam.diagnostics import integration
    from occlufix_vcam.diagnostics import setup as steps
    from occlufix_vcam.system import linux

    if sys.platform in steps.STEPS_BY_HAND:
        print_steps_by_hand(steps.STEPS_BY_HAND[sys.platform])
        return
    here = linux.this_machine()
    if not (dry_run or desktop or undo):
        steps.check_can_load(here)
    parts = (integration,) if desktop else (steps, integration)
    plan = sum((part.undo_plan(here) if undo else part.setup_plan(here) for part in parts), steps.SetupPlan())
    print_plan(plan)
    if dry_run or not plan.steps:
        return
    if not yes and not (
        sys.stdin.isatty() and typer.confirm(f"Run these commands{', as root' if plan.needs_root else ''}?")
    ):
        typer.echo("nothing was changed; `--yes` runs them")
        return
    for step in plan.steps:
        typer.echo(f"running  {step}")
        steps.run_step(step)
    typer.echo("done; check the result with `occlufix-vcam doctor`")


def config(
    action: Annotated[ConfigAction, typer.Argument()] = ConfigAction.SHOW,
    key: Annotated[str | None, typer.Argument()] = None,
    values: Annotated[list[str] | None, typer.Argument(metavar="[VALUE...]")] = None,
) -> None:
    """Shows the settings or the path of their file, prints one (`get KEY`), changes it (`set KEY VALUE`) or resets it
    (`unset KEY`).
    """
    if action is ConfigAction.PATH:
        typer.echo(configuration.config_path())
    elif action is ConfigAction.SHOW:
        for name, now in load_settings().model_dump(mode="json").items():
            told = Settings.model_fields[name].description
            typer.echo(f"{name} = {json.dumps(now)}" + (f"  # {told}" if told else ""))
    elif key is None or (action is ConfigAction.SET) != bool(values):
        needed = "a key and a value" if action is ConfigAction.SET else "a key and no value"
        example = {"get": "get rate", "unset": "unset record"}.get(action.value, "set rate 25")
        raise ConfigError(f"`config {action.value}` needs {needed}", f"for example: occlufix-vcam config {example}")
    elif action is ConfigAction.GET:
        typer.echo(json.dumps(configuration.get_setting(key)))
    else:
        value = configuration.from_text(key, ",".join(values)) if values else None
        if key == "record" and value:
            check_recording(Path(str(value)))
        path = configuration.save_settings({key: value})
        typer.echo(f"saved to {path}; a running camera uses it after a restart")
