"""Enrolled people: their unhidden faces, stored encrypted on this machine, for this user only.

One file per person in the user's data directory (0700, files 0600). The key is in the system's keyring; if there is
none, it is stored beside the files, which keeps out other users but not programs of the same user, and the user is told
so. A file that cannot be opened is reported and skipped; the others still load.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs

from occlufix_vcam import APP_NAME
from occlufix_vcam.core.files import sync_folder, write_atomically
from occlufix_vcam.core.folders import UserFolder
from occlufix_vcam.people.keys import KEY_BYTES, KeyFile, KeyPlace, SystemKeyring
from occlufix_vcam.people.person import EnrolledView, EnrollmentError, Person, checked_name
from occlufix_vcam.people.sealed import open_sealed, seal

log = logging.getLogger(__name__)

SUFFIX = ".face"
KEY_FILE = "key"
LOCK_FILE = ".lock"
#: Nobody holds the lock longer than one save, which may wait for the user to unlock the keyring.
LOCK_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class LoadedPeople:
    """Everyone whose file could be opened, and why the others could not."""

    people: Sequence[Person]
    problems: Sequence[EnrollmentError]


class PeopleStore:
    """Files of the enrolled people. OCCLUFIX_FACES_DIR names another folder."""

    def __init__(self, folder: Path | None = None, key_place: KeyPlace | None = None) -> None:
        named = os.environ.get("OCCLUFIX_FACES_DIR")
        self.folder = folder or (Path(named) if named else platformdirs.user_data_path(APP_NAME) / "faces")
        self._user_folder = UserFolder("folder of enrolled faces", self.folder, "OCCLUFIX_FACES_DIR")
        self._given_place = key_place

    @property
    def protection(self) -> str:
        """How the faces are protected, in words for the user."""
        return self._key_place().said

    def load(self, stops: Callable[[], bool] = lambda: False) -> LoadedPeople:
        """Everyone, by name. Opens the keyring only if anyone is enrolled. `stops` is called before each file."""
        people: list[Person] = []
        problems: list[EnrollmentError] = []
        files = self._files()
        try:
            key = self._key_place().read() if files else None
        except EnrollmentError as error:
            return LoadedPeople((), (error,))
        for file in itertools.takewhile(lambda _: not stops(), files):
            try:
                people.append(open_sealed(file, key))
            except EnrollmentError as error:
                problems.append(error)
        return LoadedPeople(tuple(sorted(people, key=lambda person: person.name)), tuple(problems))

    def has(self, name: str) -> bool:
        """Whether a person of this name is enrolled. Needs no key. Raises EnrollmentError for an invalid name."""
        return self._path(checked_name(name)).exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes and threads from changing anyone. Nested use is fine. Raises EnrollmentError."""
        import filelock

        try:
            self._user_folder.prepare()
            lock = filelock.FileLock(self.folder / LOCK_FILE, mode=0o600, is_singleton=True, thread_local=True)
            lock.acquire(timeout=LOCK_PATIENCE_S)
        except OSError as error:
            raise self._unusable(error) from error
        except filelock.Timeout:
            raise EnrollmentError(
                f"another program is changing {self.folder}", "finish the other enrollment, then try again"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def save(self, person: Person) -> Path:
        """Writes one person completely or not at all, replacing an earlier one of that name. Raises EnrollmentError."""
        name = checked_name(person.name)
        if not person.views:
            raise EnrollmentError(f"there is no view of {name}", "enroll with a camera or an image")
        place = self._key_place()
        path = self._path(name)
        with self.locked():
            try:
                key = place.read()
                if key is None:
                    key = os.urandom(KEY_BYTES)
                    place.write(key)
                write_atomically(path, seal(person, key, path.name), mode=0o600, durable=True)
            except OSError as error:
                raise self._unusable(error) from error
        return path

    def delete(self, name: str) -> None:
        """Deletes a person, and with the last one the key. Raises EnrollmentError for an unknown name.

        Copies of the file under other names go as well, as far as the key is there to open them.
        """
        name = checked_name(name)
        path = self._path(name)
        if not self.folder.is_dir():
            raise self._unknown(name)
        with self.locked():
            files = [file for file in self._files() if file == path or self._is_copy(file, name)]
            if not files:
                raise self._unknown(name)
            try:
                for file in (*files, *self.folder.glob(f".{path.name}.*")):  # also left by a killed write
                    file.unlink(missing_ok=True)
                sync_folder(self.folder)
            except OSError as error:
                raise self._unusable(error) from error
            if not self._files():
                self._key_place().remove()

    def find_view(self, name: str, view_id: str) -> EnrolledView:
        """Raises EnrollmentError for a view or name that there is not."""
        for view in self.find(name).views:
            if view.id == view_id:
                return view
        raise EnrollmentError(f"{name} has no such view", "look at the list again")

    def delete_view(self, name: str, view_id: str) -> None:
        """Deletes one view, and with the last one the person. Raises EnrollmentError."""
        with self.locked():
            self.find_view(name, view_id)
            person = self.find(name)
            kept = [number for number, view in enumerate(person.views) if view.id != view_id]
            if not kept:
                self.delete(name)
                return
            views = tuple(person.views[number] for number in kept)
            self.save(replace(person, views=views, embeddings=person.embeddings[kept]))

    def find(self, name: str) -> Person:
        """The person of that name. Raises EnrollmentError."""
        name = checked_name(name)
        found = next((person for person in self.load().people if person.name == name), None)
        if found is None:
            raise self._unknown(name)
        return found

    def _is_copy(self, file: Path, name: str) -> bool:
        """Whether `file` opens and shows the person of this name."""
        try:
            return open_sealed(file, self._key_place().read(), self._path(name).name).name == name
        except EnrollmentError:
            return False

    def _unusable(self, error: OSError) -> EnrollmentError:
        told = self._user_folder.unusable(error)
        return EnrollmentError(told.message, told.hint)

    def check(self) -> None:
        """Raises ConfigError if the folder is there and cannot be used."""
        self._user_folder.check()

    @staticmethod
    def _unknown(name: str) -> EnrollmentError:
        return EnrollmentError(f"no one is enrolled as {name}", "run `occlufix-vcam enroll --list` to see the names")

    def stamp(self) -> int:
        """Value that changes whenever any process enrolls or deletes a person."""
        try:
            return self.folder.stat().st_mtime_ns
        except OSError:
            return 0

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{SUFFIX}"))

    def _path(self, name: str) -> Path:
        # A name may contain what a file name may not, and a folder listing must not reveal it.
        return self.folder / (hashlib.sha256(name.encode()).hexdigest()[:20] + SUFFIX)

    def _key_place(self) -> KeyPlace:
        if self._given_place is not None:
            return self._given_place
        file = KeyFile(self.folder / KEY_FILE)
        # A key file stays in use: a keyring that appears later does not lock anyone out.
        return file if file.exists() else SystemKeyring.find() or file


def load_people(store: PeopleStore | None = None, stops: Callable[[], bool] = lambda: False) -> Sequence[Person]:
    """Everyone who can be read; others are logged and skipped. Never raises for a bad file or keyring.

    `stops` is called before each file.
    """
    loaded = (store or PeopleStore()).load(stops)
    for problem in loaded.problems:
        log.warning("%s (%s)", problem.message, problem.hint)
    return loaded.people
