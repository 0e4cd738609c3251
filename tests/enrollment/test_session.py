"""Enrolling beside a running camera: it ends by itself, says how it goes, and keeps nothing where it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from occlufix_vcam.assembly import open_collector
from occlufix_vcam.core.frame import Frame, Origin
from occlufix_vcam.core.handoff import Broadcast
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.enrollment.collector import ViewCollector
from occlufix_vcam.enrollment.session import CameraEnrollment, EnrollmentBusy, Enrollments, EnrolmentStatus
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.people.keys import KeyFile
from occlufix_vcam.people.person import EnrollmentError
from occlufix_vcam.people.store import PeopleStore
from tests.enrollment.test_collector import BOB, Finder, Scene

WAIT_S = 20.0


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def store(tmp_path: Path) -> PeopleStore:
    return PeopleStore(tmp_path / "faces", KeyFile(tmp_path / "faces" / "key"))


class Turning(Finder):
    """A person who turns the head as he is told to."""

    def __init__(self, scene: Scene, enrollments: list[ViewCollector]) -> None:
        super().__init__(scene)
        self._who = scene
        self._enrollments = enrollments

    def __call__(self, frame: Frame):  # type: ignore[no-untyped-def]
        said = self._enrollments[0].progress.say
        self._who.faces = [Scene.face(0.2 if "other side" in said else -0.2 if "one side" in said else 0.0)]
        return super().__call__(frame)


def build_with(scene: Scene) -> Callable[[Settings, EngineSet], ViewCollector]:
    def build(settings: Settings, engines: EngineSet) -> ViewCollector:
        made: list[ViewCollector] = []
        made.append(ViewCollector(Turning(scene, made), scene.see_hidden, scene))
        return made[0]

    return build


def film(scene: Scene, pictures: Broadcast[Frame], worker: CameraEnrollment) -> EnrolmentStatus:
    """A camera until the worker is done."""
    while worker.is_alive():
        pictures.show(scene.frame())
        worker.join(0.01)
    return worker.status


def test_a_person_is_enrolled_while_the_camera_runs(scene: Scene, store: PeopleStore) -> None:
    pictures: Broadcast[Frame] = Broadcast()
    worker = CameraEnrollment("Ann", pictures, Settings(), store, build=build_with(scene))
    worker.start()
    status = film(scene, pictures, worker)
    assert status["state"] == "done" and status["views"] == status["wanted"] and "Ann is enrolled" in status["say"]
    assert [person.name for person in store.load().people] == ["Ann"]


def test_too_little_within_the_time_fails_and_keeps_nothing(scene: Scene, store: PeopleStore) -> None:
    now = iter(range(1000))
    pictures: Broadcast[Frame] = Broadcast()
    scene.coverage = 0.4
    worker = CameraEnrollment(
        "Ann", pictures, Settings(), store, seconds=5, build=build_with(scene), clock=lambda: float(next(now))
    )
    worker.start()
    status = film(scene, pictures, worker)
    assert status["state"] == "failed" and "hidden" in status["say"] and status["hint"]
    assert isinstance(worker.error, EnrollmentError) and not store.load().people


def test_cancelling_keeps_nothing(scene: Scene, store: PeopleStore) -> None:
    worker = CameraEnrollment("Ann", Broadcast(), Settings(), store, build=build_with(scene))
    worker.start()
    worker.cancel()
    worker.join(WAIT_S)
    assert worker.status["state"] == "failed" and "cancelled" in worker.status["say"]
    assert not store.load().people


def test_a_fault_of_our_own_is_a_status_too(store: PeopleStore) -> None:
    def fail(settings: Settings, engines: EngineSet) -> ViewCollector:
        raise RuntimeError("oops")

    worker = CameraEnrollment("Ann", Broadcast(), Settings(), store, build=fail)
    worker.start()
    worker.join(WAIT_S)
    assert worker.status["state"] == "failed" and "oops" in worker.status["say"]


def test_it_looks_at_what_the_camera_saw_not_at_what_was_restored(scene: Scene, store: PeopleStore) -> None:
    seen: list[Frame] = []
    looked = threading.Event()

    class Watching(ViewCollector):
        def offer(self, frame: Frame) -> None:
            seen.append(frame)
            looked.set()

    pictures: Broadcast[Frame] = Broadcast()
    worker = CameraEnrollment(
        "Ann", pictures, Settings(), store, build=lambda *_: Watching(Finder(scene), scene.see_hidden, scene)
    )
    worker.start()
    real = scene.frame()
    pictures.show(Frame(np.zeros_like(real.image), 5, 1.0, Origin(real.image, ())))
    assert looked.wait(WAIT_S)
    worker.cancel()
    worker.join(WAIT_S)
    assert seen[0].image is real.image


def test_the_camera_stays_open_while_it_looks(scene: Scene, store: PeopleStore) -> None:
    told: list[str] = []

    @contextmanager
    def watched() -> Iterator[None]:
        told.append("opened")
        yield
        told.append("let go")

    pictures: Broadcast[Frame] = Broadcast()
    worker = CameraEnrollment("Ann", pictures, Settings(), store, watched=watched, build=build_with(scene))
    worker.start()
    assert film(scene, pictures, worker)["state"] == "done"
    assert told == ["opened", "let go"]


def test_a_placeholder_is_not_looked_at(scene: Scene, store: PeopleStore) -> None:
    pictures: Broadcast[Frame] = Broadcast()
    pictures.show(Frame(scene.frame().image, index=-1, captured_at=0.0))
    worker = CameraEnrollment("Ann", pictures, Settings(), store, seconds=0.3, build=build_with(scene))
    worker.start()
    worker.join(WAIT_S)
    assert worker.status["views"] == 0


def test_one_at_a_time(store: PeopleStore) -> None:
    enrollments = Enrollments(Broadcast(), open_collector, store)
    assert enrollments.status() is None
    assert enrollments.start("Ann", Settings(backend="fake"))["state"] == "looking"
    with pytest.raises(EnrollmentBusy, match="Ann is being enrolled"):
        enrollments.start("Bob", Settings())
    status = enrollments.cancel()
    assert status is not None and status["state"] == "failed"


def test_the_demo_is_nobody_who_could_be_enrolled(store: PeopleStore) -> None:
    enrollments = Enrollments(Broadcast(), open_collector, store)
    with pytest.raises(EnrollmentError, match="demo"):
        enrollments.start("Ann", Settings(source="demo"))
    assert enrollments.status() is None


def test_the_demo_is_not_enrolled_while_its_frames_are_the_newest(scene: Scene, store: PeopleStore) -> None:
    pictures: Broadcast[Frame] = Broadcast()
    pictures.show(replace(scene.frame(), is_demo=True))
    worker = CameraEnrollment("Ann", pictures, Settings(source="0"), store, build_with(scene))
    worker.start()
    worker.join(WAIT_S)
    assert worker.status["state"] == "failed"
    assert worker.status["code"] == "demo_face"
    assert not store.load().people


def test_people_are_listed_and_deleted(scene: Scene, store: PeopleStore) -> None:
    scene.person = BOB
    pictures: Broadcast[Frame] = Broadcast()
    worker = CameraEnrollment("Bob", pictures, Settings(), store, build=build_with(scene))
    worker.start()
    film(scene, pictures, worker)
    enrollments = Enrollments(pictures, open_collector, store)
    (bob,) = enrollments.people()["people"]
    assert (bob["name"], bob["views"], len(bob["ids"])) == ("Bob", 8, 8)
    assert enrollments.view("Bob", bob["ids"][0]).shape == (256, 256, 3)
    assert enrollments.delete("Bob")["people"] == []
    with pytest.raises(EnrollmentError, match="no one"):
        enrollments.delete("Bob")
