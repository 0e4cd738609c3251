"""Desktop for the tray icon: a display, a session bus, a panel, and a notification server.

The panel is the StatusNotifierWatcher and host of KDE and GNOME's extension; it reads an item, its menu and its icons
through D-Bus as they do, and clicks.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from jeepney import DBusAddress, HeaderFields, MessageType, Properties, message_bus, new_method_call
from jeepney.io.threading import DBusRouter, ReceiveStopped, open_dbus_connection
from jeepney.low_level import Message
from jeepney.wrappers import new_error, new_method_return, unwrap_msg

WATCHER, ITEM, MENU = "org.kde.StatusNotifierWatcher", "org.kde.StatusNotifierItem", "com.canonical.dbusmenu"
MESSAGES, PROPERTIES = "org.freedesktop.Notifications", "org.freedesktop.DBus.Properties"
WITHIN_S = 60.0


@contextlib.contextmanager
def display(size: str = "800x600", *more: str) -> Iterator[dict[str, str]]:
    """Starts Xvfb with a screen of that size, and more options; yields the environment of a program that uses it."""
    if shutil.which("Xvfb") is None:
        pytest.skip("NO XVFB: tray icon and hotkey are NOT tested; on Debian: apt install xvfb libxcb-cursor0")
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", f"{size}x24", "-nolisten", "tcp", "-noreset", *more]
    with subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL) as server:
        os.close(writer)
        with open(reader) as told:  # noqa: PTH123  a file descriptor
            number = told.readline().strip()
        try:
            yield {"DISPLAY": f":{number}", "XDG_SESSION_TYPE": "x11"}
        finally:
            server.terminate()


@contextlib.contextmanager
def session_bus() -> Iterator[str]:
    """Address of a session bus of its own."""
    if shutil.which("dbus-daemon") is None:
        pytest.skip("NO DBUS-DAEMON: tray icon and hotkey are NOT tested; on Debian: apt install dbus")
    command = ["dbus-daemon", "--session", "--nofork", "--print-address"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as daemon:
        try:
            assert daemon.stdout is not None
            yield daemon.stdout.readline().strip()
        finally:
            daemon.terminate()


Answer = tuple[str, tuple[Any, ...]]


class Service(threading.Thread):
    """Answers calls on a bus by interface and member; None means that there is no such method."""

    def __init__(self, bus: str, names: tuple[str, ...], answer: Callable[[str, str, Message], Answer | None]) -> None:
        super().__init__(daemon=True)
        self.connection = open_dbus_connection(bus)
        self._answer = answer
        with DBusRouter(self.connection) as router:
            for name in names:
                unwrap_msg(router.send_and_get_reply(message_bus.RequestName(name)))
        self.start()

    def run(self) -> None:
        with contextlib.suppress(ReceiveStopped):
            while True:
                self._handle(self.connection.receive())

    def close(self) -> None:
        self.connection.interrupt()
        self.join(10)

    def _handle(self, message: Message) -> None:
        if message.header.message_type is not MessageType.method_call:
            return
        fields = message.header.fields
        interface, member = fields.get(HeaderFields.interface, ""), fields[HeaderFields.member]
        answer = self._answer(interface, member, message)
        if answer is None:
            self.connection.send(new_error(message, "org.freedesktop.DBus.Error.UnknownMethod"))
        else:
            self.connection.send(new_method_return(message, *answer))


@dataclass
class Panel:
    """Holds the newest item and the notifications shown."""

    bus: str
    shows_icons: bool = True
    items: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        names = (MESSAGES, *((WATCHER,) if self.shows_icons else ()))
        self._service = Service(self.bus, names, self._answer)
        self._router = DBusRouter(open_dbus_connection(self.bus))

    def close(self) -> None:
        self._router.close()
        self._service.close()

    def _answer(self, interface: str, member: str, message: Message) -> Answer | None:
        with self.changed:
            self.changed.notify_all()
            if interface == PROPERTIES and member == "Get":
                known = {"IsStatusNotifierHostRegistered": ("b", True), "ProtocolVersion": ("i", 0)}
                return "v", (known[message.body[1]],)
            if member == "RegisterStatusNotifierItem":
                told = message.body[0]
                sender = message.header.fields[HeaderFields.sender]
                self.items.append(sender if told.startswith("/") else told)
                return "", ()
            if interface == MESSAGES:
                return self._show(member, message)
        return None

    def _show(self, member: str, message: Message) -> Answer | None:
        if member == "Notify":
            self.messages.append(message.body[4])
            return "u", (len(self.messages),)
        if member == "GetCapabilities":
            return "as", (["body", "actions"],)
        return {"GetServerInformation": ("ssss", ("panel", "test", "1", "1.2")), "CloseNotification": ("", ())}.get(
            member
        )

    def wait_for(self, what: Callable[[], Any]) -> Any:
        """Waits until `what` returns something; it is called after each message to the panel, and periodically."""
        import time

        ends_at, last = time.monotonic() + WITHIN_S, None
        while time.monotonic() < ends_at:
            try:
                last = what()
            except Exception as error:  # noqa: BLE001  an item that is appearing or disappearing
                last = error
            else:
                if last:
                    return last
            with self.changed:
                self.changed.wait(0.1)
        raise AssertionError(f"it did not happen within {WITHIN_S} s: {last!r}; messages so far: {self.messages}")

    # ---- the item ----

    def _call(self, path: str, interface: str, member: str, signature: str = "", body: tuple[Any, ...] = ()) -> Any:
        address = DBusAddress(path, self.items[-1], interface)
        return unwrap_msg(
            self._router.send_and_get_reply(new_method_call(address, member, signature, body), timeout=20)
        )

    def property(self, name: str) -> Any:
        address = DBusAddress("/StatusNotifierItem", self.items[-1], ITEM)
        answer = unwrap_msg(self._router.send_and_get_reply(Properties(address).get(name), timeout=20))
        return answer[0][1]

    def tip(self) -> str:
        """Title and text of the tooltip."""
        _, _, title, text = self.property("ToolTip")
        return f"{title} {text}"

    def icons(self) -> dict[int, bytes]:
        """Icons by size: premultiplied ARGB as received."""
        return {width: bytes(data) for width, _, data in self.property("IconPixmap")}

    def click(self) -> None:
        self._call("/StatusNotifierItem", ITEM, "Activate", "ii", (0, 0))

    # ---- its menu ----

    def menu(self) -> dict[str, dict[str, Any]]:
        """Entries by label: properties and number; entries of submenus are `Camera > Demo`."""
        path = self.property("Menu")
        _, root = self._call(path, MENU, "GetLayout", "iias", (0, -1, []))
        return dict(_entries(root, ""))

    def choose(self, label: str) -> None:
        entry = self.menu()[label]
        self._call(self.property("Menu"), MENU, "Event", "isvu", (entry["id"], "clicked", ("i", 0), 0))

    def open_menu(self) -> None:
        self._call(self.property("Menu"), MENU, "AboutToShow", "i", (0,))


def _entries(node: tuple[int, Mapping[str, Any], list[Any]], above: str) -> Iterator[tuple[str, dict[str, Any]]]:
    number, properties, children = node
    told = {name: value[1] for name, value in properties.items()}
    label = str(told.get("label", "")).replace("_", "")
    if label:
        yield above + label, {"id": number, "enabled": True, "visible": True, **told}
    for child in children:
        yield from _entries(child[1], f"{above}{label} > " if label else above)
