"""The occlufix-vcam command: parses, calls, prints. The only place that prints or exits.

What a command needs is imported inside it, so that `status` does not wait for OpenCV.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from occlufix_vcam import __version__
from occlufix_vcam.cli import desktop
from occlufix_vcam.core import settings as configuration
from occlufix_vcam.core.errors import ConfigError, DeviceError, OccluFixError
from occlufix_vcam.core.settings import Settings, load_settings
from occlufix_vcam.core.state import NotRunning, StateFolder

if TYPE_CHECKING:
    from engines.errors import EngineError
    from occlufix_vcam.client.client import ControlClient
    from occlufix_vcam.core.status import Status
    from occlufix_vcam.offline.engine_check import EngineCheck
    from occlufix_vcam.people.store import PeopleStore
    from occlufix_vcam.runtime.daemon import Daemon

STOPPED_WITHIN_S = 10.0
#: Threads that may hang in a driver, as the daemon and the camera name them.
WORKERS = {"capture", "process", "output", "opening", "camera"}

app = typer.Typer(
    name="occlufix-vcam",
    help="A virtual camera that restores the hidden part of your face. --debug, anywhere, shows tracebacks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
desktop.add_to(app)


class Switch(StrEnum):
    ON = "on"
    OFF = "off"


class ConfigAction(StrEnum):
    SHOW = "show"
    PATH = "path"
    SET = "set"


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
    # Only where engines were imported they can have failed: importing them takes as long as all the rest.
    if isinstance(error, OccluFixError):
        return error
    if "engines.base" in sys.modules:
        from engines.errors import EngineError

        if isinstance(error, EngineError):
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


# ---- the daemon ----


@app.command()
def start(
    source: Annotated[str | None, typer.Option(help="camera number, name or path, a clip, or demo")] = None,
    sink: Annotated[list[str] | None, typer.Option(help="auto, null or a virtual camera; may be repeated")] = None,
    record: Annotated[Path | None, typer.Option(help="also record to this file: .mp4, or .mkv without loss")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="stop by itself after this time")] = None,
    finder: Annotated[str | None, typer.Option(help="own or insightface")] = None,
    backend: Annotated[str | None, typer.Option(help="engine backend; auto takes the best")] = None,
    always_on: Annotated[bool, typer.Option("--always-on", help="keep the camera open while nobody watches")] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="stay in this terminal")] = False,
    detached: Annotated[bool, typer.Option("--detached", hidden=True)] = False,
) -> None:
    """Starts the daemon, one per user, and waits until OccluFix Camera is in the list of cameras."""
    given: dict[str, object] = {
        "source": source,
        "sinks": sink,
        "record": record,
        "finder": finder,
        "backend": backend,
        "always_on": always_on or None,
    }
    settings = load_settings({name: value for name, value in given.items() if value is not None})
    state = StateFolder()
    if foreground or detached:
        _run_daemon(settings, state, seconds, detached)
        return
    if state.held():
        raise state.already_running()
    arguments = [f"--{name}={given[name]}" for name in ("source", "record", "finder", "backend") if given[name]]
    arguments += [f"--sink={name}" for name in sink or ()]
    arguments += ["--always-on"] if always_on else []
    arguments += [f"--seconds={seconds}"] if seconds is not None else []
    from occlufix_vcam.client.launch import launch

    running = launch(arguments, state)
    if running is None:
        typer.echo("ended already")
    else:
        _print_running(*running)


def _run_daemon(settings: Settings, state: StateFolder, seconds: float | None, detached: bool) -> None:
    from occlufix_vcam.control.api import serve
    from occlufix_vcam.core.telemetry import configure_logging
    from occlufix_vcam.runtime.daemon import Daemon
    from occlufix_vcam.runtime.idle_autotune import autotune_when_idle

    with state.hold():
        configure_logging(state.log, settings.log_level.upper())
        daemon = Daemon(settings)
        _stop_on_signals(daemon)
        with serve(daemon, state, settings.control_port) as address, autotune_when_idle(daemon):

            def told() -> None:
                if detached:
                    _go_silent()
                else:
                    _print_running(daemon.status(), address.url)

            daemon.run(seconds, on_running=told)
        if not detached:
            typer.echo(f"stopped after {daemon.status()['frames']} pictures")


def _stop_on_signals(daemon: Daemon) -> None:
    def stop(*_: object) -> None:
        # In a thread: the handler may have interrupted the very wait whose lock `stop` takes.
        threading.Thread(target=daemon.stop, name="stop").start()

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)


def _go_silent() -> None:
    """From here on nobody reads what is printed, and the file that held it must not grow."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123  not a path on Windows
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere.fileno(), stream.fileno())


