"""Hotkey on Windows, macOS and X11: pynput watches the keyboard and calls back for this combination only."""

from __future__ import annotations

from pynput import keyboard

from occlufix_vcam.desktop.hotkey import HotkeyUnavailable, Pressed

#: Keys that pynput names differently from the setting; single characters are the same.
NAMES = {"super": "cmd"}


class WatchedKey:
    """Watches one key combination. Raises HotkeyUnavailable if the system denies access to the keyboard."""

    def __init__(self, keys: str, pressed: Pressed) -> None:
        self._listener = keyboard.GlobalHotKeys({as_pynput(keys): pressed})
        self._listener.start()
        self._listener.wait()
        if not getattr(self._listener, "IS_TRUSTED", True):
            self.close()
            raise HotkeyUnavailable(
                "macOS does not let this program see keys",
                "allow it in System Settings > Privacy & Security > Input Monitoring, then start the icon again",
            )

    def close(self) -> None:
        self._listener.stop()


def as_pynput(keys: str) -> str:
    names = (NAMES.get(key, key) for key in keys.split("+"))
    return "+".join(name if len(name) == 1 else f"<{name}>" for name in names)
