"""Storage of the key to the enrolled faces: the system's keyring, or a file if there is none."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from occlufix_vcam import APP_NAME
from occlufix_vcam.core.files import write_atomically
from occlufix_vcam.people.person import EnrollmentError, unreadable

log = logging.getLogger(__name__)

KEY_BYTES = 32


class KeyPlace(Protocol):
    """Storage of the key. Every method raises EnrollmentError if the storage is locked or broken."""

    said: str

    def read(self) -> bytes | None: ...

    def write(self, key: bytes) -> None: ...

    def remove(self) -> None: ...


class KeyFile:
    """File that only this user can read, for systems without a keyring."""

    said = (
        "encrypted, but this system has no keyring: the key is stored beside them in a file for this user only, "
        "which any program of this user can read"
    )

    def __init__(self, path: Path) -> None:
        self._path = path

    def exists(self) -> bool:
        return self._path.exists()

    def read(self) -> bytes | None:
        try:
            key = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(self._path, error) from error
        if len(key) != KEY_BYTES:
            what = f"{self._path} is not a key file"
            raise EnrollmentError(what, "delete its folder and enroll again", code="face_broken", file=self._path)
        return key

    def write(self, key: bytes) -> None:
        write_atomically(self._path, key, mode=0o600, durable=True)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


class SystemKeyring:
    """Keyring of the desktop: Secret Service, KWallet, macOS Keychain, Windows Credential Locker."""

    said = "encrypted; the key is in the system's keyring"
    _SERVICE, _USER = APP_NAME, "enrolled faces"

    def __init__(self, keyring: Any) -> None:
        self._keyring = keyring

    @classmethod
    def find(cls) -> SystemKeyring | None:
        """Keyring of the system; None if there is none that is safe to use."""
        try:
            import keyring

            backend = keyring.get_keyring()
        except Exception as error:  # noqa: BLE001  a broken keyring plug-in raises anything
            log.info("no keyring: %r", error)
            return None
        return cls(backend) if backend.priority >= 1 else None

    def read(self) -> bytes | None:
        with self._asked():
            found = self._keyring.get_password(self._SERVICE, self._USER)
            return None if found is None else bytes.fromhex(found)

    def write(self, key: bytes) -> None:
        with self._asked():
            self._keyring.set_password(self._SERVICE, self._USER, key.hex())

    def remove(self) -> None:
        with self._asked(), contextlib.suppress(LookupError):
            if self._keyring.get_password(self._SERVICE, self._USER) is not None:
                self._keyring.delete_password(self._SERVICE, self._USER)

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # every keyring has its own errors, and D-Bus too
            raise EnrollmentError(
                f"the system's keyring does not open: {error or type(error).__name__}",
                "unlock it (log in to the desktop), then start again; until then enrolled faces are not used",
                code="keyring_locked",
            ) from error
