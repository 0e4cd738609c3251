"""The daemon's state directory: who runs (locks), how to reach it (control.json, last-port, page.key), the log.

Everything here is for the user alone: the folder is 0700, control.json and page.key are 0600. The operating system
drops the lock when its holder dies, so what a killed daemon left behind is simply taken over. Locks and secrets are
imported where they are needed: `toggle` reads control.json and waits for nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import platformdirs

from occlufix_vcam import APP_NAME, __version__
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.files import write_atomically

LOCK_PATIENCE_S = 0.5  # a client that only looks whether the lock is free holds it for a moment


@dataclass(frozen=True, slots=True)
class ControlAddress:
    """Where the running daemon listens and what it wants to hear; `version` is "" where it is too old to say."""

    port: int
    token: str
    pid: int
    version: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class NotRunning(ConfigError):
    """There is no daemon to talk to."""

    def __init__(self) -> None:
        super().__init__("OccluFix Camera is not running", "start it with `occlufix-vcam start`")


class StateFolder:
    """The files that daemon and clients share. OCCLUFIX_STATE_DIR names another folder."""

    def __init__(self, path: Path | None = None) -> None:
        named = os.environ.get("OCCLUFIX_STATE_DIR")
        self.path = path or (Path(named) if named else platformdirs.user_state_path(APP_NAME))
        self.log = self.path / "occlufix-vcam.log"
        self.startup = self.path / "startup.txt"
        self._control = self.path / "control.json"
        self._last_port = self.path / "last-port"
        self._page_key = self.path / "page.key"
        self._lock = self.path / "daemon.lock"

    def prepare(self) -> None:
        """Makes the folder, for this user alone."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise ConfigError(
                f"the state directory {self.path} cannot be used: {error.strerror}",
                "fix its owner, or set OCCLUFIX_STATE_DIR to another folder",
            ) from error

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Makes this process the one daemon of its user. Raises ConfigError while another one runs."""
        with self._hold_alone(self._lock, self.already_running):
            try:
                self._control.unlink(missing_ok=True)
                yield
            finally:
                self._control.unlink(missing_ok=True)

    @contextmanager
    def hold_tray(self) -> Iterator[None]:
        """Makes this process the one tray icon of its user. Raises ConfigError while there is another one."""
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
        try:
            yield
        finally:
            lock.release()

    def held(self) -> bool:
        """Whether a daemon runs."""
        return not self.wait_until_free(0)

    def wait_until_free(self, timeout: float) -> bool:
        """Whether the daemon is gone, waiting at most `timeout` seconds for that."""
        if not self._lock.exists():
            return True
        import filelock

        lock = filelock.FileLock(self._lock, mode=0o600)
        try:
            with lock.acquire(timeout=timeout, poll_interval=0.02):
                return True
        except filelock.Timeout:
            return False

    def already_running(self) -> ConfigError:
        try:
            who = f" (process {self.read_control().pid})"
        except NotRunning:
            who = ""
        return ConfigError(f"OccluFix Camera is already running{who}", "stop it with `occlufix-vcam stop`")

    def publish(self, port: int) -> ControlAddress:
        """Writes where this process listens, with a fresh token."""
        import secrets

        address = ControlAddress(port, secrets.token_urlsafe(32), os.getpid(), __version__)
        write_atomically(self._last_port, str(port).encode())
        write_atomically(self._control, json.dumps(asdict(address)).encode(), mode=0o600)
        return address

    def last_port(self) -> int:
        """Where the daemon before this one listened, so that a page that is still open finds the next; 0: unknown."""
        try:
            return min(65535, max(0, int(self._last_port.read_text())))
        except (OSError, ValueError):
            return 0

    def page_key(self) -> str:
        """The secret with which a page that was let in once shows a later daemon that it is the same."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if key := self._page_key.read_text(encoding="ascii"):
                return key
        import secrets

        key = secrets.token_urlsafe(32)
        write_atomically(self._page_key, key.encode(), mode=0o600)
        return key

    def read_control(self) -> ControlAddress:
        """Where the daemon listens. Raises NotRunning where nothing says so."""
        try:
            told = json.loads(self._control.read_text(encoding="utf-8"))
            known = {field.name: told[field.name] for field in fields(ControlAddress) if field.name in told}
            return ControlAddress(**known)
        except (OSError, ValueError, TypeError):
            raise NotRunning from None
