"""The hotkey: pressed under Xvfb by XTest (xdotool), and told by a portal that stands in for a Wayland desktop's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

pytest.importorskip("jeepney", reason="NO JEEPNEY: the hotkey is NOT tested here")

from jeepney import DBusAddress, HeaderFields, new_signal
from jeepney.low_level import Message

from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.desktop.hotkey import HotkeyUnavailable
from occlufix_vcam.desktop.hotkey.binding import bind
from occlufix_vcam.desktop.hotkey.wayland import DESKTOP, PATH, REGISTRY, REQUEST, SHORTCUTS, PortalKey, as_trigger
from scripts.harness.desktop import Answer, Service, display, session_bus
from tests.conftest import ROOT
from tests.harness.control import Product

WITHIN_S = 60.0
#: A program of its own, since pynput keeps the display of the process that imports it.
WATCH = """
import sys, threading
from occlufix_vcam.desktop.hotkey.binding import bind
key = bind(sys.argv[1], lambda: print("pressed", flush=True), print)
print("ready", flush=True)
sys.stdin.readline()
key.close()
"""


@pytest.mark.parametrize(
    "keys", ["", "ctrl+alt+o", "f9", "super+shift+f12", "pause", "ctrl+space", "ctrl+shift+a", "alt+5"]
)
def test_a_key_is_taken(keys: str) -> None:
    assert Settings(hotkey=keys).hotkey == keys


@pytest.mark.parametrize(
    "keys", ["o", "ctrl", "ctrl+", "ctrl+alt+oo", "hyper+o", "f13", "Ctrl+O", "space", "shift+o", "ctrl+shift+5"]
)
def test_what_is_no_key_or_would_be_in_the_way_is_refused(keys: str) -> None:
    with pytest.raises(ConfigError, match="hotkey"):
        Settings().but(hotkey=keys)


def test_off_by_default() -> None:
    assert Settings().hotkey == ""


# ---- X11 ----


@pytest.fixture(scope="module")
def desktop() -> Iterator[dict[str, str]]:
    if shutil.which("xdotool") is None:
        pytest.skip("NO XDOTOOL: the hotkey on X11 is NOT tested; on Debian: apt install xdotool")
    with display() as environment:
        environment = {**os.environ, **environment}
        environment.pop("WAYLAND_DISPLAY", None)
        if subprocess.run([sys.executable, "-c", "import pynput"], env=environment, capture_output=True).returncode:
            pytest.skip("NO PYNPUT: the hotkey on X11 is NOT tested; pip install -e .[hotkey]")
        yield environment


def press(keys: str, environment: dict[str, str]) -> None:
    subprocess.run(["xdotool", "key", keys], env=environment, check=True, timeout=20)


@pytest.mark.parametrize(
    ("keys", "pressed"), [("ctrl+alt+o", "ctrl+alt+o"), ("ctrl+super+5", "ctrl+super+5"), ("f9", "F9")]
)
def test_the_key_is_seen_wherever_it_is_pressed_and_no_other(desktop: dict[str, str], keys: str, pressed: str) -> None:
    command = [sys.executable, "-c", WATCH, keys]
    with subprocess.Popen(
        command, cwd=ROOT, env=desktop, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdin is not None and watcher.stdout is not None
        assert watcher.stdout.readline() == "ready\n"
        for other in ("o", "ctrl+o", "ctrl+alt+p", pressed):
            press(other, desktop)
        assert watcher.stdout.readline() == "pressed\n"
        press(pressed, desktop)
        assert watcher.stdout.readline() == "pressed\n"
        told, _ = watcher.communicate("\n", timeout=30)
    assert told == ""


def test_it_switches_the_daemon_while_the_icon_runs(desktop: dict[str, str], product: Product) -> None:
    pytest.importorskip(
        "PySide6", reason="NO PYSIDE6: the hotkey of the tray icon is NOT tested; pip install -e .[tray]"
    )
    from scripts.harness.desktop import Panel

    with session_bus() as bus, closing(Panel(bus)) as panel, product.client() as client:
        environment = {**product.environment, "DISPLAY": desktop["DISPLAY"], "DBUS_SESSION_BUS_ADDRESS": bus}
        environment.pop("WAYLAND_DISPLAY", None)
        command = [sys.executable, "-m", "occlufix_vcam", "tray"]
        with subprocess.Popen(command, cwd=ROOT, env=environment) as icon:
            panel.wait_for(lambda: panel.items)
            client.change_settings({"hotkey": "ctrl+alt+o"})
            panel.wait_for(lambda: press("ctrl+alt+o", desktop) or not client.status()["enabled"])
            client.change_settings({"hotkey": ""})
            icon.terminate()
        assert panel.messages == []  # the key works: no message says why not


def test_without_pynput_the_extra_and_the_way_by_hand_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynput", None)
    monkeypatch.delitem(sys.modules, "occlufix_vcam.desktop.hotkey.pynput_keys", raising=False)
    with pytest.raises(HotkeyUnavailable) as refused:
        bind("f9", print, print, {"XDG_SESSION_TYPE": "x11"}, "linux")
    assert ".[hotkey]" in refused.value.hint and "occlufix-vcam toggle" in refused.value.hint


# ---- Wayland ----


class Portal:
    """GlobalShortcuts as far as it is used; `allows` is what its user says in the dialog."""

    def __init__(self, bus: str, *, allows: bool = True, knows: bool = True) -> None:
        self.allows, self.knows = allows, knows
        self.bound: list[tuple[str, dict[str, Any]]] = []
        self.is_bound = threading.Event()
        self.session = ""
        self._service = Service(bus, (DESKTOP,), self._answer)

    def _answer(self, interface: str, member: str, message: Message) -> Answer | None:
        if interface == REGISTRY or not self.knows:
            return None
        assert interface == SHORTCUTS
        options = {name: value[1] for name, value in message.body[-1].items()}
        sender = message.header.fields[HeaderFields.sender].strip(":").replace(".", "_")
        request = f"{PATH}/request/{sender}/{options['handle_token']}"
        results: dict[str, Any] = {}
        if member == "CreateSession":
            self.session = f"{PATH}/session/{sender}/{options['session_handle_token']}"
            results = {"session_handle": ("s", self.session)}
        else:
            assert member == "BindShortcuts" and message.body[0] == self.session
            self.bound = message.body[1]
        code = 0 if self.allows or member == "CreateSession" else 1
        # Before the reply, as a portal may: nothing of it must get lost.
        self._tell(request, REQUEST, "Response", "ua{sv}", (code, results))
        if self.bound:
            self.is_bound.set()
        return "o", (request,)

    def press(self, shortcut: str = "toggle") -> None:
        self._tell(PATH, SHORTCUTS, "Activated", "osta{sv}", (self.session, shortcut, 0, {}))

    def _tell(self, path: str, interface: str, member: str, signature: str, body: tuple[Any, ...]) -> None:
        self._service.connection.send(new_signal(DBusAddress(path, interface=interface), member, signature, body))

    def close(self) -> None:
        self._service.close()


def test_the_portal_is_asked_and_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    pressed = threading.Semaphore(0)
    with session_bus() as bus, closing(Portal(bus)) as portal:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus)
        key = bind("ctrl+alt+o", pressed.release, print, {"WAYLAND_DISPLAY": "wayland-0"}, "linux")
        with closing(key):
            assert isinstance(key, PortalKey) and portal.is_bound.wait(WITHIN_S)
            ((name, told),) = portal.bound
            assert (name, told["preferred_trigger"]) == ("toggle", ("s", "CTRL+ALT+o"))
            portal.press("another")
            portal.press()
            assert pressed.acquire(timeout=WITHIN_S)
        assert not key.is_alive() and not pressed.acquire(blocking=False)


@pytest.mark.parametrize(
    ("answers", "words"), [({"allows": False}, "refused it"), ({"knows": False}, "has no portal for it")]
)
def test_a_no_and_no_portal_are_told_with_the_way_by_hand(answers: dict[str, bool], words: str) -> None:
    failures: list[HotkeyUnavailable] = []
    with session_bus() as bus, closing(Portal(bus, **answers)):
        key = PortalKey("f9", lambda: None, failures.append, bus)
        key.join(WITHIN_S)
    assert words in failures[0].message and "occlufix-vcam toggle" in failures[0].hint


def test_no_bus_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    with pytest.raises(HotkeyUnavailable, match="no session bus"):
        bind("f9", print, print, {"XDG_SESSION_TYPE": "wayland"}, "linux")


@pytest.mark.parametrize(
    ("keys", "trigger"), [("super+f12", "LOGO+F12"), ("ctrl+shift+f", "CTRL+SHIFT+f"), ("pause", "Pause")]
)
def test_keys_as_the_specification_writes_them(keys: str, trigger: str) -> None:
    assert as_trigger(keys) == trigger
