"""Recording at a click: a file with a time stamp in the user's Videos folder, from now on until it is stopped."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import platformdirs

from occlufix_vcam.core.errors import ConfigError, SinkUnavailable
from occlufix_vcam.core.media.film_formats import unused
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.status import RecordingFacts

#: Shows a file, or its folder, in the system's file manager.
SHOW = {"win32": ("explorer", "/select,{file}"), "darwin": ("open", "-R", "{file}")}
SHOW_FOLDER = ("xdg-open", "{folder}")


class Recording:
    """Starts and stops the recording of a running daemon. Only its own sink opens and closes. Safe for many threads."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        update: Callable[[Mapping[str, object]], object],
        folder: Callable[[], Path] = platformdirs.user_videos_path,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`update` changes settings of the run, as Daemon.update does."""
        self._settings, self._update, self._folder, self._now = settings, update, folder, now
        self._lock = threading.Lock()
        self._began_at = now()
        self._last: Path | None = None

    def facts(self) -> RecordingFacts | None:
        file = self._settings().record
        return RecordingFacts(file=str(file), began_at=self._began_at) if file is not None else None

    def start(self, beside: bool = False) -> RecordingFacts | None:
        """Records into a new file; `beside`: the picture before restoring beside the output.

        A recording that is under way goes on. Raises SinkUnavailable, ConfigError.
        """
        with self._lock:
            if self._settings().record is None:
                file = self._new_file()
                self._began_at = self._now()
                self._update({"record": file, "record_before": beside})
        return self.facts()

    def stop(self) -> Path | None:
        """Ends the recording; returns its file, or None if there was none. Raises SinkUnavailable."""
        with self._lock:
            file = self._settings().record
            if file is not None:
                self._last = file.expanduser()
                self._update({"record": None})
            return self._last if file is not None else None

    def show(self, run: Callable[[Sequence[str]], object] = lambda command: subprocess.Popen(command)) -> Path:
        """Shows the last recording in the file manager. Raises ConfigError."""
        file = self._settings().record or self._last
        if file is None:
            raise ConfigError("nothing was recorded yet", "start a recording first", code="nothing_recorded")
        command = [part.format(file=file, folder=file.parent) for part in SHOW.get(sys.platform, SHOW_FOLDER)]
        try:
            run(command)
        except OSError as error:
            raise ConfigError(
                f"{command[0]} cannot be started: {error.strerror}",
                f"open {file.parent}",
                code="no_file_manager",
                folder=file.parent,
            ) from error
        return file

    def _new_file(self) -> Path:
        folder = self._folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"{folder} cannot be created: {error.strerror}"
            raise SinkUnavailable(message, "create it by hand", code="no_recording_folder", folder=folder) from error
        return unused(folder / f"OccluFix {time.strftime('%Y-%m-%d %H.%M.%S', time.localtime(self._now()))}.mp4")
