"""The tray icon as a panel sees it: Xvfb, a session bus, a StatusNotifierWatcher, the real daemon on the demo."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psutil
import pytest

pytest.importorskip("jeepney", reason="NO JEEPNEY: the tray icon is NOT tested here")
pytest.importorskip("PySide6", reason="NO PYSIDE6: the tray icon is NOT tested; pip install -e .[tray]")

from PySide6.QtGui import QImage

from occlufix_vcam.client.client import ControlClient
from occlufix_vcam.core.errors import Trouble
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.state import StateFolder
from occlufix_vcam.desktop.tray.icons import draw
from occlufix_vcam.desktop.tray.listener import Listener
from occlufix_vcam.desktop.tray.status_view import ICON_NAMES, tray_status
from occlufix_vcam.language import read_words
from occlufix_vcam.runtime.daemon import Daemon
from scripts.harness.desktop import Panel, display, session_bus
from tests.conftest import ROOT
from tests.harness.control import Product, serving

COMMAND = [sys.executable, "-m", "occlufix_vcam", "tray"]
SIZE = 32
#: Of a channel, by which two pictures of an icon may differ on their way through the panel.
NEAR = 2.0


def mood_of(icons: dict[int, bytes]) -> tuple[str, str]:
    """Which of ours it is, and for which panel."""
    seen = QImage(icons[SIZE], SIZE, SIZE, QImage.Format.Format_ARGB32)
    found = []
    for mood in ICON_NAMES:
        for dark in (True, False):
            pairs = zip(_bytes(draw(mood, dark, SIZE)), icons[SIZE], strict=True)
            if sum(abs(one - other) for one, other in pairs) / len(icons[SIZE]) < NEAR:
                found.append((mood, "dark" if dark else "light"))
    assert len(found) == 1, (found, seen.size())
    return found[0]


def _bytes(image: QImage) -> bytes:
    """As D-Bus has them: alpha first."""
    little = bytes(image.constBits())
    return b"".join(little[at : at + 4][::-1] for at in range(0, len(little), 4))


class Desk:
    """A tray icon on its desktop, beside a daemon."""

    def __init__(self, product: Product, panel: Panel, environment: dict[str, str], folder: Path) -> None:
        self.product, self.panel = product, panel
        self.opened = folder / "opened"
        self.config = folder / "config"
        browser = folder / "browser"
        browser.write_text(f'#!/bin/sh\necho "$1" > {self.opened}\n')
        browser.chmod(0o700)
        own = {"DBUS_SESSION_BUS_ADDRESS": panel.bus, "BROWSER": f"{browser} %s", "XDG_CONFIG_HOME": str(self.config)}
        self.environment = {**product.environment, **environment, **own}
        self.environment.pop("WAYLAND_DISPLAY", None)
        self.process: subprocess.Popen[str] | None = None

    def open(self, **environment: str) -> None:
        known = len(self.panel.items)
        self.process = subprocess.Popen(COMMAND, cwd=ROOT, env={**self.environment, **environment})
        self.panel.wait_for(lambda: len(self.panel.items) > known)

    def mood(self) -> str:
        return mood_of(self.panel.icons())[0]

    def wait_for(self, mood: str, words: str = "") -> None:
        self.panel.wait_for(lambda: self.mood() == mood and words in self.panel.tip())

    def wait_for_entry(self, label: str, **properties: Any) -> None:
        self.panel.wait_for(lambda: properties.items() <= self.panel.menu()[label].items())

    def wait_for_message(self, words: str) -> None:
        self.panel.wait_for(lambda: any(words in message for message in self.panel.messages))

    def close(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)


def refused(environment: dict[str, str]) -> str:
    """What an icon that can't be shown says before it exits."""
    done = subprocess.run(COMMAND, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode in (2, 3) and "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with display() as environment:
        yield environment


@pytest.fixture(scope="module")
def panel() -> Iterator[Panel]:
    with session_bus() as bus, contextlib.closing(Panel(bus)) as panel:
        yield panel


@pytest.fixture
def closed_desk(product: Product, panel: Panel, environment: dict[str, str], tmp_path: Path) -> Iterator[Desk]:
    """Without an icon yet."""
    panel.messages.clear()
    desk = Desk(product, panel, environment, tmp_path)
    yield desk
    desk.close()


@pytest.fixture
def desk(closed_desk: Desk) -> Desk:
    """With an icon, and a daemon that is on."""
    product = closed_desk.product
    if not product.state.held():
        product.run("start")
    with product.client() as client:
        client.toggle(True)
    closed_desk.open()
    closed_desk.wait_for_entry("Restore hidden faces", enabled=True)
    return closed_desk


def test_every_icon_is_another_one() -> None:
    pictures = {_bytes(draw(mood, dark, size)) for mood in ICON_NAMES for dark in (True, False) for size in (16, SIZE)}
    assert len(pictures) == 4 * len(ICON_NAMES)


def test_a_click_switches_and_the_icon_shows_it(desk: Desk) -> None:
    desk.panel.click()
    desk.wait_for("off", "untouched")
    desk.wait_for_entry("Restore hidden faces", **{"toggle-state": 0})
    with desk.product.client() as client:
        assert client.status()["enabled"] is False
        client.toggle(True)
    desk.wait_for("on", "nothing is hidden")
    desk.wait_for("restoring", "restoring a face")


def test_the_menu_asks_and_shows_what_holds(desk: Desk) -> None:
    desk.panel.choose("Restore hidden faces")
    desk.wait_for("off")
    desk.panel.open_menu()
    desk.wait_for_entry("Engine > onnxruntime on CPU", **{"toggle-state": 0})
    desk.panel.choose("Engine > onnxruntime on CPU")
    with desk.product.client() as client:
        desk.panel.wait_for(lambda: client.settings()["backend"] == "onnxruntime")
        desk.wait_for_entry("Engine > onnxruntime on CPU", **{"toggle-state": 1})
        desk.panel.choose("Engine > Fastest")
        desk.panel.wait_for(lambda: client.settings()["backend"] == "auto")
    assert desk.panel.messages == []


@pytest.mark.skipif(any(Path("/dev").glob("video*")), reason="a camera of this machine would open")
def test_a_camera_that_vanished_before_it_was_picked_is_told_and_the_old_one_holds(desk: Desk) -> None:
    with desk.product.client() as client:
        client.change_settings({"source": "demo"})
    desk.panel.choose("Camera > First camera")
    desk.wait_for_message("camera")
    desk.wait_for_entry("Camera > Demo photograph", **{"toggle-state": 1})


def test_the_preview_opens_in_the_browser(desk: Desk) -> None:
    desk.panel.choose("Open control page")
    desk.panel.wait_for(desk.opened.exists)
    given = desk.opened.read_text().strip()  # on the browser's command line, which everybody can read
    file = Path(unquote(urlsplit(given).path))
    assert given.startswith("file://") and "key=" not in given
    assert "/open?key=" in file.read_text() and file.stat().st_mode & 0o077 == 0
    file.unlink()  # as the daemon does once the link is opened


def test_my_face_is_asked_for_and_why_the_demo_is_none_is_said(desk: Desk) -> None:
    desk.panel.choose("Remember my face")
    desk.wait_for_message("The demo photograph cannot be enrolled")


def test_a_recording_is_started_and_ended(desk: Desk) -> None:
    desk.panel.choose("Start recording")
    desk.wait_for_entry("Stop recording", enabled=True)
    with desk.product.client() as client:
        recording = client.status()["recording"]
    assert recording is not None and recording["file"].startswith(desk.product.environment["XDG_VIDEOS_DIR"])
    desk.panel.choose("Stop recording")
    desk.wait_for_entry("Start recording", enabled=True)
    # The film is closed in a thread of its own: the menu does not wait for its last frames.
    desk.panel.wait_for(Path(recording["file"]).is_file)
    assert Path(recording["file"]).stat().st_size > 0


def test_it_speaks_the_language_of_its_desktop(closed_desk: Desk) -> None:
    closed_desk.open(LANG="de_DE.UTF-8", LC_ALL="de_DE.UTF-8", LANGUAGE="de")
    closed_desk.wait_for_entry("Steuerseite öffnen")


def test_start_at_login_is_written_or_why_not_is_said(desk: Desk) -> None:
    desk.panel.choose("Start at log-in")
    written = [desk.config / "systemd/user/occlufix-vcam.service", desk.config / "autostart/occlufix-vcam-tray.desktop"]
    desk.panel.wait_for(lambda: desk.panel.messages or all(file.exists() for file in written))
    assert Path("/run/systemd/system").exists() or "cannot start OccluFix Camera at log-in" in desk.panel.messages[0]


def test_a_daemon_that_dies_is_told_once_and_started_again_from_the_menu(desk: Desk) -> None:
    with desk.product.client() as client:
        os.kill(client.status()["pid"], signal.SIGKILL)
    desk.wait_for("trouble", "stopped unexpectedly")
    desk.wait_for_entry("Restore hidden faces", enabled=False)
    desk.panel.choose("Start OccluFix Camera")
    desk.wait_for_entry("Restore hidden faces", enabled=True)
    desk.wait_for("restoring")
    assert sum("Start it from" in message for message in desk.panel.messages) == 1


def test_a_daemon_that_is_stopped_is_no_trouble(desk: Desk) -> None:
    desk.panel.choose("Stop OccluFix Camera")
    desk.wait_for("idle", "Not running")
    desk.wait_for_entry("Start OccluFix Camera", enabled=True)
    assert desk.panel.messages == [] and desk.product.state.wait_until_free(20)
    desk.product.run("start")
    desk.wait_for_entry("Restore hidden faces", enabled=True)


def test_it_starts_a_daemon_that_outlives_it(closed_desk: Desk) -> None:
    if closed_desk.product.state.held():
        closed_desk.product.run("stop")
    closed_desk.open()
    closed_desk.wait_for_entry("Restore hidden faces", enabled=True)
    closed_desk.panel.choose("Quit tray icon")
    assert closed_desk.process is not None and closed_desk.process.wait(30) == 0
    with closed_desk.product.client() as client:
        assert client.status()["enabled"]


def test_a_second_icon_is_refused_in_a_line(desk: Desk) -> None:
    assert refused(desk.environment).splitlines()[0] == "error: the tray icon is already running"


def test_another_version_is_said(closed_desk: Desk) -> None:
    product = closed_desk.product
    if not product.state.held():
        product.run("start")
    control = product.state.path / "control.json"
    told = json.loads(control.read_text())
    control.write_text(json.dumps({**told, "version": "0.0.9"}))
    closed_desk.open()
    closed_desk.wait_for_message("Version 0.0.9 is running")
    closed_desk.panel.wait_for(lambda: any("0.0.9" in label for label in closed_desk.panel.menu()))
    control.write_text(json.dumps(told))


def test_trouble_is_told_once_in_words_with_what_to_do(closed_desk: Desk, tmp_path: Path) -> None:
    daemon = Daemon(Settings())
    with serving(daemon, tmp_path / "state"):
        closed_desk.environment["OCCLUFIX_STATE_DIR"] = str(tmp_path / "state")
        closed_desk.open()
        closed_desk.wait_for("idle", "Starting")
        for times in (1, 2):
            daemon._supervisor.trouble["capture"] = Trouble("the camera was unplugged", "plug it in")
            closed_desk.wait_for("trouble", "the camera was unplugged")
            closed_desk.panel.wait_for(lambda times=times: len(closed_desk.panel.messages) == times)
            daemon.toggle()  # the same trouble comes with every status
            closed_desk.wait_for_entry("Restore hidden faces", **{"toggle-state": int(daemon.settings.enabled)})
            daemon._supervisor.trouble.clear()
            closed_desk.panel.wait_for(lambda: closed_desk.mood() != "trouble")
        first, second = closed_desk.panel.messages
        assert first == second and "plug it in" in first


def test_a_dark_panel_gets_light_icons(closed_desk: Desk) -> None:
    closed_desk.open(XDG_CURRENT_DESKTOP="GNOME")
    closed_desk.panel.wait_for(lambda: mood_of(closed_desk.panel.icons())[1] == "dark")


def test_no_tray_and_no_desktop_are_said_and_the_page_is_offered(closed_desk: Desk) -> None:
    with session_bus() as bus:
        no_panel = {**closed_desk.environment, "DBUS_SESSION_BUS_ADDRESS": bus}
        assert re.match("error: this desktop shows no tray icons\n.*occlufix-vcam preview", refused(no_panel))
    for name, words in (("", "no desktop in this session"), (":9999", "the display :9999 cannot be reached")):
        told = refused({**closed_desk.environment, "DISPLAY": name})
        assert words in told and "occlufix-vcam preview" in told


def test_at_login_it_waits_for_the_panel(closed_desk: Desk) -> None:
    with session_bus() as bus:
        environment = {**closed_desk.environment, "DBUS_SESSION_BUS_ADDRESS": bus}
        with subprocess.Popen([*COMMAND, "--wait", "60"], cwd=ROOT, env=environment) as icon:
            itself = psutil.Process(icon.pid)
            # It restarts for each look: the first is over once its command line names less time.
            closed_desk.panel.wait_for(lambda: "58.0" in itself.cmdline())
            with contextlib.closing(Panel(bus)) as panel:
                panel.wait_for(lambda: panel.items)
            icon.terminate()


def test_an_address_that_a_killed_daemon_left_is_no_daemon(tmp_path: Path) -> None:
    state, told = StateFolder(tmp_path), list[tuple[str, object]]()
    listener = Listener(state, lambda name, value: told.append((name, value)))
    listener.wake()
    with state.hold(), socket.create_server(("127.0.0.1", 0)) as listening:
        state.publish(listening.getsockname()[1])
        listening.close()
        listener._follow(ControlClient(state))
        assert told == []
        control = state.path / "control.json"
        control.write_text(json.dumps({**json.loads(control.read_text()), "version": "0.0.9"}))
        listener._follow(ControlClient(state))
        assert told == [("found", {"version": "0.0.9"})]  # too different to answer, and there all the same


@pytest.mark.parametrize(
    ("status", "mood"),
    [
        ({}, "on"),
        ({"restoring": 2}, "restoring"),
        ({"enabled": False}, "off"),
        ({"enabled": False, "state": "idle"}, "off"),
        ({"state": "idle", "viewers": 0}, "idle"),
        ({"viewers": 0}, "idle"),
        ({"state": "loading"}, "idle"),
        ({"state": "waiting", "trouble": {"output": "gone"}, "restoring": 1}, "trouble"),
    ],
)
def test_what_a_status_looks_like(status: dict[str, object], mood: str) -> None:
    usual = {"state": "running", "enabled": True, "trouble": {}, "viewers": None, "restoring": 0, "faces": 1}
    assert tray_status({**usual, **status}, read_words("en")).icon == mood
