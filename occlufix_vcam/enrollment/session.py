"""Enrollment at the camera, in a thread of its own, while the daemon's frames continue.

The same thread serves the daemon, which has the camera open, and the command line, which opens it if no daemon runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from typing_extensions import TypedDict

from engines.contract import Image
from engines.errors import EngineError
from occlufix_vcam.core.errors import DeviceError, OccluFixError, trouble_of
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.handoff import Broadcast
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.enrollment.collector import ViewCollector, keep
from occlufix_vcam.enrollment.photographs import enroll_from_photographs
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.people.person import EnrollmentError, checked_name
from occlufix_vcam.people.store import PeopleStore

log = logging.getLogger(__name__)

LONGEST_S = 30.0
DEMO = "demo"
#: Looking more often would take time from the output.
LOOK_EVERY_S = 0.1
PATIENCE_S = 0.2
JOIN_S = 5.0  # most of it for loading the engines


#: Creates the collector of one person, in the thread that will use it.
OpenCollector = Callable[[Settings, EngineSet], ViewCollector]


class EnrollmentBusy(EnrollmentError):
    """Another person is being enrolled."""


class DemoFace(EnrollmentError):
    """The demo shows a person who is not the user."""

    def __init__(self) -> None:
        super().__init__("the demo photograph cannot be enrolled", "choose your camera first", code="demo_face")


class EnrolmentStatus(TypedDict):
    """Status for page and tray. `say` is one line for the user, `hint` what to do after a failure; `code` and `values`
    name the failure for clients that have their own words for it.

    `need`, `poses` and `turn`: see EnrollmentProgress; `need` is "" where nothing is looked at.
    """

    name: str
    state: Literal["looking", "done", "failed"]
    views: int
    wanted: int
    say: str
    hint: str
    code: str
    values: dict[str, str]
    need: str
    poses: dict[str, int]
    turn: float


class CameraEnrollment(threading.Thread):
    """Reads the newest frames until there are enough views, `seconds` are over or `cancel` is called."""

    def __init__(
        self,
        name: str,
        pictures: Broadcast[Frame],
        settings: Settings,
        store: PeopleStore,
        build: OpenCollector,
        *,
        watched: Callable[[], AbstractContextManager[None]] = nullcontext,
        seconds: float = LONGEST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`watched` keeps the camera open during the block. Raises EnrollmentError for an invalid name and the demo."""
        super().__init__(name="enrolment")
        self.person = checked_name(name)
        if settings.source == DEMO:
            raise DemoFace
        self.error: OccluFixError | EngineError | None = None
        self._pictures = pictures
        self._settings = settings
        self._store = store
        self._watched = watched
        self._seconds = seconds
        self._build = build
        self._clock = clock
        self._cancelled = threading.Event()
        self._status = EnrolmentStatus(
            name=self.person,
            state="looking",
            views=0,
            wanted=1,
            say="preparing",
            hint="",
            code="",
            values={},
            need="",
            poses={},
            turn=0.0,
        )

    @property
    def status(self) -> EnrolmentStatus:
        return self._status

    def cancel(self) -> None:
        """Cancels it; nothing is stored."""
        self._cancelled.set()

    def run(self) -> None:
        try:
            with self._watched(), closing(EngineSet(self._settings)) as engines:
                self._enroll(self._build(self._settings, engines))
        except (OccluFixError, EngineError) as error:
            self.error = error
        except Exception as error:
            log.exception("enrollment failed")
            self.error = OccluFixError(f"unexpected: {error!r}", "read the log for details")
        if self.error is not None:
            why = trouble_of(self.error)
            self._tell(state="failed", say=why.what, hint=why.hint, code=why.code, values=dict(why.values))

    def _enroll(self, enrollment: ViewCollector) -> None:
        self._look(enrollment)
        if self._cancelled.is_set():
            raise OccluFixError("enrollment was cancelled", "nothing was stored", code="enrolling_cancelled")
        person = keep(enrollment.person_before_camera(self.person), self._store, enrollment.embed)
        self._tell(state="done", say=f"{person.name} is enrolled with {len(person.views)} views")

    def _look(self, enrollment: ViewCollector) -> None:
        number, ends_at = 0, self._clock() + self._seconds
        while not enrollment.complete and self._clock() < ends_at and not self._cancelled.is_set():
            shown = self._pictures.after(number, PATIENCE_S)
            if shown is None:
                continue
            number, frame = shown
            if frame.is_demo:  # as settings are changing, or changed since
                raise DemoFace
            if frame.index >= 0:  # else it is a placeholder frame
                enrollment.offer(_untouched(frame))
                now = enrollment.progress
                self._tell(**{**asdict(now), "turn": round(now.turn, 1)})
            self._cancelled.wait(LOOK_EVERY_S)

    def _tell(self, **news: object) -> None:
        self._status = EnrolmentStatus(**{**self._status, **news})  # type: ignore[typeddict-item]


