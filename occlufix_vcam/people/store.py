"""People who enrolled: their own unhidden faces, kept on this machine only, encrypted, for this user alone.

A file for each person in the user's data directory (0700, files 0600). The key lies in the system's keyring; where
there is none it lies beside the files, which keeps out other users but no program of the same user, and is said so.
A file that cannot be opened is named and left out: everything else goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import logging
import os
import threading
import time
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import platformdirs
from numpy.typing import NDArray

from engines.contract import CROP_PX, Image, Points
from occlufix_vcam import APP_NAME
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.files import write_atomically

log = logging.getLogger(__name__)

MOST_VIEWS = 12
LONGEST_NAME = 64
SUFFIX = ".face"
MAGIC = b"OCCLUFIX-FACE"
VERSION = 1
KEY_BYTES, NONCE_BYTES = 32, 12
#: With the key in a file there is a file more than people.
KEY_FILE = "key"
LOOK_EVERY_S = 1.0
#: What is being read when the watcher closes may take this long; a keyring that waits for its user is left behind.
CLOSE_S = 5.0


class EnrolmentError(ConfigError):
    """A face could not be enrolled, read or deleted."""


@dataclass(frozen=True, slots=True, eq=False)
class EnrolledView:
    """A face in the template: 256x256x3 uint8 BGR, `mask` 256x256 uint8 (255 = valid), 5x2 `landmarks` in it."""

    image: Image
    mask: Image
    landmarks: Points


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """`embeddings` is n x 128 float32, rows of length 1, made by the network whose hash is `model`."""

    name: str
    embeddings: NDArray[np.float32]
    views: Sequence[EnrolledView]
    model: str = ""


class KeyPlace(Protocol):
    """Where the key lies. All methods raise EnrolmentError where the place is locked or broken."""

    said: str

    def read(self) -> bytes | None: ...

    def write(self, key: bytes) -> None: ...

    def remove(self) -> None: ...


@dataclass(frozen=True, slots=True)
class LoadedPeople:
    """Everybody whose file could be opened, and why the others could not."""

    people: Sequence[Person]
    problems: Sequence[EnrolmentError]


class PeopleStore:
    """The files of the enrolled people. OCCLUFIX_FACES_DIR names another folder."""

    def __init__(self, folder: Path | None = None, key_place: KeyPlace | None = None) -> None:
        named = os.environ.get("OCCLUFIX_FACES_DIR")
        self.folder = folder or (Path(named) if named else platformdirs.user_data_path(APP_NAME) / "faces")
        self._given_place = key_place

    @property
    def protection(self) -> str:
        """How the faces are kept, in words for the user."""
        return self._key_place().said

    def load(self, stops: Callable[[], bool] = lambda: False) -> LoadedPeople:
        """Everybody, by name. Opens the keyring only where there is somebody. `stops` is asked before each file."""
        people: list[Person] = []
        problems: list[EnrolmentError] = []
        files = self._files()
        try:
            key = self._key_place().read() if files else None
        except EnrolmentError as error:
            return LoadedPeople((), (error,))
        for file in itertools.takewhile(lambda _: not stops(), files):
            try:
                people.append(_open(file, key))
            except EnrolmentError as error:
                problems.append(error)
        return LoadedPeople(tuple(sorted(people, key=lambda person: person.name)), tuple(problems))

    def save(self, person: Person) -> Path:
        """Writes one person, whole or not at all, over what there was under that name. Raises EnrolmentError."""
        name = checked_name(person.name)
        if not person.views:
            raise EnrolmentError(f"there is no view of {name}", "enrol with a camera or a picture")
        place = self._key_place()
        path = self._path(name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            key = place.read()
            if key is None:
                key = os.urandom(KEY_BYTES)
                place.write(key)
            write_atomically(path, _seal(person, key), mode=0o600)
        except OSError as error:
            raise EnrolmentError(f"{path} cannot be written: {error.strerror}", "mend its folder's owner") from error
        return path

    def delete(self, name: str) -> None:
        """Removes a person, and with the last one the key. Needs no key. Raises EnrolmentError: nobody of that name."""
        path = self._path(checked_name(name))
        try:
            path.unlink()
            for part in self.folder.glob(f".{path.name}.*"):  # of a write that was killed
                part.unlink(missing_ok=True)
        except FileNotFoundError:
            raise EnrolmentError(f"nobody is enrolled as {name}", "`occlufix-vcam enroll --list` names all") from None
        except OSError as error:
            raise EnrolmentError(f"{path} cannot be removed: {error.strerror}", "mend its folder's owner") from error
        if not self._files():
            self._key_place().remove()

    def stamp(self) -> int:
        """Changes whenever somebody is enrolled or deleted, by any process."""
        try:
            return self.folder.stat().st_mtime_ns
        except OSError:
            return 0

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{SUFFIX}"))

    def _path(self, name: str) -> Path:
        # A name may hold what a file's name may not, and need not be read by who lists the folder.
        return self.folder / (hashlib.sha256(name.encode()).hexdigest()[:20] + SUFFIX)

    def _key_place(self) -> KeyPlace:
        if self._given_place is not None:
            return self._given_place
        file = KeyFile(self.folder / KEY_FILE)
        # A key that lies in the file stays in use: a keyring that appears later does not lock anybody out.
        return file if file.exists() else SystemKeyring.find() or file


class PeopleWatcher:
    """The people now, for a thread that must not wait: files are read aside, and again when they change.

    `people` is cheap enough for every frame.
    """

    def __init__(self, store: PeopleStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._looked_at = float("-inf")
        self._stamp = 0
        self._reader: threading.Thread | None = None
        self._now: Sequence[Person] = ()
        self._closed = threading.Event()

    def people(self) -> Sequence[Person]:
        """Everybody, as last read; the very same object until that changes."""
        now = self._clock()
        is_free = not (self._reader and self._reader.is_alive()) and not self._closed.is_set()
        if now - self._looked_at >= LOOK_EVERY_S and is_free:
            self._looked_at = now
            stamp = self._store.stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                # A daemon thread: a keyring may ask the user and wait for him, which must not keep the process alive.
                self._reader = threading.Thread(target=self._read, name="people", daemon=True)
                self._reader.start()
        return self._now

    def wait(self, timeout: float) -> Sequence[Person]:
        """Everybody, after what is being read now."""
        self.people()
        if self._reader is not None:
            self._reader.join(timeout)
        return self._now

    def close(self) -> None:
        """Ends the reading thread. One that is still decoding while Python ends would abort the process."""
        self._closed.set()
        if self._reader is not None:
            self._reader.join(CLOSE_S)

    def _read(self) -> None:
        self._now = load_people(self._store, self._closed.is_set)


def load_people(store: PeopleStore | None = None, stops: Callable[[], bool] = lambda: False) -> Sequence[Person]:
    """Everybody who can be read; what cannot is logged and left out. Never raises for a bad file or keyring.

    `stops` is asked before each file.
    """
    loaded = (store or PeopleStore()).load(stops)
    for problem in loaded.problems:
        log.warning("%s (%s)", problem.message, problem.hint)
    return loaded.people


def checked_name(name: str) -> str:
    """`name` in its normal form. Raises EnrolmentError where it is empty, too long or unprintable."""
    normal = unicodedata.normalize("NFC", name).strip()
    if not normal or len(normal) > LONGEST_NAME or not normal.isprintable():
        raise EnrolmentError(f"{name!r} is no name", f"give one of 1 to {LONGEST_NAME} printable characters")
    return normal


# ---- the key ----


class KeyFile:
    """A file that only this user can read: all there is where the system has no keyring."""

    said = (
        "encrypted, but this system has no keyring: the key lies beside them in a file for this user only, "
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
            raise EnrolmentError(f"{self._path} cannot be read: {error.strerror}", "mend its permissions") from error
        if len(key) != KEY_BYTES:
            raise EnrolmentError(f"{self._path} is no key", "delete its folder and enrol again")
        return key

    def write(self, key: bytes) -> None:
        write_atomically(self._path, key, mode=0o600)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


class SystemKeyring:
    """The keyring of the desktop: Secret Service, KWallet, macOS Keychain, Windows Credential Locker."""

    said = "encrypted; the key lies in the system's keyring"
    _SERVICE, _USER = APP_NAME, "enrolled faces"

    def __init__(self, keyring: Any) -> None:
        self._keyring = keyring

    @classmethod
    def find(cls) -> SystemKeyring | None:
        """None where the system has no keyring, or none that is safe to use."""
        try:
            import keyring

            backend = keyring.get_keyring()
        except Exception as error:  # noqa: BLE001  a broken plug-in of a keyring raises whatever it likes
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
        except Exception as error:  # each keyring has errors of its own, D-Bus too
            raise EnrolmentError(
                f"the system's keyring does not open: {error or type(error).__name__}",
                "unlock it (log in to the desktop), then start again; until then enrolled faces are not used",
            ) from error


# ---- one person's file: MAGIC, version, nonce, then AES-GCM over a zip of arrays ----


def _seal(person: Person, key: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    views = person.views[:MOST_VIEWS]
    about = {"name": checked_name(person.name), "model": person.model}
    arrays: dict[str, Any] = {
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        "embeddings": person.embeddings.astype(np.float32),
        "landmarks": np.stack([view.landmarks for view in views]).astype(np.float32),
        **{f"view{number}": _png(np.dstack([view.image, view.mask])) for number, view in enumerate(views)},
    }
    plain = io.BytesIO()
    np.savez(plain, **arrays)
    header = MAGIC + bytes([VERSION])
    nonce = os.urandom(NONCE_BYTES)
    return header + nonce + AESGCM(key).encrypt(nonce, plain.getvalue(), header)


def _open(path: Path, key: bytes | None) -> Person:
    """Raises EnrolmentError."""
    again = "delete that file and enrol again"
    try:
        sealed = path.read_bytes()
    except OSError as error:
        raise EnrolmentError(f"{path} cannot be read: {error.strerror}", "mend its permissions") from error
    header = MAGIC + bytes([VERSION])
    if not sealed.startswith(MAGIC):
        raise EnrolmentError(f"{path} is no enrolled face", again)
    if not sealed.startswith(header):
        raise EnrolmentError(f"{path} was written by another version of this program", again)
    if key is None:
        raise EnrolmentError(f"the key to {path} is gone", again)
    return _unseal(path, sealed, header, key)


def _unseal(path: Path, sealed: bytes, header: bytes, key: bytes) -> Person:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce, rest = sealed[len(header) : len(header) + NONCE_BYTES], sealed[len(header) + NONCE_BYTES :]
    try:
        plain = AESGCM(key).decrypt(nonce, rest, header)
        with np.load(io.BytesIO(plain), allow_pickle=False) as content:
            about = json.loads(content["about"].tobytes())
            landmarks = content["landmarks"]
            pictures = [_picture(content[f"view{number}"]) for number in range(len(landmarks))]
            views = [
                EnrolledView(picture[..., :3].copy(), picture[..., 3].copy(), points)
                for picture, points in zip(pictures, landmarks, strict=True)
            ]
            return Person(str(about["name"]), content["embeddings"], views, str(about["model"]))
    except (InvalidTag, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise EnrolmentError(
            f"{path} cannot be opened: it is damaged, or was locked with another key",
            "delete that file and enrol again",
        ) from error


def _png(picture: Image) -> NDArray[np.uint8]:
    return np.asarray(cv2.imencode(".png", picture)[1], np.uint8).reshape(-1)


def _picture(encoded: NDArray[np.uint8]) -> Image:
    picture = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if picture is None or picture.shape != (CROP_PX, CROP_PX, 4):
        raise ValueError("no view")
    return np.asarray(picture, np.uint8)
