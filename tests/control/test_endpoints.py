"""The endpoints of faces and of the recording, over a real loopback socket."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from engines.installing import install_extra
from occlufix_vcam.control.guard import LONGEST_BODY, LONGEST_PHOTOGRAPH, PHOTOGRAPH_PATH
from occlufix_vcam.core.settings import PRESETS
from occlufix_vcam.people.keys import KeyFile
from occlufix_vcam.people.store import PeopleStore
from tests.harness.control import Served
from tests.people.test_store import somebody


@pytest.fixture
def store(served: Served, tmp_path: Path) -> PeopleStore:
    store = PeopleStore(tmp_path / "faces", KeyFile(tmp_path / "faces" / "key"))
    served.daemon.enrollments._store = store
    return store


def test_each_view_is_shown_and_deleted_alone(served: Served, store: PeopleStore) -> None:
    store.save(somebody("A/b", views=2))
    (person,) = served.ask(path="/v1/enroll").json()["people"]
    path = f"/v1/face-view?name={quote('A/b')}&id="
    shown = served.ask(path=path + person["ids"][0])
    assert shown.content.startswith(b"\xff\xd8") and shown.headers["content-type"] == "image/jpeg"
    (left,) = served.ask("DELETE", path + person["ids"][0]).json()["people"]
    assert left["ids"] == person["ids"][1:]
    assert served.ask(path=path + person["ids"][0]).status_code == 422
    assert served.ask("DELETE", path + person["ids"][1]).json()["people"] == []


def test_a_view_is_shown_to_nobody_without_the_secret(served: Served, store: PeopleStore) -> None:
    for method, path in (("GET", "/v1/face-view?name=A&id=b"), ("POST", f"{PHOTOGRAPH_PATH}?name=A")):
        assert served.ask(method, path, headers={"Authorization": None}).status_code == 401
        assert served.ask(method, path, headers={"Origin": "https://example.org"}).status_code == 403


def test_a_photograph_may_be_long_but_not_endless(served: Served, store: PeopleStore) -> None:
    path = f"{PHOTOGRAPH_PATH}?name=Ada"
    no_picture = served.ask("POST", path, content=b"x" * (LONGEST_BODY + 1))
    assert no_picture.status_code == 422 and "image" in no_picture.json()["detail"]["message"]
    assert served.ask("POST", path, content=b"x" * (LONGEST_PHOTOGRAPH + 1)).status_code == 413
    assert store.load().people == ()


def test_presets_are_told_and_the_recording_is_switched(served: Served, tmp_path: Path) -> None:
    assert served.ask(path="/v1/settings/presets").json().keys() == PRESETS.keys()
    served.daemon.recording._folder = lambda: tmp_path
    began = served.ask("POST", "/v1/recording", json={"recording": True}).json()["recording"]
    assert served.ask().json()["recording"] == began and began["file"].startswith(str(tmp_path))
    assert served.ask("POST", "/v1/recording", json={"recording": False}).json() == {
        "recording": None,
        "file": began["file"],
    }
    assert served.ask().json()["recording"] is None


def test_a_recording_without_pyav_is_refused_with_the_command_that_installs_it(
    served: Served, tmp_path: Path, without_pyav: None
) -> None:
    served.daemon.recording._folder = lambda: tmp_path
    answer = served.ask("POST", "/v1/recording", json={"recording": True})
    assert answer.status_code == 422 and install_extra("films") in answer.json()["detail"]["hint"]
    assert served.ask().json()["recording"] is None


def test_the_bare_picture_for_a_moment(served: Served) -> None:
    served.daemon.toggle(True)
    assert served.ask("POST", "/v1/bare").json() == {"enabled": False}
    assert served.daemon.toggle(True)
