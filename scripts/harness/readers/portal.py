"""Fake xdg-desktop-portal with the Camera interface only: it grants, or refuses with `--refuse`.

The real one needs a desktop to ask the user. So this tests the camera and the browser, not the dialog. Runs with the
system's own Python, whose `gi` supports D-Bus.
"""

import os
import socket
import sys

from gi.repository import Gio, GLib

PORTAL, DESKTOP = "org.freedesktop.portal", "/org/freedesktop/portal/desktop"
GRANTED, REFUSED = 0, 1
INTERFACE = f"""
<node>
  <interface name="{PORTAL}.Camera">
    <method name="AccessCamera">
      <arg name="options" type="a{{sv}}" direction="in"/><arg name="handle" type="o" direction="out"/>
    </method>
    <method name="OpenPipeWireRemote">
      <arg name="options" type="a{{sv}}" direction="in"/><arg name="fd" type="h" direction="out"/>
    </method>
    <property name="IsCameraPresent" type="b" access="read"/>
    <property name="version" type="u" access="read"/>
  </interface>
</node>"""


def say(what: str) -> None:
    sys.stdout.write(f"portal: {what}\n")
    sys.stdout.flush()


class Portal:
    def __init__(self, answer: int) -> None:
        self._answer = answer

    def called(self, bus, sender, path, interface, method, arguments, call) -> None:
        say(method)
        if method == "OpenPipeWireRemote":
            self._hand_over(call)
            return
        token = arguments.unpack()[0].get("handle_token", "token")
        handle = f"{DESKTOP}/request/{sender[1:].replace('.', '_')}/{token}"
        call.return_value(GLib.Variant("(o)", (handle,)))
        GLib.idle_add(self._respond, bus, sender, handle)

    def _respond(self, bus, sender, handle) -> bool:
        bus.emit_signal(sender, handle, f"{PORTAL}.Request", "Response", GLib.Variant("(ua{sv})", (self._answer, {})))
        return GLib.SOURCE_REMOVE

    def _hand_over(self, call) -> None:
        """Opens a connection to PipeWire for a program that may not, as the real portal does."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"{os.environ['XDG_RUNTIME_DIR']}/pipewire-0")
        descriptors = Gio.UnixFDList.new()
        place = descriptors.append(connection.fileno())
        call.return_value_with_unix_fd_list(GLib.Variant("(h)", (place,)), descriptors)
        connection.close()

    def property(self, bus, sender, path, interface, name):
        return GLib.Variant("b", True) if name == "IsCameraPresent" else GLib.Variant("u", 1)


def main() -> None:
    portal = Portal(REFUSED if "--refuse" in sys.argv else GRANTED)
    interface = Gio.DBusNodeInfo.new_for_xml(INTERFACE).interfaces[0]

    def register(bus, name) -> None:
        bus.register_object(DESKTOP, interface, portal.called, portal.property, None)

    def ready(bus, name) -> None:
        say("ready")

    def lost(bus, name) -> None:
        sys.exit("portal: the name is taken")

    Gio.bus_own_name(Gio.BusType.SESSION, f"{PORTAL}.Desktop", Gio.BusNameOwnerFlags.NONE, register, ready, lost)
    GLib.MainLoop().run()


main()
