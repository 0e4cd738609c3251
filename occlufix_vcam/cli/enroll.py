"""`occlufix-vcam enroll`: at the daemon's camera where one runs, else at the camera itself, or from pictures."""

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
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]", help="who; `me` without it")] = None,
    pictures: Annotated[
        list[Path] | None, typer.Option("--from", metavar="PICTURE...", help="photographs instead of the camera")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="say who is enrolled")] = False,
    delete: Annotated[str | None, typer.Option(metavar="NAME", help="forget a person for good")] = None,
) -> None:
    """Remembers a face, on this machine only, so that it is restored as itself also behind a mask."""
    from occlufix_vcam.people.store import PeopleStore

    store = PeopleStore()
    if delete is not None:
        store.delete(delete)
        typer.echo(f"{delete} is forgotten")
    elif listed:
        _list(store)
    else:
        # A shell's wildcard behind --from gives more than one, of which the option takes the first.
        more = [Path(name) for name in names or () if pictures and Path(name).is_file()]
        who = [name for name in names or () if Path(name) not in more] or ["me"]
        if len(who) > 1:
            raise ConfigError(f"one name at a time, not {', '.join(who)}", "quote a name with spaces")
        _enroll(who[0], [*(pictures or ()), *more], store)


def _list(store: PeopleStore) -> None:
    from occlufix_vcam.enrollment.session import list_people

    facts = list_people(store)
    for person in facts["people"]:
        typer.echo(f"{person['name']}  {person['views']} views")
    for problem in facts["problems"]:
        typer.echo(f"left out: {problem['message']}\n  {problem['hint']}", err=True)
    typer.echo(f"kept in {store.folder}, {facts['protection']}" if facts["people"] else "nobody is enrolled")


def _enroll(name: str, pictures: Sequence[Path], store: PeopleStore) -> None:
    if pictures:
        person = enrol_from_pictures(name, pictures, load_settings(), store)
        typer.echo(f"{person.name} is enrolled with {len(person.views)} views")
    else:
        with contextlib.ExitStack() as held:
            state = StateFolder()
            if state.held():
                steps = enrol_at_daemon(held.enter_context(open_client(state)), name)
            else:
                steps = enrol_at_camera(name, load_settings(), store)
            _print_steps(held.enter_context(closing(steps)))
    typer.echo(f"kept in {store.folder}, {store.protection}")


def _print_steps(steps: Iterable[EnrolmentStatus]) -> None:
    """Each step once, as it changes."""
    said = ""
    for status in steps:
        line = f"{status['views']} of {status['wanted']} views  {status['say']}"
        if line != said:
            typer.echo(line if status["state"] == "looking" else status["say"])
            said = line


def enrol_at_daemon(client: ControlClient, name: str) -> Generator[EnrolmentStatus, None, None]:
    """How it goes, until it is done. Raises EnrolmentError, ControlError; ends it where the caller stops asking."""
    from occlufix_vcam.people.person import EnrolmentError

    status: EnrolmentStatus | None = client.enrol(name)
    try:
        while status is not None and status["state"] == "looking":
            yield status
            time.sleep(POLL_S)
            status = client.enrolment()
    finally:
        if status is None or status["state"] == "looking":
            client.cancel_enrolment()
    if status is not None:
        if status["state"] == "failed":
            raise EnrolmentError(status["say"], status["hint"])
        yield status


def enrol_at_camera(name: str, settings: Settings, store: PeopleStore) -> Generator[EnrolmentStatus, None, None]:
    """The same without a daemon, with the camera that the settings name. Raises OccluFixError, EngineError."""
    from occlufix_vcam.assembly import open_camera, open_collector
    from occlufix_vcam.core.frame import Frame
    from occlufix_vcam.core.handoff import Broadcast
    from occlufix_vcam.enrollment.session import CameraEnrolment
    from occlufix_vcam.sources import EndOfClip

    pictures: Broadcast[Frame] = Broadcast()
    worker = CameraEnrolment(name, pictures, settings, store, open_collector)
    with closing(open_camera(settings)) as camera:
        worker.start()
        try:
            while worker.is_alive():
                try:
                    frame = camera.read(POLL_S)
                except EndOfClip:
                    raise CameraLost("the clip ended before enough was seen", "use a longer one, or a camera") from None
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
    """The face of each picture, all of one person. Raises EnrolmentError, DeviceError, EngineError."""
    from occlufix_vcam.assembly import open_collector
    from occlufix_vcam.enrollment.collector import keep
    from occlufix_vcam.inference import EngineSet
    from occlufix_vcam.people.person import checked_name

    checked_name(name)
    with closing(EngineSet(settings)) as engines:
        enrolment = open_collector(settings, engines)
        for picture in pictures:
            enrolment.add_picture(picture)
        return keep(enrolment.person(name), store, enrolment.embed)
