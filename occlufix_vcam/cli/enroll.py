"""`occlufix-vcam enroll`: uses the daemon's camera if one runs, else the camera itself, or image files."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from occlufix_vcam.cli.daemon import open_client
from occlufix_vcam.cli.render import counted
from occlufix_vcam.core.errors import CameraLost, ConfigError, OccluFixError
from occlufix_vcam.core.settings import Settings, load_settings
from occlufix_vcam.core.state import StateFolder

if TYPE_CHECKING:
    from occlufix_vcam.client.client import ControlClient
    from occlufix_vcam.enrollment.photographs import PhotographReport
    from occlufix_vcam.enrollment.session import EnrolmentStatus
    from occlufix_vcam.people.store import PeopleStore

POLL_S = 0.2
SHOWN_FROM = {"front": "from the front", "left": "turned to the left", "right": "turned to the right"}
#: Said before a face is stored for the first time under a name.
PURPOSE = (
    "OccluFix Camera will store views of this face on this machine, encrypted, to restore it when something hides it.\n"
    "Enroll only your own face, or that of a person who agrees."
)


def enroll(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]", help="name of the person; default: me")] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="PICTURE...", help="photographs, or folders of them, instead of the camera"),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="list who is enrolled")] = False,
    delete: Annotated[str | None, typer.Option(metavar="NAME", help="delete a person")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask whether this is your own face")] = False,
) -> None:
    """Remembers a face on this machine, so that it is restored as itself even behind a mask."""
    from occlufix_vcam.people.store import PeopleStore
    from occlufix_vcam.system.core_dumps import disable_core_dumps

    disable_core_dumps()
    store = PeopleStore()
    store.check()
    if delete is not None:
        store.delete(delete)
        typer.echo(f"{delete} is deleted")
    elif listed:
        _list(store)
    else:
        # A shell's wildcard after --from gives several arguments, of which the option takes the first.
        more = [Path(name) for name in names or () if pictures and Path(name).exists()]
        who = [name for name in names or () if Path(name) not in more] or ["me"]
        if len(who) > 1:
            raise ConfigError(
                f"only one name is allowed, not {', '.join(who)}", "put quotes around a name that has spaces"
            )
        _ask_consent(who[0], store, yes)
        _enroll(who[0], [*(pictures or ()), *more], store)


def _ask_consent(name: str, store: PeopleStore, yes: bool) -> None:
    """States the purpose and, at a terminal, asks for consent, once per person. Raises OccluFixError if it is refused.

    A script cannot be asked: it reads the purpose in its output.
    """
    if yes or store.has(name):
        return
    typer.echo(PURPOSE, err=True)
    if sys.stdin.isatty() and not typer.confirm("Is this your own face, or does the person agree?", err=True):
        raise OccluFixError("enrollment was cancelled", "nothing was stored")


def _list(store: PeopleStore) -> None:
    from occlufix_vcam.enrollment.session import list_people

    facts = list_people(store)
    for person in facts["people"]:
        typer.echo(f"{person['name']}  {counted(person['views'], 'view')}")
    for problem in facts["problems"]:
        typer.echo(f"left out: {problem['message']}\n  {problem['hint']}", err=True)
    typer.echo(f"stored in {store.folder}, {facts['protection']}" if facts["people"] else "no one is enrolled")


def _enroll(name: str, pictures: Sequence[Path], store: PeopleStore) -> None:
    if pictures:
        _print_report(enrol_from_pictures(name, pictures, load_settings(), store))
    else:
        with contextlib.ExitStack() as held:
            state = StateFolder()
            if state.held():
                steps = enroll_at_daemon(held.enter_context(open_client(state)), name)
            else:
                steps = enroll_at_camera(name, load_settings(), store)
            _print_steps(held.enter_context(closing(steps)))
    typer.echo(f"stored in {store.folder}, {store.protection}")


def _print_report(report: PhotographReport) -> None:
    for file, why in report.skipped:
        typer.echo(f"skipped {file.name}: {why}", err=True)
    views, used = counted(len(report.person.views), "view"), counted(report.used, "picture")
    typer.echo(f"{report.person.name} is enrolled with {views}; {used} used")
    if report.missing:
        missing = " and ".join(SHOWN_FROM[pose] for pose in report.missing)
        typer.echo(f"still missing: a picture {missing}; with it the face is restored better as it turns")


def _print_steps(steps: Iterable[EnrolmentStatus]) -> None:
    """Prints each step once, as it changes."""
    said = ""
    for status in steps:
        line = f"{status['views']} of {status['wanted']} views  {status['say']}"
        if line != said:
            typer.echo(line if status["state"] == "looking" else status["say"])
            said = line


def enroll_at_daemon(client: ControlClient, name: str) -> Generator[EnrolmentStatus, None, None]:
    """Follows an enrollment until it ends, and cancels it if the caller stops. Raises EnrollmentError, ControlError."""
    from occlufix_vcam.people.person import EnrollmentError

    status: EnrolmentStatus | None = client.enroll(name)
    try:
        while status is not None and status["state"] == "looking":
            yield status
            time.sleep(POLL_S)
            status = client.enrollment()
    finally:
        if status is None or status["state"] == "looking":
            client.cancel_enrollment()
    if status is not None:
        if status["state"] == "failed":
            raise EnrollmentError(status["say"], status["hint"])
        yield status


def enroll_at_camera(name: str, settings: Settings, store: PeopleStore) -> Generator[EnrolmentStatus, None, None]:
    """Enrolls without a daemon, with the camera in the settings. Raises OccluFixError, EngineError."""
    from occlufix_vcam.assembly import open_camera, open_collector
    from occlufix_vcam.core.frame import Frame
    from occlufix_vcam.core.handoff import Broadcast
    from occlufix_vcam.enrollment.session import CameraEnrollment
    from occlufix_vcam.sources import EndOfClip

    pictures: Broadcast[Frame] = Broadcast()
    worker = CameraEnrollment(name, pictures, settings, store, open_collector)
    with closing(open_camera(settings)) as camera:
        worker.start()
        try:
            while worker.is_alive():
                try:
                    frame = camera.read(POLL_S)
                except EndOfClip:
                    raise CameraLost(
                        "the clip ended before there were enough views", "use a longer one, or a camera"
                    ) from None
                if frame is not None:
                    pictures.show(frame)
                yield worker.status
        finally:
            worker.cancel()
            worker.join()
    if worker.error is not None:
        raise worker.error
    yield worker.status


def enrol_from_pictures(
    name: str, pictures: Sequence[Path], settings: Settings, store: PeopleStore
) -> PhotographReport:
    """Enrolls one person from images and folders. Raises EnrollmentError, DeviceError, EngineError."""
    from occlufix_vcam.assembly import open_collector
    from occlufix_vcam.enrollment.photographs import enroll_from_photographs
    from occlufix_vcam.inference import EngineSet
    from occlufix_vcam.people.person import checked_name

    checked_name(name)
    with closing(EngineSet(settings)) as engines:
        return enroll_from_photographs(name, pictures, open_collector(settings, engines), store)
