"""Every run of `process` ends cleanly, even while it still reads enrolled people."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE
from occlufix_vcam.assembly import open_identifier
from occlufix_vcam.core.frame import Crop, FaceTrack
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.people.person import EnrolledView, Person
from occlufix_vcam.people.store import LoadedPeople, PeopleStore
from tests.harness.fakes import until
from tests.harness.films import make_film

RUNS = 30


@pytest.fixture
def faces_folder(tmp_path: Path) -> Path:
    """Two people with ten views each: reading them takes longer than one small picture."""
    folder, rng = tmp_path / "faces", np.random.default_rng(0)
    for name in ("Ann", "Bob"):
        noise = rng.integers(0, 255, (10, CROP_PX, CROP_PX, 3), dtype=np.uint8)
        views = [EnrolledView(image, np.full((CROP_PX, CROP_PX), 255, np.uint8), TEMPLATE) for image in noise]
        PeopleStore(folder).save(Person(name, np.eye(10, 128, dtype=np.float32), views, "fake"))
    return folder


def test_a_thread_that_reads_people_ends_with_its_pipeline(faces_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it reads: one that decodes an image while Python ends aborts the process."""
    began, over = threading.Event(), threading.Event()

    def endless(store: PeopleStore, stops: Callable[[], bool] = lambda: False) -> LoadedPeople:
        began.set()
        while not stops() and not over.wait(0.01):
            pass
        return LoadedPeople((), ())

    monkeypatch.setattr(PeopleStore, "load", endless)
    monkeypatch.setenv("OCCLUFIX_FACES_DIR", str(faces_folder))
    crop = Crop.of_template(
        FaceTrack(1, TEMPLATE, 1.0), np.zeros((CROP_PX, CROP_PX, 3), np.uint8), np.eye(2, 3, dtype=np.float32)
    )
    settings = Settings(backend="fake")
    try:
        with closing(EngineSet(settings)) as engines, closing(open_identifier(engines)) as identifier:
            assert identifier.identify(1, crop, np.zeros((CROP_PX, CROP_PX), np.uint8)) is None
            assert began.wait(20)
        left = [thread.name for thread in threading.enumerate() if thread.name == "people"]
    finally:
        over.set()
    assert left == []


def test_thirty_runs_with_two_people_enrolled_all_exit_with_0(tmp_path: Path, faces_folder: Path) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), np.zeros((CROP_PX, CROP_PX, 3), np.uint8))
    environment = {**os.environ, "OCCLUFIX_FACES_DIR": str(faces_folder), "OCCLUFIX_BACKEND": "fake"}

    def run(number: int) -> tuple[int, str]:
        command = [sys.executable, "-m", "occlufix_vcam", "process", "--aligned"]
        files = [str(tmp_path / "in.png"), str(tmp_path / f"out{number}.png")]
        done = subprocess.run([*command, *files], env=environment, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stderr

    with ThreadPoolExecutor(3) as several:
        ended = list(several.map(run, range(RUNS)))
    assert [code for code, _ in ended] == [0] * RUNS, {said for code, said in ended if code}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)])
def test_a_film_that_is_broken_off_by_a_signal_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    film = make_film(tmp_path / "in.mp4", [np.zeros((64, 64, 3), np.uint8)] * 9000, [*range(0, 9001 * 10, 10)])
    command = [sys.executable, "-m", "occlufix_vcam", "process", str(film), str(tmp_path / "out.mp4")]
    with subprocess.Popen(command, env={**os.environ, "OCCLUFIX_BACKEND": "fake"}) as process:
        until(lambda: any(part.stat().st_size for part in tmp_path.glob(".*.part")))
        process.send_signal(number)
        assert process.wait(60) != 0
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
