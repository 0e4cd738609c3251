"""People who enrolled: their own unhidden faces, kept on this machine only, encrypted, for this user alone.

A file for each person in the user's data directory (0700, files 0600). The key lies in the system's keyring; where
there is none it lies beside the files, which keeps out other users but no program of the same user, and is said so.
A file that cannot be opened is named and left out: everything else goes on.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from occlufix_vcam import APP_NAME
from occlufix_vcam.core.files import write_atomically
from occlufix_vcam.people.keys import KEY_BYTES, KeyFile, KeyPlace, SystemKeyring
from occlufix_vcam.people.person import EnrolmentError, Person, checked_name
from occlufix_vcam.people.sealed import open_sealed, seal

log = logging.getLogger(__name__)

SUFFIX = ".face"
#: With the key in a file there is a file more than people.
KEY_FILE = "key"


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
                people.append(open_sealed(file, key))
            except EnrolmentError as error:
                problems.append(error)
        return LoadedPeople(tuple(sorted(people, key=lambda person: person.name)), tuple(problems))

    def save(self, person: Person) -> Path:
        """Writes one person, whole or not at all, over any earlier one of that name. Raises EnrolmentError."""
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
            write_atomically(path, seal(person, key), mode=0o600)
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


def load_people(store: PeopleStore | None = None, stops: Callable[[], bool] = lambda: False) -> Sequence[Person]:
    """Everybody who can be read; what cannot is logged and left out. Never raises for a bad file or keyring.

    `stops` is asked before each file.
    """
    loaded = (store or PeopleStore()).load(stops)
    for problem in loaded.problems:
        log.warning("%s (%s)", problem.message, problem.hint)
    return loaded.people