class PersonFacts(TypedDict):
    """Number of a person's views, and the id of each."""

    name: str
    views: int
    ids: list[str]


class PeopleFacts(TypedDict):
    """Who is enrolled, how that is stored, and what could not be read."""

    people: list[PersonFacts]
    protection: str
    problems: list[dict[str, str]]


class Enrollments:
    """Operations of the control API on enrolled people. Every method may be called from any thread."""

    def __init__(
        self,
        pictures: Broadcast[Frame],
        build: OpenCollector,
        store: PeopleStore | None = None,
        watched: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`watched` keeps the camera open during the block."""
        self._pictures = pictures
        self._build = build
        self._watched = watched
        self._store = store or PeopleStore()
        self._starting = threading.Lock()
        self._current: CameraEnrollment | None = None

    def start(self, name: str, settings: Settings) -> EnrolmentStatus:
        """Starts to enroll `name` at the camera. Raises EnrollmentError, EnrollmentBusy."""
        with self._starting:
            if self._current is not None and self._current.is_alive():
                person = self._current.person
                raise EnrollmentBusy(
                    f"{person} is being enrolled",
                    "wait until it is done, or cancel it",
                    code="enrolling_under_way",
                    name=person,
                )
            self._current = CameraEnrollment(
                name, self._pictures, settings, self._store, self._build, watched=self._watched
            )
            self._current.start()
            return self._current.status

    def status(self) -> EnrolmentStatus | None:
        """Status of the current or last enrollment; None if there was none."""
        return self._current.status if self._current else None

    def cancel(self) -> EnrolmentStatus | None:
        """Cancels the current enrollment, if any; nothing is stored."""
        if self._current is not None:
            self._current.cancel()
            self._current.join(JOIN_S)
        return self.status()

    def people(self) -> PeopleFacts:
        """Everyone enrolled. A keyring may ask the user first."""
        return list_people(self._store)

    def delete(self, name: str) -> PeopleFacts:
        """Deletes a person for good. Raises EnrollmentError."""
        self._store.delete(name)
        return self.people()

    def view(self, name: str, view_id: str) -> Image:
        """One stored view: 256x256x3 BGR. Raises EnrollmentError."""
        return self._store.find_view(name, view_id).image

    def delete_view(self, name: str, view_id: str) -> PeopleFacts:
        """Deletes one view for good, and with the last one the person. Raises EnrollmentError."""
        self._store.delete_view(name, view_id)
        return self.people()

    def add_photograph(self, name: str, stored: bytes, settings: Settings) -> PeopleFacts:
        """Enrolls `name` from a photograph, the content of an image file. Raises OccluFixError, EngineError."""
        name = checked_name(name)
        with TemporaryDirectory() as folder, closing(EngineSet(settings)) as engines:
            file = Path(folder) / "the photograph"
            file.write_bytes(stored)
            try:
                enroll_from_photographs(name, [file], self._build(settings, engines), self._store)
            except DeviceError:  # it names a file that nobody knows
                raise EnrollmentError(
                    "this is no image that can be read", "use PNG or JPEG", code="unreadable_photograph"
                ) from None
        return self.people()


def list_people(store: PeopleStore) -> PeopleFacts:
    loaded = store.load()
    return PeopleFacts(
        people=[
            PersonFacts(name=person.name, views=len(person.views), ids=[view.id for view in person.views])
            for person in loaded.people
        ],
        protection=store.protection,
        problems=[{"message": problem.message, "hint": problem.hint} for problem in loaded.problems],
    )


def _untouched(frame: Frame) -> Frame:
    """Untouched frame of the camera: a restored one does not show a real face."""
    if frame.restored_from is None:
        return frame
    return replace(frame, image=frame.restored_from.image, restored_from=None)
