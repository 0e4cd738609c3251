"""Whether a file is a film, and how long. Where PyAV is missing no file is known to be one."""

from __future__ import annotations

from pathlib import Path

from occlufix_vcam.core.errors import ConfigError, DeviceError


def is_film(path: Path) -> bool:
    """Whether it holds video, by its content."""
    try:
        from occlufix_vcam.core.media.film_reader import open_container

        with open_container(path) as container:
            return bool(container.streams.video)
    except (ConfigError, DeviceError):
        return False


def expected_frames(path: Path) -> int:
    """Number of frames that a film names or that fit its duration; 1 if it cannot be opened."""
    try:
        from occlufix_vcam.core.media.film_reader import frames_named, open_container

        with open_container(path) as container:
            return max(1, max((frames_named(container, stream) for stream in container.streams.video), default=1))
    except (ConfigError, DeviceError):
        return 1
