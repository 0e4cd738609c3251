"""Hotkey on Wayland: the portal GlobalShortcuts asks the user, owns the key and reports presses."""

from __future__ import annotations

import contextlib
import secrets
import threading
from typing import Any

from jeepney import DBusAddress, HeaderFields, MatchRule, Message, message_bus, new_method_call
from jeepney.io.threading import DBusConnection, ReceiveStopped, open_dbus_connection
from jeepney.low_level import MessageType

from occlufix_vcam.desktop.hotkey import ACTIONS, Failed, HotkeyUnavailable, Pressed

DESKTOP, PATH = "org.freedesktop.portal.Desktop", "/org/freedesktop/portal/desktop"
SHORTCUTS, REQUEST = "org.freedesktop.portal.GlobalShortcuts", "org.freedesktop.portal.Request"
REGISTRY = "org.freedesktop.host.portal.Registry"
#: Programs outside a sandbox identify themselves, if the portal is new enough to ask.
WHO = "occlufix-vcam-tray"
TOGGLE = "toggle"  # the shortcut's name within its session
#: Modifiers by the names of the freedesktop.org shortcuts specification.
MODIFIERS = {"ctrl": "CTRL", "alt": "ALT", "shift": "SHIFT", "super": "LOGO"}


class PortalKey(threading.Thread):
    """Requests the key in its own thread, for as long as the user takes to answer. Raises HotkeyUnavailable without a
    bus.
    """

    def __init__(
        self, keys: str, pressed: Pressed, failed: Failed, bus: str = "SESSION", action: str = ACTIONS["hotkey"]
    ) -> None:
        super().__init__(name="hotkey", daemon=True)
        self._action = action
        self._trigger, self._pressed, self._failed = as_trigger(keys), pressed, failed
        try:
            self._connection: DBusConnection = open_dbus_connection(bus)
        except (OSError, KeyError) as error:
            raise HotkeyUnavailable(f"there is no session bus ({error})") from error
        self.start()

    def close(self) -> None:
        """Closes the connection, whereupon the desktop releases the key."""
        self._connection.interrupt()
        self.join(2.0)

    def run(self) -> None:
        with contextlib.closing(self._connection), contextlib.suppress(ReceiveStopped):
            try:
                self._follow(self._bind())
            except HotkeyUnavailable as error:
                self._failed(error)
            except OSError as error:
                self._failed(HotkeyUnavailable(f"the session bus is gone ({error})"))

    def _bind(self) -> str:
        """Session that owns the key. Raises HotkeyUnavailable if the desktop or its user refuses."""
        for rule in (MatchRule(type="signal", interface=REQUEST), MatchRule(type="signal", interface=SHORTCUTS)):
            self._call(message_bus.AddMatch(rule))
        with contextlib.suppress(HotkeyUnavailable):  # older portals do not have it
            self._call(new_method_call(DBusAddress(PATH, DESKTOP, REGISTRY), "Register", "sa{sv}", (WHO, {})))
        made = self._ask("CreateSession", "", (), {"session_handle_token": ("s", _token())})
        session = str(made["session_handle"][1])
        wanted = [(TOGGLE, {"description": ("s", self._action), "preferred_trigger": ("s", self._trigger)})]
        self._ask("BindShortcuts", "oa(sa{sv})s", (session, wanted, ""), {})
        return session

    def _follow(self, session: str) -> None:
        while True:
            message = self._connection.receive()
            if _is_signal(message, SHORTCUTS, "Activated") and message.body[:2] == (session, TOGGLE):
                self._pressed()

    def _ask(self, member: str, signature: str, body: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        """Answer of the portal, which arrives as the signal of a request."""
        told = {**options, "handle_token": ("s", _token())}
        address = DBusAddress(PATH, DESKTOP, SHORTCUTS)
        (request,) = self._call(new_method_call(address, member, f"{signature}a{{sv}}", (*body, told)))
        answer = next((one for one in self._early if one.header.fields[HeaderFields.path] == request), None)
        while answer is None:
            message = self._connection.receive()
            if _is_signal(message, REQUEST, "Response") and message.header.fields[HeaderFields.path] == request:
                answer = message
        code, results = answer.body
        if code != 0:
            raise HotkeyUnavailable("the desktop refused it")
        return dict(results)

    def _call(self, message: Message) -> tuple[Any, ...]:
        """Body of the reply. Responses that arrive before it are kept, because a portal may be that fast."""
        self._early: list[Message] = []
        serial = next(self._connection.outgoing_serial)
        self._connection.send(message, serial=serial)
        while True:
            reply = self._connection.receive()
            if reply.header.fields.get(HeaderFields.reply_serial) == serial:
                break
            if _is_signal(reply, REQUEST, "Response"):
                self._early.append(reply)
        if reply.header.message_type is MessageType.error:
            raise HotkeyUnavailable("this desktop has no portal for it (GlobalShortcuts)")
        return tuple(reply.body)


def _is_signal(message: Message, interface: str, member: str) -> bool:
    fields = message.header.fields
    return (
        message.header.message_type is MessageType.signal
        and fields.get(HeaderFields.interface) == interface
        and fields.get(HeaderFields.member) == member
    )


def _token() -> str:
    return f"occlufix_{secrets.token_hex(8)}"


def as_trigger(keys: str) -> str:
    """Trigger in the syntax of the freedesktop.org shortcuts specification; keys by their xkb names."""
    *modifiers, key = keys.split("+")
    name = key.upper() if key[0] == "f" and len(key) > 1 else {"pause": "Pause"}.get(key, key)
    return "+".join([*(MODIFIERS[modifier] for modifier in modifiers), name])
