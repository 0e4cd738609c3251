"""Files that appear completely or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from types import TracebackType


def write_atomically(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Writes `path` completely, or leaves the old file. `mode` holds from the first byte on. Raises OSError."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


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
