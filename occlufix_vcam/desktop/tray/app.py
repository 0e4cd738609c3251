"""The tray icon: shows the daemon's state and sends it what the user clicks.

Two threads run beside Qt's: one listens to the daemon's events, one sends requests, one after another. So no click
waits for an answer, and nothing runs while idle. The icon starts a daemon if none runs; neither depends on the other.
"""

from __future__ import annotations

import ctypes
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from PySide6.QtCore import QFileSystemWatcher, QLocale, QObject, Qt, QTimer, Signal
from PySide6.QtWidgets import QApplication, QSystemTrayIcon

from occlufix_vcam import __version__
from occlufix_vcam.client.client import ControlClient
from occlufix_vcam.client.launch import launch
from occlufix_vcam.client.open_page import open_page
from occlufix_vcam.core.errors import OccluFixError, Trouble, trouble_of
from occlufix_vcam.core.state import StateFolder
from occlufix_vcam.desktop import autostart
from occlufix_vcam.desktop.hotkey import ACTIONS, Hotkey, HotkeyUnavailable
from occlufix_vcam.desktop.hotkey.binding import bind
from occlufix_vcam.desktop.tray.icons import icon
from occlufix_vcam.desktop.tray.listener import Listener
from occlufix_vcam.desktop.tray.menu import TrayMenu
from occlufix_vcam.desktop.tray.status_view import (
    TrayStatus,
    Troubles,
    enrollment_trouble,
    recognised_line,
    tray_status,
)
from occlufix_vcam.language import words_for

log = logging.getLogger(__name__)

TITLE = "OccluFix Camera"
#: Name under which the menu enrolls, the default of `enroll`.
ME = "me"
SHOWN_MS = 10_000
#: Trouble that ends sooner shows in the icon and is not worth a message.
LASTING_MS = 2_000
LOOK_AGAIN_S = 2.0

Work = Callable[[], None]


class NoTray(OccluFixError):
    """This desktop shows no tray icons."""

    exit_code = 3

    def __init__(self, why: str, hint: str = "") -> None:
        page = "use `occlufix-vcam preview` instead"
        super().__init__(why, f"{hint}; {page}" if hint else page)


