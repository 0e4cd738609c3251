"""A key that switches wherever its user is: watched for on Windows, macOS and X11, asked of the desktop on Wayland.

Off by default. What is pressed otherwise is looked at by nobody here, and kept nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

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
