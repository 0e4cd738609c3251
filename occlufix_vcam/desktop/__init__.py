"""Desktop integration: the tray icon, the hotkey, and the start at log-in."""
