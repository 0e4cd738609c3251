"""Global hotkey that toggles restoring: watched on Windows, macOS and X11, requested from the desktop on Wayland.

Off by default. All other key presses are ignored and never stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from occlufix_vcam.core.errors import OccluFixError

BY_HAND = "bind `occlufix-vcam toggle` to a key in your desktop's settings"


class HotkeyUnavailable(OccluFixError):
    """This desktop cannot provide a hotkey."""

    exit_code = 3

    def __init__(self, why: str, hint: str = BY_HAND) -> None:
        super().__init__(f"no hotkey: {why}", hint, code="no_hotkey", why=why)


#: What each hotkey does, by its setting, as a desktop that asks its user shows it.
ACTIONS = {
    "hotkey": "Toggle the restoring of hidden faces",
    "hotkey_bare": "Show the untouched picture for two seconds",
}


class Hotkey(Protocol):
    """Calls back from its own thread when the key is pressed, until it is closed."""

    def close(self) -> None: ...


Pressed = Callable[[], None]
Failed = Callable[[HotkeyUnavailable], None]
