"""The camera in PipeWire with third-party programs: browsers list it, and numbered frames arrive.

Needs Debian's packages (see `.ci/run`); what is missing is named in the reason why a test was skipped.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from occlufix_vcam.client.client import ControlClient
from occlufix_vcam.core.state import StateFolder
from occlufix_vcam.sinks.pipewire import PipeWireCamera
from occlufix_vcam.system.v4l2 import OWN_LABEL
from scripts.harness.readers import browsers, film, numbered, product, session

PICTURES = 120

pytestmark = pytest.mark.skipif(
    session.missing() != "", reason=f"NOT PROVED HERE: no PipeWire session without {session.missing()}"
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "numbered.mp4"
    product.make_clip(path, PICTURES)
    return path


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with session.pipewire_session(tmp_path) as environment:
        yield environment


@pytest.mark.parametrize("browser", browsers.PROGRAMS)
def test_a_browser_lists_it_and_shows_what_the_networks_made(
    browser: str, environment: dict[str, str], clip: Path, tmp_path: Path
) -> None:
    if browsers.program(browser) is None:
        pytest.skip(f"NOT PROVED HERE: no {browsers.DEBIAN_PACKAGES[browser]}")
    with product.started(environment, f"--source={clip}", "--sink=pipewire"):
        product.wait_for_networks(environment)
        told = browsers.watch(browser, environment, tmp_path, label=OWN_LABEL)
        status = product.status(environment)
    assert "error" not in told, told
    assert told["cameras"] == [OWN_LABEL] and told["label"] == OWN_LABEL and told["size"] == [1280, 720]
    assert len(told["numbers"]) == 12
    assert min(numbered.steps(told["numbers"], PICTURES)) >= 0
    for name, seen in zip(numbered.COLOURS_RGB, told["colours"], strict=True):
        wanted = numbered.COLOURS_RGB[name]
        assert max(abs(a - b) for a, b in zip(seen, wanted, strict=True)) <= 12, (name, seen, wanted)
    assert status["restored"] > 0 and status["failed"] == 0


@pytest.fixture
def reader_is_there() -> None:
    if film.missing():
        pytest.skip(f"NOT PROVED HERE: no reader without {film.missing()}")


def numbers_of(reader: film.Film, pictures: int) -> list[int]:
    """Of the next pictures that carry one."""
    numbers: list[int] = []
    while len(numbers) < pictures:
        number = numbered.read(numbered.grey_of(reader.next()[1]))
        if number is not None:
            numbers.append(number)
    return numbers


def is_listed(environment: dict[str, str]) -> bool:
    return OWN_LABEL in session.things(environment, "Node")


@pytest.mark.usefixtures("reader_is_there")
def test_readers_come_and_go_and_are_named(environment: dict[str, str], clip: Path, tmp_path: Path) -> None:
    with product.started(environment, f"--source={clip}", "--sink=pipewire"):
        for _ in range(3):  # a reader that is killed leaves nothing behind that the next one would miss
            with (
                film.film(environment, tmp_path / "one.log") as one,
                film.film(environment, tmp_path / "two.log") as two,
            ):
                for reader in (one, two):
                    assert min(numbered.steps(numbers_of(reader, 20), PICTURES)) >= 0
                status = product.status(environment)
                assert status["viewers"] >= 1 and status["camera_open"]
                assert all(name.startswith("gst-launch-1.0 (") for name in status["readers"])
        session.wait_for(lambda: not product.status(environment)["camera_open"], "the camera's closing")
        status = product.status(environment)
        assert (status["state"], status["viewers"], status["readers"]) == ("idle", 0, [])
    assert not is_listed(environment)


@pytest.mark.usefixtures("reader_is_there")
def test_it_goes_beside_a_recording(environment: dict[str, str], clip: Path, tmp_path: Path) -> None:
    recording = tmp_path / "call.mp4"
    with (
        product.started(environment, f"--source={clip}", "--sink=pipewire", f"--record={recording}"),
        film.film(environment, tmp_path / "reader.log") as reader,
    ):
        assert len(numbers_of(reader, 10)) == 10
        assert product.status(environment)["sinks"] == [f"{OWN_LABEL} (PipeWire)", "call.mp4"]
    assert recording.stat().st_size > 0


#: Changes of a running call, each with the one that takes it back.
CHANGES: list[dict[str, object]] = [
    {"record": "call.mkv"},
    {"record": None},
    {"width": 640, "height": 360},
    {"width": 1280, "height": 720},
    {"sinks": ["pipewire", "null"]},
    {"sinks": ["pipewire"]},
    {"backend": "onnxruntime"},
    {"backend": "auto"},
    {"source": "demo"},
]


@pytest.mark.usefixtures("reader_is_there")
def test_no_change_of_a_setting_touches_a_program_that_reads(
    environment: dict[str, str], clip: Path, tmp_path: Path
) -> None:
    with (
        product.started(environment, f"--source={clip}", "--sink=pipewire"),
        film.film(environment, tmp_path / "reader.log") as reader,
        ControlClient(StateFolder(Path(environment["OCCLUFIX_STATE_DIR"]))) as client,
    ):
        assert len(numbers_of(reader, 5)) == 5
        for change in CHANGES:
            apply(change, client, tmp_path)
            for _ in range(30):  # a second of the call goes on
                reader.next()
        assert client.status()["readers"]


def apply(change: dict[str, object], client: ControlClient, folder: Path) -> None:
    """Changes settings as the page does, and waits until everything is well again."""
    client.change_settings({**change, "record": str(folder / "call.mkv")} if change.get("record") else change)
    session.wait_for(lambda: not client.status()["trouble"], f"all to be well after {change}", within=60)


def test_a_page_in_a_browser_notices_no_change_either(environment: dict[str, str], clip: Path, tmp_path: Path) -> None:
    if browsers.program("chromium") is None:
        pytest.skip(f"NOT PROVED HERE: no {browsers.DEBIAN_PACKAGES['chromium']}")
    with (
        product.started(environment, f"--source={clip}", "--sink=pipewire"),
        ControlClient(StateFolder(Path(environment["OCCLUFIX_STATE_DIR"]))) as client,
        ThreadPoolExecutor(1) as beside,
    ):
        session.wait_for(lambda: "restore" in client.status()["engine"], "the networks", within=60)
        watching = beside.submit(browsers.watch, "chromium", environment, tmp_path, label=OWN_LABEL, pictures=200)
        session.wait_for(lambda: client.status()["readers"] or watching.done(), "the browser", within=60)
        for change in CHANGES[:-1]:  # the demo carries no numbers
            apply(change, client, tmp_path)
        told = watching.result(120)
    assert "error" not in told, told
    assert len(told["numbers"]) == 200


@pytest.mark.usefixtures("reader_is_there")
def test_after_a_kill_it_is_gone_and_starts_again(environment: dict[str, str], clip: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with product.started(environment, f"--source={clip}", "--sink=pipewire"):
            with film.film(environment, tmp_path / "reader.log") as reader:
                assert len(numbers_of(reader, 3)) == 3
            os.kill(product.status(environment)["pid"], signal.SIGKILL)
            session.wait_for(lambda: not is_listed(environment), "the camera's leaving")


@pytest.mark.usefixtures("reader_is_there")
def test_pipewire_that_starts_anew_gets_the_camera_again(clip: Path, tmp_path: Path) -> None:
    with session.pipewire_session(tmp_path / "session") as environment:
        begun = product.run(environment, "start", f"--source={clip}", "--sink=pipewire")
        assert begun.returncode == 0, begun.stderr
    # The daemon goes on in an environment whose PipeWire is gone; now another one comes in the same place.
    try:
        session.wait_for(lambda: "output" in product.status(environment)["trouble"], "the daemon's noticing")
        told = product.status(environment)["trouble"]["output"]
        assert "PipeWire" in told
        with session.pipewire_session(tmp_path / "session") as again:
            session.wait_for(lambda: is_listed(again), "the camera in the list")
            with film.film(again, tmp_path / "reader.log") as reader:
                assert len(numbers_of(reader, 3)) == 3
            assert product.status(again)["trouble"] == {}
    finally:
        product.run(environment, "stop")


def test_a_hundred_openings_leave_nothing(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", environment["XDG_RUNTIME_DIR"])

    def open_and_close() -> tuple[int, int]:
        camera = PipeWireCamera("auto", size=(1280, 720), rate=30, refused=list)
        assert is_listed(environment)
        camera.close()
        here = psutil.Process()
        return here.num_fds(), here.num_threads()

    before = open_and_close()
    assert {open_and_close() for _ in range(100)} == {before}
    assert not is_listed(environment)


def test_no_session_and_no_session_manager_are_said_with_what_to_do(tmp_path: Path) -> None:
    with session.pipewire_session(tmp_path, manager=False) as environment:
        said = product.run(environment, "start", "--source=demo", "--sink=pipewire")
    assert said.returncode == 3 and "without a session manager" in said.stderr
    said = product.run(environment, "start", "--source=demo", "--sink=pipewire")
    assert said.returncode == 3
    assert said.stderr.splitlines() == [
        "error: no PipeWire session is running",
        "  log in to a desktop with PipeWire, or run `systemctl --user start pipewire wireplumber`",
    ]
