"""Binds the hotkey: through the desktop's portal on Wayland, by watching the keyboard elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from engines.installing import install_extra
from occlufix_vcam.desktop.hotkey import ACTIONS, BY_HAND, Failed, Hotkey, HotkeyUnavailable, Pressed


def bind(
    keys: str,
    pressed: Pressed,
    failed: Failed,
    environment: Mapping[str, str] = os.environ,
    platform: str = sys.platform,
    *,
    action: str = ACTIONS["hotkey"],
) -> Hotkey:
    """Binds `keys`, as in the setting `hotkey`; `action` says what for.

    Raises HotkeyUnavailable, or calls `failed` if that shows later.
    """
    try:
        if platform.startswith("linux") and on_wayland(environment):
            from occlufix_vcam.desktop.hotkey.wayland import PortalKey

            return PortalKey(keys, pressed, failed, action=action)
        from occlufix_vcam.desktop.hotkey.pynput_keys import WatchedKey

        return WatchedKey(keys, pressed)
    except ImportError as error:
        why = str(error).strip().splitlines()[0]
        raise HotkeyUnavailable(why, f"{install_extra('hotkey')}, or {BY_HAND}") from error


def on_wayland(environment: Mapping[str, str]) -> bool:
    return environment.get("XDG_SESSION_TYPE") == "wayland" or bool(environment.get("WAYLAND_DISPLAY"))
