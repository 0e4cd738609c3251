"""State directory of the daemon: locks, its address (control.json, last-port), the keys of its pages, and the log.

Only the user can read it: the folder is 0700, files with secrets are 0600. The operating system releases a lock when
its holder dies, so files left behind by a killed daemon are simply replaced. Locks and secrets are imported where they
are needed: a command that finds no daemon waits for neither.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import platformdirs

from occlufix_vcam import APP_NAME, __version__
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.files import read_json, write_atomically
from occlufix_vcam.core.folders import UserFolder

#: A meta refresh only: with a script as well, the page would request the link twice.
LEADS_TO = '<!doctype html><meta charset=utf-8><meta name=referrer content=no-referrer>\
<meta http-equiv=refresh content="0; url={}"><title>OccluFix Camera</title>'
LINK_FILE = "open-{}.html"
OLD_PAGE_KEY = "page.key"  # earlier versions kept one permanent key for every page
LOCK_PATIENCE_S = 0.5  # a client that checks whether the lock is free holds it for a moment


@dataclass(frozen=True, slots=True)
class ControlAddress:
    """Where the running daemon listens, and its token; `version` is "" if the daemon is too old to report it."""

    port: int
    token: str
    pid: int
    version: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class PageKey:
    """The secret with which an open page comes back to the next daemon, and until when, in seconds since the epoch."""

    key: str
    ends: float


class NotRunning(ConfigError):
    """No daemon is running."""

    def __init__(self) -> None:
        super().__init__("OccluFix Camera is not running", "start it with `occlufix-vcam start`")


class StateFolder:
    """Files shared by daemon and clients. OCCLUFIX_STATE_DIR names another folder."""

    def __init__(self, path: Path | None = None) -> None:
        named = os.environ.get("OCCLUFIX_STATE_DIR")
        self.path = path or (Path(named) if named else platformdirs.user_state_path(APP_NAME))
        self._folder = UserFolder("state directory", self.path, "OCCLUFIX_STATE_DIR")
        self.log = self.path / "occlufix-vcam.log"
        self.startup = self.path / "startup.txt"
        self._control = self.path / "control.json"
        self._last_port = self.path / "last-port"
        self._page_keys = self.path / "page-keys.json"
        self._lock = self.path / "daemon.lock"

    def prepare(self) -> None:
        """Creates the folder, for this user only. Raises ConfigError."""
        self._folder.prepare()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Makes this process the user's only daemon. Raises ConfigError if another one runs."""
        with self._hold_alone(self._lock, self.already_running):
            try:
                self._clear()
                yield
            finally:
                self._clear()

    def _clear(self) -> None:
        """Removes what names a daemon, and links into it, so that those of a killed one are not found."""
        for file in (self._control, self.path / OLD_PAGE_KEY, *self.path.glob(LINK_FILE.format("*"))):
            file.unlink(missing_ok=True)

    @contextmanager
    def hold_tray(self) -> Iterator[None]:
        """Makes this process the user's only tray icon. Raises ConfigError if there is one."""
        running = ConfigError("the tray icon is already running", "look for it in the tray; quit it from its menu")
        with self._hold_alone(self.path / "tray.lock", lambda: running):
            yield

    @contextmanager
    def _hold_alone(self, path: Path, error: Callable[[], ConfigError]) -> Iterator[None]:
        import filelock

        self.prepare()
        lock = filelock.FileLock(path, mode=0o600)
        try:
            lock.acquire(timeout=LOCK_PATIENCE_S)
        except filelock.Timeout:
            raise error() from None
        except OSError as refused:
            raise self._folder.unusable(refused) from refused
        try:
            yield
        finally:
            lock.release()

    def held(self) -> bool:
        """Whether a daemon runs. Raises ConfigError if the folder cannot be used."""
        self._folder.check()
        return not self.wait_until_free(0)

    def wait_until_free(self, timeout: float) -> bool:
        """Whether the daemon has ended, after waiting at most `timeout` seconds."""
        if not self._lock.exists():
            return True
        import filelock

        lock = filelock.FileLock(self._lock, mode=0o600)
        try:
            with lock.acquire(timeout=timeout, poll_interval=0.02):
                return True
        except filelock.Timeout:
            return False
        except OSError as refused:
            raise self._folder.unusable(refused) from refused

    def already_running(self) -> ConfigError:
        try:
            who = f" (process {self.read_control().pid})"
        except NotRunning:
            who = ""
        return ConfigError(f"OccluFix Camera is already running{who}", "stop it with `occlufix-vcam stop`")

    def publish(self, port: int) -> ControlAddress:
        """Writes the address of this process, with a fresh token. Raises ConfigError."""
        import secrets

        address = ControlAddress(port, secrets.token_urlsafe(32), os.getpid(), __version__)
        try:
            write_atomically(self._last_port, str(port).encode())
            write_atomically(self._control, json.dumps(asdict(address)).encode(), mode=0o600)
        except OSError as error:
            raise self._folder.unusable(error) from error
        return address

    def last_port(self) -> int:
        """Port of the previous daemon, on which an open page finds the next one; 0: unknown."""
        try:
            return min(65535, max(0, int(self._last_port.read_text())))
        except (OSError, ValueError):
            return 0

    def read_page_keys(self) -> dict[str, PageKey]:
        """The keys of pages that were let in, by page; none where the file can't be read."""
        try:
            told = read_json(self._page_keys)
            return {page: PageKey(str(key), float(ends)) for page, (key, ends) in told.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def write_page_keys(self, keys: Mapping[str, PageKey]) -> None:
        """Raises OSError."""
        told = {page: (key.key, key.ends) for page, key in keys.items()}
        write_atomically(self._page_keys, json.dumps(told).encode(), mode=0o600)

    def write_link(self, url: str) -> Path:
        """Writes a file for this user alone that leads a browser to `url`: a command line could be read by everybody.

        Raises ConfigError.
        """
        import secrets

        file = self.path / LINK_FILE.format(secrets.token_hex(8))
        try:
            write_atomically(file, LEADS_TO.format(url).encode(), mode=0o600)
        except OSError as error:
            raise self._folder.unusable(error) from error
        return file

    def read_control(self) -> ControlAddress:
        """Address of the daemon. Raises NotRunning if there is none."""
        try:
            told = read_json(self._control)
            known = {field.name: told[field.name] for field in fields(ControlAddress) if field.name in told}
            return ControlAddress(**known)
        except (OSError, ValueError, TypeError):
            raise NotRunning from None
