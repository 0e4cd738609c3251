"""Menu of the icon: every request to the daemon that a user makes in a hurry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QMenu

from occlufix_vcam.language import Words

Choices = Sequence[tuple[str, str]]


class TrayMenu(QObject):
    """Emits signals for what the user chose; shows the state that it receives."""

    switched = Signal(bool)
    camera_chosen = Signal(str)
    engine_chosen = Signal(str)
    preview_wanted = Signal()
    face_wanted = Signal(bool)
    autostart_wanted = Signal(bool)
    record_wanted = Signal(bool)
    running_wanted = Signal(bool)
    quit_wanted = Signal()
    opened = Signal()

    def __init__(self, words: Words) -> None:
        super().__init__()
        self._texts = words
        self._there = self._looking = self._recording = False
        self.menu = QMenu()
        self._words = self._line("")
        self._notes = self._line("")
        self.menu.addSeparator()
        self.switch = self._entry(words("set.enabled"), lambda wanted: self.switched.emit(wanted), checkable=True)
        self._cameras = _Choice(self.menu, words("want.camera"), self.camera_chosen)
        self._engines = _Choice(self.menu, words("set.backend"), self.engine_chosen)
        self._preview = self._entry(words("tray.page"), lambda _: self.preview_wanted.emit())
        self._face = self._entry(words("face.start"), lambda _: self.face_wanted.emit(not self._looking))
        self._record = self._entry("", lambda _: self.record_wanted.emit(not self._recording))
        self.menu.addSeparator()
        self.autostart = self._entry(
            words("tray.login"), lambda wanted: self.autostart_wanted.emit(wanted), checkable=True
        )
        self._running = self._entry("", lambda _: self.running_wanted.emit(not self._there))
        self._entry(words("tray.quit"), lambda _: self.quit_wanted.emit())
        self.menu.aboutToShow.connect(self.opened)
        self.show_daemon(False)
        self.show_recording(False)
        self.show_devices({"cameras": [], "backends": []})
        self.show_notes("")

    def _line(self, text: str) -> QAction:
        action = self.menu.addAction(text)
        action.setEnabled(False)
        return action

    def _entry(self, text: str, ask: Any, checkable: bool = False) -> QAction:
        action = self.menu.addAction(text)
        action.setCheckable(checkable)
        action.triggered.connect(ask)
        return action

    # ---- state shown ----

    def show_words(self, words: str) -> None:
        self._words.setText(words)

    def show_notes(self, notes: str) -> None:
        """Shows a second line for lasting trouble; "" removes it."""
        self._notes.setText(notes)
        self._notes.setVisible(bool(notes))

    def show_daemon(self, there: bool) -> None:
        """Shows whether a daemon runs. Without one, it can only be started."""
        self._there = there
        chosen = (self._cameras.action, self._engines.action)
        for action in (self.switch, self._preview, self._face, self._record, *chosen):
            action.setEnabled(there)
        self._running.setText(self._texts("tray.stop" if there else "tray.start"))

    def show_recording(self, recording: bool) -> None:
        self._recording = recording
        self._record.setText(self._texts("record.stop" if recording else "record.start"))

    def show_settings(self, settings: Mapping[str, Any]) -> None:
        self.switch.setChecked(settings["enabled"])
        self._cameras.choose(settings["source"])
        self._engines.choose(settings["backend"])

    def show_devices(self, devices: Mapping[str, Any]) -> None:
        cameras = [(one["path"] or str(one["index"]), one["name"]) for one in devices["cameras"]]
        backends = [
            (one["name"], self._texts("well.on", backend=one["name"], device=one["device"]))
            for one in devices["backends"]
            if one["available"]
        ]
        self._cameras.offer([("auto", self._texts("want.auto")), *cameras, ("demo", self._texts("want.demo"))])
        self._engines.offer([("auto", self._texts("want.fastest")), *backends])

    def show_enrollment(self, enrollment: Mapping[str, Any] | None) -> None:
        self._looking = enrollment is not None and enrollment["state"] == "looking"
        if self._looking and enrollment is not None:
            self._face.setText(self._texts("tray.cancel", views=enrollment["views"], wanted=enrollment["wanted"]))
        else:
            self._face.setText(self._texts("face.start"))


class _Choice:
    """Submenu with one checked entry; a choice that is not listed appears under its own name."""

    def __init__(self, menu: QMenu, title: str, chosen: Any) -> None:
        self._menu = menu.addMenu(title)
        self.action = self._menu.menuAction()
        self._chosen = chosen
        self._offered: Choices = ()
        self._now = ""
        self._group = QActionGroup(self._menu)

    def offer(self, choices: Choices) -> None:
        if choices != self._offered:
            self._offered = choices
            self._fill()

    def choose(self, value: str) -> None:
        """Shows what holds now, even if another entry was clicked in vain."""
        self._now = value
        self._fill()

    def _fill(self) -> None:
        listed = list(self._offered)
        if self._now and self._now not in dict(listed):
            listed.append((self._now, self._now))
        if [(one.data(), one.text()) for one in self._group.actions()] != listed:
            self._menu.clear()
            self._group = QActionGroup(self._menu)
            for value, title in listed:
                self._add(value, title)
        for action in self._group.actions():
            action.setChecked(action.data() == self._now)

    def _add(self, value: str, title: str) -> None:
        action = self._menu.addAction(title)
        action.setCheckable(True)
        action.setData(value)
        action.triggered.connect(lambda _: self._chosen.emit(value))
        self._group.addAction(action)
