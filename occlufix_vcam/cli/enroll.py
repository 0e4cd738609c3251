"""`occlufix-vcam enroll`: uses the daemon's camera if one runs, else the camera itself, or image files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from occlufix_vcam.cli.daemon import open_client
from occlufix_vcam.core.errors import CameraLost, ConfigError
from occlufix_vcam.core.settings import Settings, load_settings
from occlufix_vcam.core.state import StateFolder

if TYPE_CHECKING:
    from occlufix_vcam.client.client import ControlClient
    from occlufix_vcam.enrollment.session import EnrolmentStatus
    from occlufix_vcam.people.person import Person
    from occlufix_vcam.people.store import PeopleStore

POLL_S = 0.2


def enroll(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]", help="name of the person; default: me")] = None,
    pictures: Annotated[
        list[Path] | None, typer.Option("--from", metavar="PICTURE...", help="photographs to use instead of the camera")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="list who is enrolled")] = False,
    delete: Annotated[str | None, typer.Option(metavar="NAME", help="delete a person")] = None,
) -> None:
    """Remembers a face on this machine, so that it is restored as itself even behind a mask."""
    from occlufix_vcam.people.store import PeopleStore

    store = PeopleStore()
    if delete is not None:
        store.delete(delete)
        typer.echo(f"{delete} is deleted")
    elif listed:
        _list(store)
    else:
        # A shell's wildcard after --from gives several arguments, of which the option takes the first.
        more = [Path(name) for name in names or () if pictures and Path(name).is_file()]
        who = [name for name in names or () if Path(name) not in more] or ["me"]
        if len(who) > 1:
            raise ConfigError(
                f"only one name is allowed, not {', '.join(who)}", "put quotes around a name that has spaces"
            )
        _enroll(who[0], [*(pictures or ()), *more], store)


def _list(store: PeopleStore) -> None:
    from occlufix_vcam.enrollment.session import list_people

    facts = list_people(store)
    for person in facts["people"]:
        typer.echo(f"{person['name']}  {person['views']} views")
    for problem in facts["problems"]:
        typer.echo(f"left out: {problem['message']}\n  {problem['hint']}", err=True)
    typer.echo(f"stored in {store.folder}, {facts['protection']}" if facts["people"] else "no one is enrolled")


def _enroll(name: str, pictures: Sequence[Path], store: PeopleStore) -> None:
    if pictures:
        person = enrol_from_pictures(name, pictures, load_settings(), store)
        typer.echo(f"{person.name} is enrolled with {len(person.views)} views")
    else:
        with contextlib.ExitStack() as held:
            state = StateFolder()
            if state.held():
                steps = enroll_at_daemon(held.enter_context(open_client(state)), name)
            else:
                steps = enroll_at_camera(name, load_settings(), store)
            _print_steps(held.enter_context(closing(steps)))
    typer.echo(f"stored in {store.folder}, {store.protection}")


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


def enrol_from_pictures(name: str, pictures: Sequence[Path], settings: Settings, store: PeopleStore) -> Person:
    """Enrolls from images of one person, one face in each. Raises EnrollmentError, DeviceError, EngineError."""
    from occlufix_vcam.assembly import open_collector
    from occlufix_vcam.enrollment.collector import keep
    from occlufix_vcam.inference import EngineSet
    from occlufix_vcam.people.person import checked_name

    checked_name(name)
    with closing(EngineSet(settings)) as engines:
        enrollment = open_collector(settings, engines)
        for picture in pictures:
            enrollment.add_picture(picture)
        return keep(enrollment.person(name), store, enrollment.embed)
