"""Files that appear completely or not at all, and JSON that another program may have damaged."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any


def write_atomically(path: Path, data: bytes, mode: int = 0o666, *, durable: bool = False) -> None:
    """Writes `path` completely, or leaves the old file. Raises OSError.

    `mode` holds from the first byte on. A link at `path` stays a link: its target is written. `durable` also survives a
    power cut from here on, at the price of waiting for the disk.
    """
    path = Path(os.path.realpath(path))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(descriptor)
        part.replace(path)
        if durable:
            sync_folder(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Makes names that appeared or vanished in `folder` survive a power cut, where the system can. Raises OSError."""
    if os.name != "posix":
        return  # Windows writes names through
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Any:
    """Raises OSError, and ValueError for whatever is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path} is nested too deep") from None


class NewFile:
    """An open file that only this user can read, beside the one that it is to replace; a context that removes it.

    Its name is new and short, whatever lies there and however long the other's name is, so no link is followed.
    """

    def __init__(self, target: Path) -> None:
        """Raises OSError."""
        descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=target.parent)
        self.path = Path(name)
        self.file = os.fdopen(descriptor, "w+b")

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.file.close()
        self.path.unlink(missing_ok=True)

    def move_to(self, target: Path) -> None:
        """Replaces `target`, whose permissions stay if it is there. Raises OSError."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        if target.exists():
            self.path.chmod(stat.S_IMODE(target.stat().st_mode))
        self.path.replace(target)
