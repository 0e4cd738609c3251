"""Enrolling at the camera, in a thread of its own: the daemon's pictures go on meanwhile.

The same thread serves the daemon, which has the camera, and the command line, which opens it where no daemon runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Literal

from typing_extensions import TypedDict

from engines.errors import EngineError
from occlufix_vcam.core.errors import OccluFixError
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.handoff import Broadcast
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.enrollment.collector import ViewCollector, keep
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.people.person import EnrolmentError, checked_name
from occlufix_vcam.people.store import PeopleStore

log = logging.getLogger(__name__)

LONGEST_S = 30.0
#: Looking more often would take time from the pictures that go out.
LOOK_EVERY_S = 0.1
PATIENCE_S = 0.2
JOIN_S = 5.0  # of which loading the engines takes the most


#: Makes what gets to know one person, in the thread that will use it.
OpenCollector = Callable[[Settings, EngineSet], ViewCollector]


class EnrolmentBusy(EnrolmentError):
    """One person at a time."""


class EnrolmentStatus(TypedDict):
    """What page and tray show. `say` is one line for the user, `hint` what to do where it failed."""

    name: str
    state: Literal["looking", "done", "failed"]
    views: int
    wanted: int
    say: str
    hint: str


class CameraEnrolment(threading.Thread):
    """Looks at the newest pictures until it has seen enough, `seconds` are over or `cancel` is called."""

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
        """`watched` keeps the camera open while the block lasts. Raises EnrolmentError where `name` is none."""
        super().__init__(name="enrolment")
        self.person = checked_name(name)
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
            name=self.person, state="looking", views=0, wanted=1, say="getting ready", hint=""
        )

    @property
    def status(self) -> EnrolmentStatus:
        return self._status

    def cancel(self) -> None:
        """Ends it, keeping nothing."""
        self._cancelled.set()

    def run(self) -> None:
        try:
            with self._watched(), closing(EngineSet(self._settings)) as engines:
                self._enrol(self._build(self._settings, engines))
        except (OccluFixError, EngineError) as error:
            self.error = error
            self._tell(state="failed", say=error.message, hint=error.hint)
        except Exception as error:
            log.exception("enrolling failed")
            self.error = OccluFixError(f"unexpected: {error!r}", "the log says more")
            self._tell(state="failed", say=self.error.message, hint=self.error.hint)

    def _enrol(self, enrolment: ViewCollector) -> None:
        self._look(enrolment)
        if self._cancelled.is_set():
            raise OccluFixError("enrolling was cancelled", "nothing was kept")
        person = keep(enrolment.person_before_camera(self.person), self._store, enrolment.embed)
        self._tell(state="done", say=f"{person.name} is enrolled with {len(person.views)} views")

    def _look(self, enrolment: ViewCollector) -> None:
        number, ends_at = 0, self._clock() + self._seconds
        while not enrolment.complete and self._clock() < ends_at and not self._cancelled.is_set():
            shown = self._pictures.after(number, PATIENCE_S)
            if shown is None:
                continue
            number, frame = shown
            if frame.index >= 0:  # else it is a placeholder frame
                enrolment.offer(_untouched(frame))
                now = enrolment.progress
                self._tell(views=now.views, wanted=now.wanted, say=now.say)
            self._cancelled.wait(LOOK_EVERY_S)

    def _tell(self, **news: object) -> None:
        self._status = EnrolmentStatus(**{**self._status, **news})  # type: ignore[typeddict-item]


class PersonFacts(TypedDict):
    name: str
    views: int


class PeopleFacts(TypedDict):
    """Who is enrolled, how that is kept, and what could not be read."""

    people: list[PersonFacts]
    protection: str
    problems: list[dict[str, str]]


class Enrolments:
    """What the control API does about enrolled people. Every method may be called from any thread."""

    def __init__(
        self,
        pictures: Broadcast[Frame],
        build: OpenCollector,
        store: PeopleStore | None = None,
        watched: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`watched` keeps the camera open while the block lasts."""
        self._pictures = pictures
        self._build = build
        self._watched = watched
        self._store = store or PeopleStore()
        self._starting = threading.Lock()
        self._current: CameraEnrolment | None = None

    def start(self, name: str, settings: Settings) -> EnrolmentStatus:
        """Begins to look for `name` at what the camera sees. Raises EnrolmentError, EnrolmentBusy."""
        with self._starting:
            if self._current is not None and self._current.is_alive():
                raise EnrolmentBusy(f"{self._current.person} is being enrolled", "wait for its end, or cancel it")
            self._current = CameraEnrolment(
                name, self._pictures, settings, self._store, self._build, watched=self._watched
            )
            self._current.start()
            return self._current.status

    def status(self) -> EnrolmentStatus | None:
        """How the last one does or did; None where there was none."""
        return self._current.status if self._current else None

    def cancel(self) -> EnrolmentStatus | None:
        """Ends the current one, if there is one, keeping nothing."""
        if self._current is not None:
            self._current.cancel()
            self._current.join(JOIN_S)
        return self.status()

    def people(self) -> PeopleFacts:
        """Everybody. A keyring may ask the user first."""
        return list_people(self._store)

    def delete(self, name: str) -> PeopleFacts:
        """Removes a person for good. Raises EnrolmentError."""
        self._store.delete(name)
        return self.people()


def list_people(store: PeopleStore) -> PeopleFacts:
    loaded = store.load()
    return PeopleFacts(
        people=[PersonFacts(name=person.name, views=len(person.views)) for person in loaded.people],
        protection=store.protection,
        problems=[{"message": problem.message, "hint": problem.hint} for problem in loaded.problems],
    )


def _untouched(frame: Frame) -> Frame:
    """The camera's own picture: what was restored is nobody's face."""
    return frame if frame.restored_from is None else Frame(frame.restored_from.image, frame.index, frame.captured_at)
