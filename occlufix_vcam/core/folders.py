"""A folder of the user: what it is for, and what to do if it cannot be used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from occlufix_vcam.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class UserFolder:
    """Folder `path` for `what`; the environment variable `variable` names another one."""

    what: str
    path: Path
    variable: str

    def check(self) -> None:
        """Raises ConfigError if the folder is there and this user cannot work in it."""
        try:
            found = self.path.stat()
            if not self.path.is_dir():
                raise self.unusable("it is not a folder")
        except FileNotFoundError:
            return
        except OSError as error:
            raise self.unusable(error) from error
        if hasattr(os, "getuid") and found.st_uid != os.getuid():
            raise self.unusable("it belongs to another user")
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise self.unusable("you may not write to it")

    def prepare(self) -> None:
        """Creates the folder, for this user only; one that the user named keeps its mode. Raises ConfigError."""
        self.check()
        try:
            is_new = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            if is_new or self.variable not in os.environ:
                self.path.chmod(0o700)
        except OSError as error:
            raise self.unusable(error) from error

    def unusable(self, why: OSError | str) -> ConfigError:
        """Error that names the folder and the variable that moves it."""
        reason = why if isinstance(why, str) else why.strerror or type(why).__name__
        return ConfigError(
            f"the {self.what} {self.path} cannot be used: {reason}",
            f"fix its owner and permissions and free some space, or set {self.variable} to another folder",
        )
