"""Shared by every room: frames, settings, errors, status, files, and hand-offs between threads."""