def _print_running(status: Status, url: str) -> None:
    size = status["size"] or (0, 0)
    typer.echo(f"OccluFix Camera is {status['state']} (process {status['pid']})")
    closed = "" if status["camera_open"] else ", closed until a program reads"
    typer.echo(f"  camera   {status['camera']}, {size[0]}x{size[1]}{closed}")
    typer.echo(f"  sends to {', '.join(status['sinks']) or 'nothing'}")
    for line in _engine_lines(status):
        typer.echo(f"  {line}")
    _print_troubles("trouble ", status["trouble"], status)
    _print_troubles("left out", status.get("left_out") or {}, status)
    typer.echo(f"  control  {url}")


def _print_troubles(title: str, told: dict[str, str], status: Status) -> None:
    hints = status.get("hints") or {}  # a daemon of an earlier version has none
    for name, what in told.items():
        typer.echo(f"  {title} {name}: {what}")
        if name in hints:
            typer.echo(f"           {hints[name]}")


def _engine_lines(status: Status) -> Iterator[str]:
    if not status["engine"]:
        yield "engine   still being made; until then the picture passes untouched"
    for model, facts in status["engine"].items():
        yield f"engine   {model}: {facts['backend']} on {facts['device']}, {facts['precision']}"
    for model, share in status["building"].items():
        yield f"         building the engine for {model}: {100 * share:.0f} %"
    reasons = {one["backend"]: one["reason"] for facts in status["engine"].values() for one in facts["passed_over"]}
    for backend, reason in reasons.items():
        yield f"         not {backend}: {reason}"


@app.command()
def stop() -> None:
    """Stops the running daemon and waits until it is gone."""
    state = StateFolder()
    with _client(state) as client:
        pid = client.address.pid
        client.stop()
    if not state.wait_until_free(STOPPED_WITHIN_S):
        raise OccluFixError(f"process {pid} did not stop within {STOPPED_WITHIN_S:.0f} s", "end that process")
    typer.echo("stopped")


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False) -> None:
    """Says how the running daemon is doing."""
    try:
        with _client(StateFolder()) as client:
            now, url, other = client.status(), client.address.url, client.other_version()
    except NotRunning:
        if as_json:
            typer.echo(json.dumps({"state": "stopped"}))
        raise
    if as_json:
        typer.echo(json.dumps(now))
        return
    _print_running(now, url)
    if now["viewers"] is not None:
        typer.echo(f"  read by  {', '.join(now['readers']) or 'nobody'}")
    typer.echo(f"  restores {'yes' if now['enabled'] else 'no, switched off'}")
    typer.echo(
        f"  pictures {now['frames']} in {now['uptime_s']:.0f} s, {now['fps']} a second, {now['dropped']} dropped"
    )
    typer.echo(f"  faces    {now['faces']} seen, {now['restored']} restored so far, {now['failed']} pictures failed")
    for stage, figures in {"capture to sink": now["latency"], **now["stages"]}.items():
        if figures is not None:
            p50, p95, p99 = figures["p50_ms"], figures["p95_ms"], figures["p99_ms"]
            typer.echo(f"  {stage:<16} p50 {p50:6.1f}  p95 {p95:6.1f}  p99 {p99:6.1f} ms")
    if other is not None:
        typer.echo(f"  version  {other} runs, this command is {__version__}: stop it and start it again")


@app.command()
def toggle(
    switch: Annotated[Switch | None, typer.Argument(help="on or off; without it, the other one")] = None,
) -> None:
    """Switches restoring on or off; off passes the untouched picture."""
    with _client(StateFolder()) as client:
        enabled = client.toggle(None if switch is None else switch is Switch.ON)
    typer.echo("on" if enabled else "off")


