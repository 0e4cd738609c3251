"""On-disk cache of built engines: their paths, their integrity, and one build per engine.

An entry is a plan and a JSON file that records what it was built from and for. Its path is computed from its key and
never searched. The JSON file is written last and holds the plan's hash: whatever a kill, a full disk or another program
left unfinished does not match it, and is deleted and rebuilt. Only this user may write here, so that only engines built
on this machine are loaded: an engine file is code.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import platformdirs

from engines.errors import CacheUnusable, EngineBuildError

APP_NAME = "occlufix-vcam"
LOCK_POLL_S = 0.2
_SUFFIXES = (".plan", ".json", ".jit", ".times", ".lock", ".part")

#: Called from time to time by long operations; returning False ends them.
GoOn = Callable[[], bool]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What an engine is built from and for. Two engines that could differ in anything have different facts."""

    model: str
    facts: Mapping[str, Any]

    @property
    def stem(self) -> str:
        words = json.dumps(self.facts, sort_keys=True)
        name = "".join(letter if letter.isalnum() else "-" for letter in self.model)
        return f"{name}-{hashlib.sha256(words.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """Engine in the cache; `notes` are the results of its checks at build time."""

    path: Path
    model: str
    facts: Mapping[str, Any]
    size: int
    built_at: float
    notes: Mapping[str, Any] = field(default_factory=dict)


class EngineCache:
    """Engines that this user built on this machine. OCCLUFIX_CACHE_DIR names another folder."""

    def __init__(self, folder: Path | None = None) -> None:
        named = os.environ.get("OCCLUFIX_CACHE_DIR")
        self.folder = folder or (Path(named) if named else platformdirs.user_cache_path(APP_NAME)) / "engines"

    def path(self, key: CacheKey, suffix: str = ".plan") -> Path:
        """Path of the plan or, with another suffix, of a file that belongs to it."""
        return self.folder / f"{key.stem}{suffix}"

    def read(self, key: CacheKey) -> bytes | None:
        """Reads a plan that is complete and this user's; None if there is none. Deletes a damaged one. Raises
        CacheUnusable.
        """
        self._prepare()
        plan, damage = self._look(key)
        if not damage:
            return plan
        with self.locked(key):  # a plan that looks damaged may still be in the process of being written
            return self._read_or_delete(key)

    def write(self, key: CacheKey, plan: bytes, notes: Mapping[str, Any] | None = None) -> Path:
        """Installs a plan completely or not at all. Raises CacheUnusable and then keeps the previous one."""
        self._prepare()
        told = {
            "model": key.model,
            "facts": key.facts,
            "plan_sha256": hashlib.sha256(plan).hexdigest(),
            "built_at": time.time(),
            "notes": notes or {},
        }
        self.write_beside(key, ".plan", plan)
        self.write_beside(key, ".json", json.dumps(told, indent=1).encode())
        return self.path(key)

    def write_beside(self, key: CacheKey, suffix: str, data: bytes) -> None:
        """Writes one file of an entry atomically, for this user only. Raises CacheUnusable."""
        target = self.path(key, suffix)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        if not target.is_file():
            self._clear(target)
        try:
            part.unlink(missing_ok=True)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            part.replace(target)
        except OSError as error:
            _unlink(part)
            raise self._unusable(error) from error

    def delete(self, key: CacheKey) -> None:
        """Deletes an entry. Raises CacheUnusable."""
        for suffix in (".plan", ".json", ".jit"):
            try:
                _remove(self.path(key, suffix))
            except OSError as error:
                raise self._unusable(error) from error

    def obtain(
        self, key: CacheKey, build: Callable[[], tuple[bytes, Mapping[str, Any]]], go_on: GoOn = lambda: True
    ) -> bytes:
        """Plan from the cache, else from `build`, which returns it with its notes. Only one process builds at a time.

        Raises CacheUnusable, EngineBuildError if `go_on` ended it, and what `build` raises.
        """
        plan = self.read(key)
        if plan is not None:
            return plan
        with self.locked(key, go_on):
            plan = self._read_or_delete(key)
            if plan is None:
                plan, notes = build()
                self.write(key, plan, notes)
        return plan

    @contextmanager
    def locked(self, key: CacheKey, go_on: GoOn = lambda: True) -> Iterator[None]:
        """Lock of one key, held by one process; the system releases it if that process dies. Raises CacheUnusable."""
        self._prepare()
        path = self.path(key, ".lock")
        if not path.is_file():
            self._clear(path)
        lock = filelock.FileLock(path, mode=0o600)
        while not lock.is_locked:
            try:
                lock.acquire(timeout=LOCK_POLL_S)
            except filelock.Timeout:
                if not go_on():
                    raise EngineBuildError(f"cancelled while another process builds {key.model}") from None
            except OSError as error:
                raise self._unusable(error) from error
        try:
            for left_by_a_kill in self.folder.glob(f".{key.stem}.*.part"):
                _unlink(left_by_a_kill)
            yield
        finally:
            lock.release()

    def read_beside(self, key: CacheKey, suffix: str) -> bytes:
        """Reads one file of an entry. Raises OSError, also if it is no regular file of this user."""
        return _read_own(self.path(key, suffix))

    def entries(self) -> list[CacheEntry]:
        """All complete entries, by name. Raises CacheUnusable."""
        self._prepare()
        found = []
        for path in sorted(self.folder.glob("*.json")):
            plan = path.with_suffix(".plan")
            try:
                told = _read_json(path)
                size = plan.stat().st_size
                found.append(CacheEntry(plan, told["model"], told["facts"], size, told["built_at"], told["notes"]))
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue  # unfinished or damaged: `read` handles it
        return found

    def clean(self) -> tuple[int, int]:
        """Deletes every cached engine; returns their number and size in bytes. Raises CacheUnusable."""
        self._prepare()
        engines = freed = 0
        for path in self.folder.iterdir():
            if path.suffix not in _SUFFIXES:
                continue
            try:
                size = path.lstat().st_size
                _remove(path)
            except OSError as error:
                raise self._unusable(error) from error
            engines += path.suffix == ".plan"
            freed += size
        return engines, freed

    def _read_or_delete(self, key: CacheKey) -> bytes | None:
        plan, damage = self._look(key)
        if damage:
            _log.warning("discarding the engine %s: %s", self.path(key).name, damage)
            self.delete(key)
        return plan

    def _look(self, key: CacheKey) -> tuple[bytes | None, str]:
        """The plan if it is intact, and what is wrong with it if not."""
        try:
            plan, told = _read_own(self.path(key)), _read_json(self.path(key, ".json"))
            if (told["model"], told["facts"]) != (key.model, json.loads(json.dumps(key.facts))):
                return None, "it belongs to another engine"
            if told["plan_sha256"] == hashlib.sha256(plan).hexdigest():
                return plan, ""
            return None, "its content has changed"
        except FileNotFoundError:
            return None, "it is incomplete" if self.path(key).exists() else ""
        except (OSError, ValueError, KeyError, TypeError) as error:
            return None, str(error)

    def _prepare(self) -> None:
        """Creates the folder for this user only. Raises CacheUnusable."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.folder.lstat()
            if not stat.S_ISDIR(found.st_mode):
                raise CacheUnusable(
                    f"the engine cache {self.folder} is a link to {self.folder.resolve()}, which is not trusted",
                    "delete the link, or name the real folder's parent in OCCLUFIX_CACHE_DIR",
                )
            if hasattr(os, "getuid") and found.st_uid != os.getuid():
                raise CacheUnusable(f"the engine cache {self.folder} belongs to another user", _OTHER_PLACE)
            if os.name == "posix" and found.st_mode & 0o077:
                self.folder.chmod(0o700)
        except OSError as error:
            raise self._unusable(error) from error

    def _clear(self, path: Path) -> None:
        """Removes whatever is at a file's path. Raises CacheUnusable."""
        try:
            _remove(path)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> CacheUnusable:
        return CacheUnusable(
            f"the engine cache {self.folder} cannot be used: {error.strerror or error}",
            f"free some space and fix its permissions; {_OTHER_PLACE}",
        )


_OTHER_PLACE = "set OCCLUFIX_CACHE_DIR to another folder"


def _read_own(path: Path) -> bytes:
    """Content of a regular file that belongs to this user. Raises OSError."""
    # Without O_NONBLOCK, opening a FIFO waits for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise PermissionError(f"{path.name} is not a regular file")
        if hasattr(os, "getuid") and found.st_uid != os.getuid():
            raise PermissionError(f"{path.name} belongs to another user")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def _read_json(path: Path) -> dict[str, Any]:
    """Raises OSError, ValueError."""
    try:
        told = json.loads(_read_own(path))
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deep") from None
    if not isinstance(told, dict):
        raise ValueError(f"{path.name} holds no entry")
    return told


def _remove(path: Path) -> None:
    """Removes a file, link, FIFO or folder, if it is there. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        _log.debug("%s could not be deleted", path, exc_info=True)
