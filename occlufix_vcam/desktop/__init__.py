"""Desktop integration: tray icon, hotkey, and start at log-in."""
