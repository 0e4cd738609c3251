"""State directory of the daemon: locks, its address (control.json, last-port, page.key) and the log.

Only the user can read it: the folder is 0700, control.json and page.key are 0600. The operating system releases a lock
when its holder dies, so files left behind by a killed daemon are simply replaced. Locks and secrets are imported on
first use: `toggle` reads control.json and waits for nothing else.
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


class NotRunning(ConfigError):
    """No daemon is running."""

    def __init__(self) -> None:
        super().__init__("OccluFix Camera is not running", "start it with `occlufix-vcam start`")


class StateFolder:
    """Files shared by daemon and clients. OCCLUFIX_STATE_DIR names another folder."""

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
        """Creates the folder, for this user only."""
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
        """Makes this process the user's only daemon. Raises ConfigError if another one runs."""
        with self._hold_alone(self._lock, self.already_running):
            try:
                self._control.unlink(missing_ok=True)
                yield
            finally:
                self._control.unlink(missing_ok=True)

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
        try:
            yield
        finally:
            lock.release()

    def held(self) -> bool:
        """Whether a daemon runs."""
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

    def already_running(self) -> ConfigError:
        try:
            who = f" (process {self.read_control().pid})"
        except NotRunning:
            who = ""
        return ConfigError(f"OccluFix Camera is already running{who}", "stop it with `occlufix-vcam stop`")

    def publish(self, port: int) -> ControlAddress:
        """Writes the address of this process, with a fresh token."""
        import secrets

        address = ControlAddress(port, secrets.token_urlsafe(32), os.getpid(), __version__)
        write_atomically(self._last_port, str(port).encode())
        write_atomically(self._control, json.dumps(asdict(address)).encode(), mode=0o600)
        return address

    def last_port(self) -> int:
        """Port of the previous daemon, on which an open page finds the next one; 0: unknown."""
        try:
            return min(65535, max(0, int(self._last_port.read_text())))
        except (OSError, ValueError):
            return 0

    def page_key(self) -> str:
        """Secret with which a page that was let in once identifies itself to a later daemon."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if key := self._page_key.read_text(encoding="ascii"):
                return key
        import secrets

        key = secrets.token_urlsafe(32)
        write_atomically(self._page_key, key.encode(), mode=0o600)
        return key

    def read_control(self) -> ControlAddress:
        """Address of the daemon. Raises NotRunning if there is none."""
        try:
            told = json.loads(self._control.read_text(encoding="utf-8"))
            known = {field.name: told[field.name] for field in fields(ControlAddress) if field.name in told}
            return ControlAddress(**known)
        except (OSError, ValueError, TypeError):
            raise NotRunning from None
