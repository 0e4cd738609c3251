"""Prints the results of commands: tables of statistics, findings and devices, and a progress bar."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from occlufix_vcam import __version__
from occlufix_vcam.system.v4l2 import OWN_LABEL

#: Names under which programs list the camera.
LABELS = (OWN_LABEL, "OBS Virtual Camera")

if TYPE_CHECKING:
    from engines.cache import EngineCache
    from occlufix_vcam.core.status import Status
    from occlufix_vcam.diagnostics.doctor import Devices, Finding
    from occlufix_vcam.diagnostics.setup import SetupPlan
    from occlufix_vcam.offline.engine_check import EngineCheck


def print_status(now: Status, url: str, other: str | None) -> None:
    """Prints the status. `other` is the daemon's version if it differs from this command's."""
    print_running(now, url)
    if now["viewers"] is not None:
        typer.echo(f"  read by  {', '.join(now['readers']) or 'no program'}")
    typer.echo(f"  restores {'yes' if now['enabled'] else 'no, switched off'}")
    typer.echo(
        f"  frames   {now['frames']} in {now['uptime_s']:.0f} s, {now['fps']} a second, {now['dropped']} dropped, "
        f"{counted(now.get('freezes', 0), 'freeze')}"
    )
    faces, failed = counted(now["faces"], "face"), counted(now["failed"], "frame")
    known = f", recognised as {', '.join(now['recognised'])}" if now.get("recognised") else ""
    typer.echo(f"  faces    {faces} seen{known}, {now['restored']} restored so far, {failed} failed")
    if bare := now.get("bare"):
        typer.echo(f"  bare     {counted(bare, 'frame')} went out as the camera saw them, as `on_failure` says")
    if (recording := now.get("recording")) is not None:
        typer.echo(f"  records  to {recording['file']}")
    for stage, figures in {"capture to sink": now["latency"], **now["stages"]}.items():
        if figures is not None:
            p50, p95, p99 = figures["p50_ms"], figures["p95_ms"], figures["p99_ms"]
            typer.echo(f"  {stage:<16} p50 {p50:6.1f}  p95 {p95:6.1f}  p99 {p99:6.1f} ms")
    if other is not None:
        typer.echo(f"  version  {other} is running, this command is {__version__}: stop it and start again")


def print_started(status: Status, url: str) -> None:
    """Prints what matters after a start: that it runs, how to choose it, and where to see more."""
    size = status["size"] or (0, 0)
    typer.echo(f"OccluFix Camera is {status['state']}: {status['camera']}, {size[0]}x{size[1]}")
    label = next((label for label in LABELS if any(label in sink for sink in status["sinks"])), "")
    typer.echo(f"in your call, choose {label}" if label else f"frames go to {', '.join(status['sinks']) or 'nothing'}")
    _print_troubles("trouble ", status["trouble"], status)
    typer.echo(f"control page {url}: open it with `occlufix-vcam preview`")


def print_running(status: Status, url: str) -> None:
    """Prints camera, sinks, engines and troubles."""
    size = status["size"] or (0, 0)
    typer.echo(f"OccluFix Camera is {status['state']} (process {status['pid']})")
    closed = "" if status["camera_open"] else ", closed until a program reads"
    typer.echo(f"  camera   {status['camera']}, {size[0]}x{size[1]}{closed}")
    typer.echo(f"  sinks    {', '.join(status['sinks']) or 'nothing'}")
    for line in _engine_lines(status):
        typer.echo(f"  {line}")
    _print_troubles("trouble ", status["trouble"], status)
    _print_troubles("left out", status.get("left_out") or {}, status)
    typer.echo(f"  control  {url}")


def _print_troubles(title: str, told: dict[str, str], status: Status) -> None:
    hints = status.get("hints") or {}  # daemons of earlier versions have none
    for name, what in told.items():
        typer.echo(f"  {title} {name}: {what}")
        if name in hints:
            typer.echo(f"           {hints[name]}")


def _engine_lines(status: Status) -> Iterator[str]:
    if not status["engine"]:
        yield "engine   loading; frames pass untouched until then"
    for model, facts in status["engine"].items():
        yield f"engine   {model}: {facts['backend']} on {facts['device']}, {facts['precision']}"
    for model, share in status["building"].items():
        yield f"         building the engine for {model}: {100 * share:.0f} %"
    reasons = {one["backend"]: one["reason"] for facts in status["engine"].values() for one in facts["passed_over"]}
    for backend, reason in reasons.items():
        yield f"         not {backend}: {reason}"


def print_devices(found: Devices) -> None:
    _print_list("cameras", [f"{camera.index}  {camera.name}  {camera.path}" for camera in found.cameras])
    virtual_cameras = [(one.name or one.backend, one.path, one.problem or "ready") for one in found.virtual_cameras]
    _print_list("virtual cameras", ["  ".join(filter(None, facts)) for facts in virtual_cameras])
    typer.echo("engine backends")
    for backend in found.backends:
        typer.echo(f"  {backend.name}  {backend.device if backend.available else backend.reason}")
        if backend.warning:
            typer.echo(f"  {backend.name}  {backend.warning}")
    typer.echo("engines, fastest first")
    for model, timings in found.engines.items():
        typer.echo(f"  {model}  {'; '.join(timings) or 'not timed yet: run `occlufix-vcam doctor`'}")


def _print_list(title: str, lines: Sequence[str]) -> None:
    typer.echo(title)
    for line in lines or ("none found",):
        typer.echo(f"  {line}")


def counted(number: int, what: str) -> str:
    """Number and noun: "1 face", "2 faces"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def print_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        typer.echo(f"{finding.verdict:<8} {finding.what}: {finding.found}")
        if finding.hint:
            typer.echo(f"         {finding.hint}")


