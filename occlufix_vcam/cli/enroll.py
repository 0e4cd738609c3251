"""`occlufix-vcam enroll`: at the daemon's camera where one runs, else at the camera itself, or from pictures."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

from occlufix_vcam.assembly import open_camera, open_collector
from occlufix_vcam.client.client import ControlClient
from occlufix_vcam.core.errors import CameraLost
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.handoff import Broadcast
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.enrollment.collector import keep
from occlufix_vcam.enrollment.session import CameraEnrolment, EnrolmentStatus
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.people.person import EnrolmentError, Person, checked_name
from occlufix_vcam.people.store import PeopleStore
from occlufix_vcam.sources import EndOfClip

POLL_S = 0.2


def enrol_at_daemon(client: ControlClient, name: str) -> Generator[EnrolmentStatus, None, None]:
    """How it goes, until it is done. Raises EnrolmentError, ControlError; ends it where the caller stops asking."""
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
    checked_name(name)
    with closing(EngineSet(settings)) as engines:
        enrolment = open_collector(settings, engines)
        for picture in pictures:
            enrolment.add_picture(picture)
        return keep(enrolment.person(name), store, enrolment.embed)