class Tray(QObject):
    _told = Signal(str, object)
    _failed = Signal(object)
    _devices_came = Signal(object)

    def __init__(self, application: QApplication, state: StateFolder) -> None:
        super().__init__()
        self._application, self._state = application, state
        self._words = words_for(QLocale.system().uiLanguages())
        self._shown = self._not_running()
        self._status: Mapping[str, Any] = {}
        self._troubles = Troubles(self._words)
        self._lasting = QTimer(self, singleShot=True, interval=LASTING_MS)
        self._settings: Mapping[str, Any] = {}
        self._enrolling = self._other = self._notes = ""
        self._keys: dict[str, str] = {}
        self._hotkeys: dict[str, Hotkey] = {}
        self._icon = QSystemTrayIcon()
        self._menu = TrayMenu(self._words)
        self._icon.setContextMenu(self._menu.menu)
        self._wanted: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._listener = Listener(state, self._told.emit)
        self._files = QFileSystemWatcher([str(state.path)])
        self._connect()
        self._show(self._shown)
        self._icon.show()
        threading.Thread(target=self._work, name="asking", daemon=True).start()
        self._listener.start()
        if not state.held():
            self._start()

    def _connect(self) -> None:
        menu = self._menu
        self._told.connect(self._hear)
        self._failed.connect(self._fail)
        self._lasting.timeout.connect(self._tell_trouble)
        self._devices_came.connect(menu.show_devices)
        self._files.directoryChanged.connect(lambda _: self._listener.wake())
        self._icon.activated.connect(self._clicked)
        self._application.styleHints().colorSchemeChanged.connect(lambda _: self._draw())
        menu.opened.connect(self._opened)
        menu.switched.connect(self._switch)
        menu.camera_chosen.connect(lambda source: self._change(source=source))
        menu.engine_chosen.connect(lambda backend: self._change(backend=backend))
        menu.preview_wanted.connect(lambda: self._ask_apart(_open_preview))
        menu.face_wanted.connect(self._remember)
        menu.record_wanted.connect(lambda wanted: self._ask_apart(lambda client: client.record(wanted)))
        menu.autostart_wanted.connect(self._start_at_login)
        menu.running_wanted.connect(lambda wanted: self._start() if wanted else self._ask(ControlClient.stop))
        menu.quit_wanted.connect(self._application.quit)

    # ---- events of the daemon ----

    def _hear(self, name: str, value: Mapping[str, Any]) -> None:
        if name == "status":
            self._show(tray_status(value, self._words))
            self._menu.show_notes(recognised_line(value, self._words) or self._notes)
            self._menu.show_recording(bool(value.get("recording")))
            self._menu.switch.setChecked(value["enabled"])
            self._status = value
            if not value["trouble"]:
                self._tell_trouble()  # it is news again the next time
            elif not self._lasting.isActive():
                self._lasting.start()
        elif name == "settings":
            self._settings = value
            self._menu.show_settings(value)
            self._bind("hotkey", str(value.get("hotkey", "")), ControlClient.toggle)
            self._bind("hotkey_bare", str(value.get("hotkey_bare", "")), ControlClient.show_bare)
            self._menu.show_daemon(True)  # not sooner: a click would invert a state that is unknown
        elif name == "enrolment":
            self._show_enrollment(value["enrolment"])
        elif name == "found":
            self._show_version(str(value["version"]))
        elif name == "lost":
            self._menu.show_daemon(False)
            self._menu.show_notes("")
            self._lost(bool(value["told"]))

    def _tell_trouble(self) -> None:
        for what, remedy in self._troubles.news(self._status):
            self._say(what, remedy)

    def _lost(self, told: bool) -> None:
        died = self._words("mood.died")
        self._show(self._not_running() if told else TrayStatus("trouble", died))
        self._status = {}
        self._tell_trouble()
        if not told:
            self._say(died, self._words("tray.died"))

    def _not_running(self) -> TrayStatus:
        return TrayStatus("idle", self._words("mood.gone"))

    def _show_version(self, other: str) -> None:
        notes = self._notes = self._words("tray.version", other=other, own=__version__) if other else ""
        self._menu.show_notes(notes)
        if other and other != self._other:
            self._say(notes, self._words("tray.restart"))
        self._other = other

    def _show_enrollment(self, enrollment: Mapping[str, Any] | None) -> None:
        self._menu.show_enrollment(enrollment)
        state = enrollment["state"] if enrollment else ""
        if enrollment and self._enrolling == "looking" and state != "looking":
            done = self._words("face.done", name=enrollment["name"]), ""
            self._say(*(done if state == "done" else self._words.said(enrollment_trouble(enrollment))))
        self._enrolling = state

    def _show(self, status: TrayStatus) -> None:
        self._shown = status
        self._menu.show_words(status.words)
        self._icon.setToolTip(f"{TITLE}\n{status.words}")
        self._draw()

    def _draw(self) -> None:
        self._icon.setIcon(icon(self._shown.icon, dark=panel_is_dark(self._application)))

    def _fail(self, why: Trouble) -> None:
        """Handles a failed request: the menu shows what holds."""
        if self._settings:
            self._menu.show_settings(self._settings)
        self._say(*self._words.said(why))

    def _say(self, what: str, hint: str) -> None:
        """Shows a message that disappears after a while."""
        self._icon.showMessage(TITLE, f"{what}\n{hint}", icon("trouble", dark=False), SHOWN_MS)

    # ---- requests of the user ----

    def _clicked(self, reason: QSystemTrayIcon.ActivationReason) -> None:
        if reason != QSystemTrayIcon.ActivationReason.Trigger:
            return
        if self._menu.switch.isEnabled():
            self._switch(not self._menu.switch.isChecked())
        else:
            self._start()

    def _switch(self, wanted: bool) -> None:
        self._menu.switch.setChecked(wanted)
        self._ask(lambda client: client.toggle(wanted))

    def _bind(self, name: str, keys: str, what: Callable[[ControlClient], object]) -> None:
        """Binds the key in the setting `name`, replacing the previous one."""
        if keys == self._keys.get(name, ""):
            return
        if (bound := self._hotkeys.pop(name, None)) is not None:
            bound.close()
        self._keys[name] = keys
        if not keys:
            return
        try:
            # Straight to the request thread: a hotkey is pressed in a hurry.
            self._hotkeys[name] = bind(keys, lambda: self._ask(what), self._no_hotkey, action=ACTIONS[name])
        except HotkeyUnavailable as error:
            self._no_hotkey(error)

    def _no_hotkey(self, error: OccluFixError) -> None:
        self._failed.emit(trouble_of(error))

    def _change(self, **changes: object) -> None:
        self._ask(lambda client: client.change_settings(changes, save=True))

    def _remember(self, wanted: bool) -> None:
        self._ask(lambda client: client.enroll(ME) if wanted else client.cancel_enrollment())

    def _opened(self) -> None:
        """Refreshes what may have changed without an event: connected devices, start at log-in."""
        self._menu.autostart.setChecked(_starts_at_login())
        if self._menu.switch.isEnabled():
            self._ask(lambda client: self._devices_came.emit(client.devices()))

    def _start_at_login(self, wanted: bool) -> None:
        def write() -> None:
            here = autostart.autostart_here()
            told = here.turn_on(with_tray=True) if wanted else here.turn_off()
            if told.problem:
                raise OccluFixError(told.problem, told.hint)

        self._wanted.put(write)

    def _start(self) -> None:
        self._show(TrayStatus("idle", self._words("mood.starting")))
        self._wanted.put(self._launch)

    def _launch(self) -> None:
        try:
            launch([], self._state)
        except OccluFixError:
            if not self._state.held():  # else another program was faster
                self._told.emit("lost", {"told": True})
                raise

    def _ask(self, what: Callable[[ControlClient], object]) -> None:
        self._wanted.put(self._asking(what))

    def _ask_apart(self, what: Callable[[ControlClient], object]) -> None:
        """The same for what takes its time, so that a click on the switch does not wait for it."""
        threading.Thread(target=self._attempt, args=(self._asking(what),), name="apart", daemon=True).start()

    def _asking(self, what: Callable[[ControlClient], object]) -> Callable[[], None]:
        def work() -> None:
            with ControlClient(self._state) as client:
                what(client)

        return work

    def _work(self) -> None:
        while True:
            self._attempt(self._wanted.get())

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OccluFixError as error:
            self._failed.emit(trouble_of(error))
        except Exception as error:
            log.exception("the tray icon failed")
            hint = "run `occlufix-vcam tray --debug` and report what it prints"
            self._failed.emit(Trouble(f"unexpected: {error!r}", hint))


