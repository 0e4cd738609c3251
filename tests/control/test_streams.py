"""Preview, snapshots and events: viewers get the newest frame, and nothing else slows down."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from engines.contract import HIDDEN, Image
from occlufix_vcam.client.client import ControlClient
from occlufix_vcam.control import events as events_module
from occlufix_vcam.control.builds import Builds, BuildUnderWay
from occlufix_vcam.control.events import Topic
from occlufix_vcam.control.forms import settings_form
from occlufix_vcam.control.preview_stream import PreviewStream, outlines_of
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.frame import Crop, FaceTrack, Frame, HiddenCrop, Origin
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.runtime.daemon import Daemon
from tests.harness.control import Served, serving
from tests.harness.fakes import WAIT_S


def grey(level: int, size: tuple[int, int] = (1280, 720)) -> Image:
    return np.full((size[1], size[0], 3), level, np.uint8)


def restored(before: int, after: int, mask: Image | None = None) -> Frame:
    """A frame in which the crop is the frame's part from (100, 50) to (356, 306)."""
    image = grey(0)[:256, :256]
    face = FaceTrack(1, np.zeros((5, 2), np.float32), 1.0)
    crop = Crop.of_template(face, image, np.array([[1, 0, -100], [0, 1, -50]], np.float32))
    hidden = HiddenCrop.of_template(crop, np.zeros((256, 256), np.uint8) if mask is None else mask, 0.5)
    return Frame(grey(after), 1, 1.0, Origin(grey(before), (hidden,)))


@contextmanager
def watching(served: Served, view: str = "both") -> Iterator[Iterator[tuple[dict[str, str], Image]]]:
    """The parts of a preview, as headers and picture."""
    headers = {"Authorization": f"Bearer {served.address.token}"}
    with served.http.stream("GET", "/v1/preview", params={"view": view}, headers=headers) as response:
        assert response.status_code == 200
        yield parts(response)


def parts(response: httpx.Response) -> Iterator[tuple[dict[str, str], Image]]:
    buffer = b""
    for chunk in response.iter_raw():
        buffer += chunk
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            head = dict(line.split(": ", 1) for line in buffer[:end].decode().splitlines() if ": " in line)
            length = int(head["Content-Length"])
            if len(buffer) < end + 6 + length:
                break
            jpeg = np.frombuffer(buffer[end + 4 : end + 4 + length], np.uint8)
            buffer = buffer[end + 6 + length :]
            yield head, cv2.imdecode(jpeg, cv2.IMREAD_COLOR)  # type: ignore[misc]


def test_before_lies_above_after_and_the_newest_is_there_at_once(served: Served) -> None:
    served.daemon.broadcast.show(restored(50, 200))
    with watching(served) as pictures:
        head, image = next(pictures)
        assert head["X-Halves"] == "2" and image.shape == (720, 640, 3)
        assert abs(int(image[100, 100, 0]) - 50) < 4 and abs(int(image[500, 100, 0]) - 200) < 4
        served.daemon.broadcast.show(Frame(grey(90), 2, 2.0))
        head, image = next(pictures)
        assert head["X-Halves"] == "1" and image.shape == (360, 640, 3) and head["X-Outlines"] == "[]"


def test_each_side_can_be_had_alone(served: Served) -> None:
    served.daemon.broadcast.show(restored(50, 200))
    for view, level in (("before", 50), ("after", 200)):
        with watching(served, view) as pictures:
            head, image = next(pictures)
        assert head["X-Halves"] == "1" and abs(int(image[5, 5, 0]) - level) < 4


def test_many_look_on_and_nothing_is_encoded_once_all_are_gone(served: Served) -> None:
    served.daemon.broadcast.show(restored(50, 200))
    with watching(served) as first, watching(served) as second:
        assert next(first)[0]["X-Number"] == next(second)[0]["X-Number"]
    for thread in [thread for thread in threading.enumerate() if thread.name == "preview"]:
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_too_many_are_told_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PreviewStream, "MOST_VIEWERS", 0)
    assert served.ask(path="/v1/preview").status_code == 429
    monkeypatch.setattr(events_module, "MOST_LISTENERS", 0)
    assert served.ask(path="/v1/events").status_code == 429


def test_the_outline_is_where_the_mask_is() -> None:
    mask = np.zeros((256, 256), np.uint8)
    mask[20:120, 40:200] = HIDDEN
    (rim,) = outlines_of(restored(0, 0, mask))
    corners = np.array(rim) * (1280, 720)
    np.testing.assert_allclose(corners.min(axis=0), (140, 70), atol=1)
    np.testing.assert_allclose(corners.max(axis=0), (299, 169), atol=1)
    assert outlines_of(Frame(grey(0), 0, 0.0)) == []


