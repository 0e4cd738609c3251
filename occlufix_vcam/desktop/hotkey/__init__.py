"""A key that switches wherever its user is: watched for on Windows, macOS and X11, asked of the desktop on Wayland.

Off by default. What is pressed otherwise is looked at by nobody here, and kept nowhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Protocol

from engines.installing import install_extra
from occlufix_vcam.core.errors import OccluFixError

BY_HAND = "bind `occlufix-vcam toggle` to a key in the desktop's own settings: that works everywhere"


class HotkeyUnavailable(OccluFixError):
    """This desktop gives us no key."""

    exit_code = 3

    def __init__(self, why: str, hint: str = BY_HAND) -> None:
        super().__init__(f"no hotkey: {why}", hint)


class Hotkey(Protocol):
    """Calls back from a thread of its own whenever the key is pressed, until it is closed."""

    def close(self) -> None: ...


Pressed = Callable[[], None]
Failed = Callable[[HotkeyUnavailable], None]


def bind(
    keys: str,
    pressed: Pressed,
    failed: Failed,
    environment: Mapping[str, str] = os.environ,
    platform: str = sys.platform,
) -> Hotkey:
    """Binds `keys`, as in the setting `hotkey`. Raises HotkeyUnavailable, or calls `failed` where that shows later."""
    try:
        if platform.startswith("linux") and on_wayland(environment):
            from occlufix_vcam.desktop.hotkey.wayland import PortalKey

            return PortalKey(keys, pressed, failed)
        from occlufix_vcam.desktop.hotkey.pynput_keys import WatchedKey

        return WatchedKey(keys, pressed)
    except ImportError as error:
        why = str(error).strip().splitlines()[0]
        raise HotkeyUnavailable(why, f"{install_extra('hotkey')}, or {BY_HAND}") from error


def on_wayland(environment: Mapping[str, str]) -> bool:
    return environment.get("XDG_SESSION_TYPE") == "wayland" or bool(environment.get("WAYLAND_DISPLAY"))