def _open_preview(client: ControlClient) -> None:
    if open_page(client):
        hint = "`occlufix-vcam preview --print` prints the link"
        raise OccluFixError("no browser could be opened", hint, code="no_browser")


def _starts_at_login() -> bool:
    try:
        return autostart.autostart_here().status().on
    except OccluFixError:
        return False


def panel_is_dark(application: QApplication) -> bool:
    """Whether the panel is dark. GNOME's always is; elsewhere it follows the theme."""
    if "GNOME" in os.environ.get("XDG_CURRENT_DESKTOP", ""):
        return True
    return application.styleHints().colorScheme() == Qt.ColorScheme.Dark


def run(state: StateFolder, wait: float = 0.0) -> int:
    """Shows the icon until the user quits it. `wait`: seconds for which a desktop may still be starting.

    Raises NoTray, and ConfigError if there already is an icon.
    """
    with state.hold_tray():
        _look_for_display()
        application = QApplication(sys.argv[:1])
        application.setApplicationName(TITLE)
        application.setDesktopFileName("occlufix-vcam-tray")
        application.setQuitOnLastWindowClosed(False)
        if not QSystemTrayIcon.isSystemTrayAvailable():
            if wait <= 0:
                raise NoTray("this desktop shows no tray icons", "on GNOME, install the AppIndicator extension")
            _try_again(wait)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # Python's own signal handlers never run while Qt waits
        tray = Tray(application, state)
        code = application.exec()
        del tray
        return code


def _try_again(wait: float) -> NoReturn:
    """Restarts the process, because Qt checks only once whether there is a tray."""
    time.sleep(LOOK_AGAIN_S)
    command = [sys.executable, "-m", "occlufix_vcam", "tray", "--wait", str(max(0.0, wait - LOOK_AGAIN_S))]
    os.execv(sys.executable, command)


def _look_for_display() -> None:
    """Checks for a display. Raises NoTray where Qt would end the process without an error."""
    if not sys.platform.startswith("linux") or os.environ.get("QT_QPA_PLATFORM"):
        return
    if os.environ.get("WAYLAND_DISPLAY"):
        return
    if not os.environ.get("DISPLAY"):
        raise NoTray("there is no desktop in this session", "run it in a terminal of the desktop")
    try:
        ctypes.CDLL("libxcb-cursor.so.0")
        xcb = ctypes.CDLL("libxcb.so.1")
    except OSError as error:
        raise NoTray(
            f"Qt cannot open the display: {error}", "Debian, Ubuntu: sudo apt install libxcb-cursor0"
        ) from error
    xcb.xcb_connect.restype = ctypes.c_void_p
    connection = ctypes.c_void_p(xcb.xcb_connect(None, None))
    refused = xcb.xcb_connection_has_error(connection)
    xcb.xcb_disconnect(connection)
    if refused:
        raise NoTray(f"the display {os.environ['DISPLAY']} cannot be reached", "run it in a terminal of the desktop")