def print_plan(plan: SetupPlan) -> None:
    for line in plan.ready:
        typer.echo(f"ok       {line}")
    for step in plan.steps:
        typer.echo(f"to do    {step.why}\n           {step}")
    for line in plan.notes:
        typer.echo(f"note     {line}")


def print_steps_by_hand(lines: tuple[str, ...]) -> None:
    """Prints what only the user can do, and how much of it is done."""
    from occlufix_vcam.sinks.opening import list_virtual_cameras

    for camera in list_virtual_cameras():
        typer.echo(f"{'ok' if not camera.problem else 'missing':<8} {camera.name}  {camera.problem}".rstrip())
    for number, line in enumerate(lines, 1):
        typer.echo(f"{number}. {line}")
    typer.echo("check the result with `occlufix-vcam doctor`")


def print_check(check: EngineCheck) -> None:
    size = f", {check.size_mb:.1f} MB" if check.size_mb is not None else ""
    where = f"{check.backend} for {check.device}" if check.note else f"{check.backend} on {check.device}"
    typer.echo(f"{check.model} {check.shape}: {where}, {check.precision}; built in {check.build_s:.1f} s{size}")
    if check.psnr_db is not None:
        typer.echo(
            f"  difference from FP32 on {check.crops} crops: mean {check.mean_error:.2f}, "
            f"at most {check.largest_error:.0f} of 255; {check.psnr_db:.1f} dB"
        )
        typer.echo(
            f"  p50 {check.p50_ms:.1f}, p99 {check.p99_ms:.1f} ms; "
            f"FP32 ONNX p50 {check.fp32_p50_ms:.1f}, p99 {check.fp32_p99_ms:.1f} ms"
        )
    if check.note:
        typer.echo(f"  {check.note}")
    if check.file:
        typer.echo(f"  {check.file}")


def print_kept_engines(cache: EngineCache) -> None:
    for entry in cache.entries():
        facts = entry.facts
        target = facts.get("gpu") or facts.get("architecture") or facts.get("device", "")
        told = [entry.model, facts.get("library") or facts.get("backend", ""), target, facts.get("precision", "")]
        told += [f"{entry.size / 1e6:.1f} MB", time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.built_at))]
        told += ["checked"] if entry.notes.get("checked") else []
        typer.echo("  ".join([*filter(None, told), entry.path.name]))
    typer.echo(f"stored in {cache.folder}")


@contextlib.contextmanager
def progress(what: str, share: bool = False) -> Iterator[Callable[..., None]]:
    """Shows a progress bar on the terminal during the block; none of it reaches standard output or a log.

    `share` adds the percentage and the time that is left. Yields a function that updates it: done, total (None:
    unknown), and the current step if it changes.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TaskProgressColumn as PercentageColumn
    from rich.progress import TimeRemainingColumn as TimeLeftColumn

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    columns += [PercentageColumn(), TextColumn("left"), TimeLeftColumn()] if share else []
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, of: int | None, now: str = what) -> None:
            bar.update(task, completed=done, total=of, description=now)

        yield show