@pytest.mark.parametrize(("view", "levels"), [("after", [200]), ("before", [50]), ("both", [50, 200])])
def test_a_snapshot_is_the_picture_itself(served: Served, view: str, levels: list[int]) -> None:
    served.daemon.broadcast.show(restored(50, 200))
    answer = served.ask(path=f"/v1/snapshot?view={view}&format=png")
    assert answer.headers["content-type"] == "image/png"
    image = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None and image.shape == (720 * len(levels), 1280, 3)
    assert [int(image[720 * row, 0, 0]) for row in range(len(levels))] == levels


def test_there_is_no_snapshot_before_the_first_picture(tmp_path: Path) -> None:
    with serving(Daemon(Settings()), tmp_path) as served:
        answer = served.ask(path="/v1/snapshot")
    assert answer.status_code == 409 and answer.json()["detail"]["hint"]


# ---- events ----


def test_what_changes_is_told_at_once_and_everything_at_first(served: Served) -> None:
    with ControlClient(served.state) as client:
        events = client.events()
        first = dict(next(events) for _ in range(4))
        assert set(first) == {"status", "settings", "builds", "enrolment"}
        wanted = not first["status"]["enabled"]
        client.toggle(wanted)
        told = [next(events), next(events)]
    assert {name for name, _ in told} == {"status", "settings"}
    assert all(value["enabled"] is wanted for _, value in told)


def test_figures_come_as_often_as_asked(served: Served) -> None:
    with ControlClient(served.state) as client:
        names = [name for name, _ in (event for event, _ in zip(client.events(every=0.2), range(7), strict=False))]
    assert names[4:] == ["status"] * 3
    assert served.ask(path="/v1/events?every=0.01").status_code == 422


def test_the_last_event_says_that_it_stops(tmp_path: Path) -> None:
    daemon = Daemon(Settings())
    with serving(daemon, tmp_path) as served, ControlClient(served.state) as client:
        told = []
        for name, value in client.events():
            told.append((name, value))
            if len(told) == 4:
                daemon.stop()
            if name == "status" and value["state"] == "stopping":
                break
    assert len(told) == 5


def test_a_topic_changes_with_its_signs_alone() -> None:
    value: dict[str, Any] = {"state": "running", "fps": 29.9}
    topic = Topic(lambda: dict(value), ("state",))
    assert topic.look() and not topic.look()
    value["fps"] = 30.0
    assert not topic.look() and topic.value["fps"] == 30.0
    value["state"] = "waiting"
    assert topic.look()


# ---- builds, form ----


class Build:
    """Makes engines when it is told to."""

    def __init__(self) -> None:
        self.goes_on, self.begun = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def __call__(self, models: Any, settings: Settings, tell: Any) -> Iterator[Any]:
        tell("making faces", 0.25)
        self.begun.set()
        assert self.goes_on.wait(WAIT_S)
        if self.error is not None:
            raise self.error
        yield from ()


def wait_for(builds: Builds) -> None:
    for thread in [thread for thread in threading.enumerate() if thread.name == "build"]:
        thread.join(WAIT_S)
    assert not builds.status()["running"]


def test_one_build_at_a_time() -> None:
    build = Build()
    builds = Builds(build)
    assert builds.start([], Settings())["running"]
    assert build.begun.wait(WAIT_S)
    assert (builds.status()["doing"], builds.status()["share"]) == ("making faces", 0.25)
    with pytest.raises(BuildUnderWay):
        builds.start(["faces"], Settings())
    build.goes_on.set()
    wait_for(builds)
    assert builds.status()["error"] == "" and builds.start(["faces"], Settings())["models"] == ["faces"]
    wait_for(builds)


@pytest.mark.parametrize("error", [ConfigError("no room", "make some"), ValueError("a bug")])
def test_a_build_that_fails_says_why(error: Exception) -> None:
    build = Build()
    build.error = error
    build.goes_on.set()
    builds = Builds(build)
    builds.start([], Settings())
    wait_for(builds)
    assert str(error) in builds.status()["error"] and builds.status()["hint"]
    assert builds.status()["code"] == "build_failed"


def test_a_model_that_there_is_not_is_not_built() -> None:
    with pytest.raises(ConfigError, match="`face`"):
        Builds(Build()).start(["face"], Settings())


def test_the_form_asks_for_every_setting() -> None:
    form = {field["name"]: field for field in settings_form()}
    assert list(form) == list(Settings.model_fields)
    assert form["width"]["minimum"] == 64 and form["width"]["maximum"] == 3840 and form["width"]["kind"] == "whole"
    assert form["record"]["optional"] and form["record"]["kind"] == "text"
    assert form["on_failure"]["choices"] == ["passthrough", "hold", "blank"]
    assert form["sinks"]["kind"] == "list" and form["enabled"]["applies"] == "at once"
    assert json.dumps(list(form.values()))
