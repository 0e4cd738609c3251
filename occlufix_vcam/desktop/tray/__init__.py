"""Tray icon: shows the state at a glance and toggles at a click. It uses the control API only."""