@app.command()
def preview(
    no_browser: Annotated[bool, typer.Option("--print", help="print the link, open nothing")] = False,
) -> None:
    """Opens the control page: before and after, figures, settings. The link works once, within a minute.

    Prints the link where no browser opens it.
    """
    with _client(StateFolder()) as client:
        from occlufix_vcam.client.open_page import open_page

        link = client.link() if no_browser else open_page(client)
    if link:
        typer.echo(link)


def _client(state: StateFolder) -> ControlClient:
    if not state.held():
        raise NotRunning  # said without waiting for the client's imports
    from occlufix_vcam.client.client import ControlClient

    return ControlClient(state)


# ---- without a daemon ----


@app.command()
def process(
    source: Annotated[Path, typer.Argument(metavar="IN", help="a picture, a video or a folder of pictures")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="a file, or a folder for a folder")],
    mask: Annotated[Path | None, typer.Option(help="white is hidden; a folder of masks for a folder")] = None,
    reference: Annotated[Path | None, typer.Option(help="a photograph of the same person, unhidden")] = None,
    aligned: Annotated[bool, typer.Option("--aligned", help="IN already is a 256x256 template crop")] = False,
    side_by_side: Annotated[bool, typer.Option("--side-by-side", help="before and after in one picture")] = False,
    report: Annotated[Path | None, typer.Option(help="write figures of each file to this JSON file")] = None,
) -> None:
    """Restores a picture, a video or a folder of pictures with the live pipeline."""
    from occlufix_vcam.offline.process import StageOverrides
    from occlufix_vcam.offline.process import process as run

    swaps = StageOverrides(mask, reference, aligned, side_by_side)
    with _progress(source.name) as show:
        told = run(source, target, swaps, load_settings(), show)
    if report is not None:
        told.save(report)
    failed = [one for one in told.files if one.error]
    for one in failed:
        typer.echo(f"left out: {one.file}: {one.error}", err=True)
    restored = sum(one.restored for one in told.files)
    typer.echo(f"{len(told.files) - len(failed)} of {len(told.files)} files written, {restored} faces restored")
    if failed:
        raise typer.Exit(DeviceError.exit_code)


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[..., None]]:
    """A bar on the terminal while the block lasts: nothing of it reaches what is printed, or a log.

    Gives what moves it: done, of how many (None: nobody knows), and what is done now if that changes.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, of: int | None, now: str = what) -> None:
            bar.update(task, completed=done, total=of, description=now)

        yield show


@app.command()
def enroll(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]", help="who; `me` without it")] = None,
    pictures: Annotated[
        list[Path] | None, typer.Option("--from", metavar="PICTURE...", help="photographs instead of the camera")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="say who is enrolled")] = False,
    delete: Annotated[str | None, typer.Option(metavar="NAME", help="forget a person for good")] = None,
) -> None:
    """Remembers a face, on this machine only, so that it is restored as itself also behind a mask."""
    from occlufix_vcam.enrollment.session import list_people
    from occlufix_vcam.people.store import PeopleStore

    store = PeopleStore()
    if delete is not None:
        store.delete(delete)
        typer.echo(f"{delete} is forgotten")
    elif listed:
        facts = list_people(store)
        for person in facts["people"]:
            typer.echo(f"{person['name']}  {person['views']} views")
        for problem in facts["problems"]:
            typer.echo(f"left out: {problem['message']}\n  {problem['hint']}", err=True)
        typer.echo(f"kept in {store.folder}, {facts['protection']}" if facts["people"] else "nobody is enrolled")
    else:
        # A shell's wildcard behind --from gives more than one, of which the option takes the first.
        more = [Path(name) for name in names or () if pictures and Path(name).is_file()]
        who = [name for name in names or () if Path(name) not in more] or ["me"]
        if len(who) > 1:
            raise ConfigError(f"one name at a time, not {', '.join(who)}", "quote a name with spaces")
        _enroll(who[0], [*(pictures or ()), *more], store)


def _enroll(name: str, pictures: list[Path], store: PeopleStore) -> None:
    from occlufix_vcam.cli import enroll as how

    if pictures:
        person = how.enrol_from_pictures(name, pictures, load_settings(), store)
        typer.echo(f"{person.name} is enrolled with {len(person.views)} views")
    else:
        with contextlib.ExitStack() as held:
            state = StateFolder()
            if state.held():
                steps = how.enrol_at_daemon(held.enter_context(_client(state)), name)
            else:
                steps = how.enrol_at_camera(name, load_settings(), store)
            said = ""
            for status in held.enter_context(contextlib.closing(steps)):
                line = f"{status['views']} of {status['wanted']} views  {status['say']}"
                if line != said:
                    typer.echo(line if status["state"] == "looking" else status["say"])
                    said = line
    typer.echo(f"kept in {store.folder}, {store.protection}")


@app.command()
def devices(as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False) -> None:
    """Lists cameras, virtual cameras and engine backends."""
    from occlufix_vcam.diagnostics.doctor import list_devices

    found = list_devices()
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    typer.echo("cameras")
    for camera in found.cameras:
        typer.echo(f"  {camera.index}  {camera.name}  {camera.path}")
    typer.echo("virtual cameras")
    for virtual in found.virtual_cameras:
        typer.echo(f"  {virtual.name or virtual.backend}  {virtual.path}  {virtual.problem or 'ready'}")
    typer.echo("engine backends")
    for backend in found.backends:
        typer.echo(f"  {backend.name}  {backend.device if backend.available else backend.reason}")
        if backend.warning:
            typer.echo(f"  {backend.name}  {backend.warning}")
    typer.echo("engines, the fastest first")
    for model, ways in found.engines.items():
        typer.echo(f"  {model}  {'; '.join(ways) or 'not timed yet: `occlufix-vcam doctor` does'}")


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False) -> None:
    """Says what is wrong on this machine and how to mend it. Exits with 1 where something must be mended."""
    from occlufix_vcam.diagnostics.doctor import examine

    findings = examine()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            typer.echo(f"{finding.verdict:<8} {finding.what}: {finding.found}")
            if finding.hint:
                typer.echo(f"         {finding.hint}")
    if any(finding.verdict == "error" for finding in findings):
        raise typer.Exit(1)


@app.command()
def setup(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the commands, run none")] = False,
    desktop: Annotated[
        bool, typer.Option("--desktop", help="only menu entry, icon, manual and completion, for you alone")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="take back what an earlier setup did")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do it without asking")] = False,
) -> None:
    """Says what is missing before programs list OccluFix Camera and, when told so, does it."""
    from occlufix_vcam.diagnostics import integration
    from occlufix_vcam.diagnostics import setup as steps
    from occlufix_vcam.system import linux

    if sys.platform in steps.STEPS_BY_HAND:
        _print_steps_by_hand(steps.STEPS_BY_HAND[sys.platform])
        return
    here = linux.this_machine()
    parts = (integration,) if desktop else (steps, integration)
    plan = sum((part.undo_plan(here) if undo else part.setup_plan(here) for part in parts), steps.SetupPlan())
    for line in plan.ready:
        typer.echo(f"ok       {line}")
    for step in plan.steps:
        typer.echo(f"to do    {step.why}\n           {step}")
    for line in plan.notes:
        typer.echo(f"note     {line}")
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
    typer.echo("done; `occlufix-vcam doctor` looks at it again")


def _print_steps_by_hand(lines: tuple[str, ...]) -> None:
    """Where only the user can do it: how, and how far it is."""
    from occlufix_vcam.sinks import list_virtual_cameras

    for camera in list_virtual_cameras():
        typer.echo(f"{'ok' if not camera.problem else 'missing':<8} {camera.name}  {camera.problem}".rstrip())
    for number, line in enumerate(lines, 1):
        typer.echo(f"{number}. {line}")
    typer.echo("`occlufix-vcam doctor` looks whether it worked")


@app.command("build-engine")
def build_engine(
    models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="all without it")] = None,
    backend: Annotated[str | None, typer.Option(help="engine backend; auto takes the best")] = None,
    precision: Annotated[str | None, typer.Option(help="fp16, bf16, int8 or fp32")] = None,
    onnx: Annotated[Path | None, typer.Option(help="an ONNX file in the place of the model's own")] = None,
    for_: Annotated[str, typer.Option("--for", help="TensorRT engines for other GPUs: sm86,portable")] = "",
    list_: Annotated[bool, typer.Option("--list", help="only list the engines that are kept")] = False,
    clean: Annotated[bool, typer.Option("--clean", help="only delete the engines that are kept")] = False,
) -> None:
    """Makes engines, checks them against the FP32 ONNX on 64 real crops, times both, and keeps what is good."""
    if list_ or clean:
        _kept_engines(clean)
        return
    from engines.contract import MODEL_NAMES
    from occlufix_vcam.offline.build_engine import build_engines

    given = {"backend": backend, "precision": precision}
    settings = load_settings({name: value for name, value in given.items() if value is not None})
    architectures = [name.strip() for name in for_.split(",") if name.strip()]
    named = models or ([] if onnx else MODEL_NAMES)
    checks: list[EngineCheck] = []
    try:
        with _progress("looking") as show:
            checks.extend(
                build_engines(
                    named, onnx, settings, architectures, lambda what, share: show(int(100 * share), 100, what)
                )
            )
    finally:  # those that were good, whatever came of the next one
        for check in checks:
            _print_check(check)
    if settings.backend == settings.precision == "auto" and not onnx and not architectures:
        _print_times(named)


def _print_times(models: Sequence[str]) -> None:
    import engines

    for model in models:
        with _progress(f"timing {model}"):
            found = engines.measure(model, again=True)
        typer.echo(f"{model}, the fastest first: {'; '.join(map(str, found))}")


def _print_check(check: EngineCheck) -> None:
    size = f", {check.size_mb:.1f} MB" if check.size_mb is not None else ""
    where = f"{check.backend} for {check.device}" if check.note else f"{check.backend} on {check.device}"
    typer.echo(f"{check.model} {check.shape}: {where}, {check.precision}; built in {check.build_s:.1f} s{size}")
    if check.psnr_db is not None:
        typer.echo(
            f"  off the FP32 ONNX on {check.crops} crops: mean {check.mean_error:.2f}, "
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


def _kept_engines(clean: bool) -> None:
    from engines.cache import EngineCache

    cache = EngineCache()
    if clean:
        count, freed = cache.clean()
        typer.echo(f"{count} engines deleted, {freed / 1e6:.1f} MB freed in {cache.folder}")
        return
    for entry in cache.entries():
        facts = entry.facts
        target = facts.get("gpu") or facts.get("architecture") or facts.get("device", "")
        told = [entry.model, facts.get("library") or facts.get("backend", ""), target, facts.get("precision", "")]
        told += [f"{entry.size / 1e6:.1f} MB", time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.built_at))]
        told += ["checked"] if entry.notes.get("checked") else []
        typer.echo("  ".join([*filter(None, told), entry.path.name]))
    typer.echo(f"kept in {cache.folder}")


@app.command()
def bench(
    source: Annotated[str, typer.Option(help="a clip, a picture, a folder, a camera, or demo")] = "demo",
    frames: Annotated[int, typer.Option(min=1, help="how many to measure")] = 300,
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """Measures the live pipeline on this machine, stage by stage."""
    from occlufix_vcam.offline.benchmark import Bench, as_text

    settings = load_settings({"source": source})
    with contextlib.closing(Bench(settings, frames)) as measured, _progress("measuring") as show:
        measured.warm_up()
        measured.measure(frames, show)
        report = measured.report()
    typer.echo(json.dumps(asdict(report)) if as_json else as_text(report))


@app.command()
def config(
    action: Annotated[ConfigAction, typer.Argument()] = ConfigAction.SHOW,
    key: Annotated[str | None, typer.Argument()] = None,
    value: Annotated[str | None, typer.Argument()] = None,
) -> None:
    """Shows the settings, says where their file is, or sets one: `config set KEY VALUE`."""
    if action is ConfigAction.PATH:
        typer.echo(configuration.config_path())
    elif action is ConfigAction.SHOW:
        for name, now in load_settings().model_dump(mode="json").items():
            told = Settings.model_fields[name].description
            typer.echo(f"{name} = {json.dumps(now)}" + (f"  # {told}" if told else ""))
    elif key is None or value is None:
        raise ConfigError("`config set` needs a key and a value", "for example: occlufix-vcam config set rate 25")
    else:
        path = configuration.save_settings({key: value})
        typer.echo(f"written to {path}; a running daemon takes it at its next start")
