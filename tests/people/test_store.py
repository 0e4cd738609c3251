"""Enrolled people: kept whole, for this user only; what is damaged, foreign or locked is named and left out."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE
from occlufix_vcam.people.keys import KeyFile, SystemKeyring
from occlufix_vcam.people.person import EnrolledView, EnrollmentError, Person
from occlufix_vcam.people.sealed import MAGIC, MOST_LUMA_PX, MOST_VIEWS, NONCE_BYTES, UNBOUND_VERSION, VERSION
from occlufix_vcam.people.store import LOCK_FILE, PeopleStore, load_people
from occlufix_vcam.people.watcher import PeopleWatcher


class Keyring:
    """A keyring in memory; `locked` makes it refuse."""

    priority = 5

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, user: str) -> str | None:
        self._open()
        return self.held.get((service, user))

    def set_password(self, service: str, user: str, password: str) -> None:
        self._open()
        self.held[service, user] = password

    def delete_password(self, service: str, user: str) -> None:
        self._open()
        del self.held[service, user]

    def _open(self) -> None:
        if self.locked:
            raise RuntimeError("the collection is locked")


def somebody(name: str = "Zoë", seed: int = 0, views: int = 2) -> Person:
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(views, 128)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    shown = [
        EnrolledView(
            rng.integers(0, 256, (CROP_PX, CROP_PX, 3), dtype=np.uint8),
            rng.choice(np.array([0, 255], np.uint8), (CROP_PX, CROP_PX)),
            TEMPLATE + rng.normal(size=(5, 2)).astype(np.float32),
        )
        for _ in range(views)
    ]
    return Person(name, embeddings, shown, "a network")


@pytest.fixture
def store(tmp_path: Path) -> PeopleStore:
    return PeopleStore(tmp_path / "faces", KeyFile(tmp_path / "faces" / "key"))


def only_file(store: PeopleStore) -> Path:
    (file,) = store.folder.glob("*.face")
    return file


def names(store: PeopleStore) -> set[str]:
    """Suffixes, or names without one, of what is in the folder beside the lock."""
    return {file.suffix or file.name for file in store.folder.iterdir() if file.name != LOCK_FILE}


def test_a_person_comes_back_as_he_was(store: PeopleStore) -> None:
    person = somebody()
    store.save(person)
    (back,) = store.load().people
    assert back.name == "Zoë" and back.model == "a network"
    np.testing.assert_array_equal(back.embeddings, person.embeddings)
    for view, kept in zip(person.views, back.views, strict=True):
        np.testing.assert_array_equal(view.image, kept.image)
        np.testing.assert_array_equal(view.mask, kept.mask)
        np.testing.assert_array_equal(view.landmarks, kept.landmarks)


def test_detail_comes_back_and_files_without_it_are_read(store: PeopleStore) -> None:
    person = somebody()
    luma = np.random.default_rng(2).integers(0, 256, (500, 500), dtype=np.uint8)
    fine, plain = person.views
    store.save(replace(person, views=(replace(fine, luma=luma), plain)))
    (back,) = store.load().people
    assert back.views[0].luma is not None and back.views[1].luma is None
    np.testing.assert_array_equal(back.views[0].luma, luma)


def test_a_file_of_a_dozen_large_views_is_bounded(store: PeopleStore) -> None:
    luma = np.random.default_rng(2).integers(0, 256, (MOST_LUMA_PX, MOST_LUMA_PX), dtype=np.uint8)
    person = somebody(views=MOST_VIEWS)
    path = store.save(replace(person, views=[replace(view, luma=luma) for view in person.views]))
    assert path.stat().st_size < 11_000_000


def test_the_same_name_written_otherwise_is_the_same_person(store: PeopleStore) -> None:
    store.save(somebody("Zoë"))
    store.save(somebody("Zoe\u0308 ", seed=1))
    assert len(store.load().people) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_files_are_for_this_user_alone_and_show_no_name(store: PeopleStore) -> None:
    store.save(somebody("Longername"))
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in store.folder.iterdir())
    assert b"Longer" not in only_file(store).read_bytes() and "Longer" not in only_file(store).name


def test_pixels_are_not_readable_without_the_key(store: PeopleStore) -> None:
    store.save(somebody())
    assert b"\x89PNG\r\n\x1a\n" not in only_file(store).read_bytes()  # three letters alone are there by chance
    PeopleStore(store.folder, KeyFile(store.folder / "key")).load()
    (store.folder / "key").unlink()
    loaded = store.load()
    assert not loaded.people and "key" in loaded.problems[0].message


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:-40], "damaged"),
        (lambda data: data[:20], "damaged"),
        (lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:], "damaged"),
        (lambda data: b"", "not an enrolled face"),
        (lambda data: b"\x89PNG" + data, "not an enrolled face"),
        (lambda data: data[:13] + b"\x09" + data[14:], "another version"),
    ],
)
def test_a_bad_file_is_named_and_the_others_are_read(store: PeopleStore, damage, said: str) -> None:  # type: ignore[no-untyped-def]
    store.save(somebody("Ann"))
    file = only_file(store)
    store.save(somebody("Bob"))
    file.write_bytes(damage(file.read_bytes()))
    loaded = store.load()
    assert [person.name for person in loaded.people] == ["Bob"]
    (problem,) = loaded.problems
    assert said in problem.message and str(file) in problem.message and problem.hint
    assert [person.name for person in load_people(store)] == ["Bob"]


def test_a_file_locked_with_another_key_is_refused(store: PeopleStore, tmp_path: Path) -> None:
    elsewhere = PeopleStore(tmp_path / "elsewhere", KeyFile(tmp_path / "elsewhere" / "key"))
    elsewhere.save(somebody("Ann"))
    store.save(somebody("Bob"))
    only_file(elsewhere).rename(store.folder / only_file(elsewhere).name)
    loaded = store.load()
    assert [person.name for person in loaded.people] == ["Bob"]
    assert "another key" in loaded.problems[0].message


def test_the_key_lies_in_the_keyring_where_there_is_one(tmp_path: Path) -> None:
    keyring = Keyring()
    store = PeopleStore(tmp_path / "faces", SystemKeyring(keyring))
    store.save(somebody())
    assert [len(bytes.fromhex(key)) for key in keyring.held.values()] == [32]
    assert names(store) == {".face"}
    assert len(store.load().people) == 1
    assert "keyring" in store.protection and "no keyring" not in store.protection


def test_a_locked_keyring_is_an_error_and_nobody_is_read(tmp_path: Path) -> None:
    keyring = Keyring()
    store = PeopleStore(tmp_path / "faces", SystemKeyring(keyring))
    store.save(somebody())
    keyring.locked = True
    (problem,) = store.load().problems
    assert "keyring does not open" in problem.message and "unlock" in problem.hint
    assert load_people(store) == ()
    with pytest.raises(EnrollmentError, match="keyring"):
        store.save(somebody("Bob"))
    assert names(store) == {".face"}


def test_without_a_keyring_the_user_is_told(tmp_path: Path) -> None:
    assert "no keyring" in PeopleStore(tmp_path, KeyFile(tmp_path / "key")).protection


def test_the_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCCLUFIX_FACES_DIR", str(tmp_path / "here"))
    assert PeopleStore().folder == tmp_path / "here"
    assert PeopleStore().load().people == ()


def test_deleted_means_gone(store: PeopleStore) -> None:
    store.save(somebody("Ann"))
    store.save(somebody("Bob"))
    (store.folder / f".{store._path('Ann').name}.123.part").write_bytes(b"left by a write that was killed")
    store.delete("Ann")
    assert [person.name for person in store.load().people] == ["Bob"]
    assert names(store) == {"key", ".face"}
    store.delete("Bob")
    assert not names(store)


def test_the_last_one_takes_the_key_along(tmp_path: Path) -> None:
    keyring = Keyring()
    store = PeopleStore(tmp_path / "faces", SystemKeyring(keyring))
    store.save(somebody())
    store.delete("Zoë")
    assert not keyring.held


def test_a_damaged_person_can_be_deleted(store: PeopleStore) -> None:
    store.save(somebody("Ann"))
    only_file(store).write_bytes(b"rubbish")
    store.delete("Ann")
    assert not names(store)


def test_a_copy_of_the_file_goes_too(store: PeopleStore) -> None:
    store.save(somebody("Ann"))
    store.save(somebody("Bob"))
    ann = store._path("Ann")
    (store.folder / "backup.face").write_bytes(ann.read_bytes())
    store.delete("Ann")
    assert [file for file in store.folder.glob("*.face")] == [store._path("Bob")]


def test_no_file_can_take_the_place_of_another(store: PeopleStore) -> None:
    store.save(somebody("Ann"))
    store.save(somebody("Bob", seed=1))
    store._path("Ann").replace(store._path("Bob"))
    loaded = store.load()
    assert not loaded.people and "renamed" in loaded.problems[0].message


def test_a_file_of_the_version_before_is_read_and_bound_when_it_is_written(store: PeopleStore) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    path = store.save(somebody("Ann"))
    key = (store.folder / "key").read_bytes()
    sealed = path.read_bytes()
    new, old = MAGIC + bytes([VERSION]), MAGIC + bytes([UNBOUND_VERSION])
    nonce, rest = sealed[len(new) : len(new) + NONCE_BYTES], sealed[len(new) + NONCE_BYTES :]
    plain = AESGCM(key).decrypt(nonce, rest, new + path.name.encode())
    path.write_bytes(old + nonce + AESGCM(key).encrypt(nonce, plain, old))
    (ann,) = store.load().people
    store.save(ann)
    assert ann.name == "Ann" and path.read_bytes().startswith(new)


def test_two_who_are_enrolled_at_once_are_both_kept(tmp_path: Path) -> None:
    for run in range(8):
        folder = tmp_path / str(run)
        stores = [PeopleStore(folder, KeyFile(folder / "key")) for _ in range(2)]
        both = threading.Barrier(2)

        def enroll(store: PeopleStore, name: str, both: threading.Barrier = both) -> None:
            person = somebody(name)
            both.wait()
            store.save(person)

        threads = [threading.Thread(target=enroll, args=pair) for pair in zip(stores, ("Ann", "Bob"), strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [person.name for person in stores[0].load().people] == ["Ann", "Bob"]


def test_a_name_with_a_slash_comes_and_goes(store: PeopleStore) -> None:
    store.save(somebody("Ann/Bob"))
    assert store.has("Ann/Bob")
    store.delete("Ann/Bob")
    assert not store.has("Ann/Bob") and not names(store)


def test_nobody_cannot_be_deleted(store: PeopleStore) -> None:
    with pytest.raises(EnrollmentError, match="no one is enrolled as Ann"):
        store.delete("Ann")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 65])
def test_a_name_that_will_not_do_is_refused(store: PeopleStore, name: str) -> None:
    with pytest.raises(EnrollmentError, match="not a valid name"):
        store.save(replace(somebody(), name=name))


def test_a_write_that_fails_leaves_what_was_there(store: PeopleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(somebody(seed=1))
    before = only_file(store).read_bytes()

    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(EnrollmentError, match="No space left"):
        store.save(somebody(seed=2))
    assert only_file(store).read_bytes() == before and names(store) == {"key", ".face"}


def test_a_change_on_disk_is_seen_without_a_restart(store: PeopleStore) -> None:
    now = [0.0]
    enrolled = PeopleWatcher(store, clock=lambda: now[0])
    assert enrolled.wait(5) == ()
    store.save(somebody("Ann"))
    assert enrolled.people() == ()  # not looked at again yet
    now[0] = 2.0
    (ann,) = enrolled.wait(5)
    assert ann.name == "Ann" and enrolled.people()[0] is ann
    store.delete("Ann")
    now[0] = 4.0
    assert enrolled.wait(5) == ()


def test_a_keyring_that_asks_the_user_holds_nobody_up(tmp_path: Path) -> None:
    asked, answered = threading.Event(), threading.Event()

    class Asking(Keyring):
        def get_password(self, service: str, user: str) -> str | None:
            if threading.current_thread() is not threading.main_thread():
                asked.set()
                assert answered.wait(5)
            return super().get_password(service, user)

    store = PeopleStore(tmp_path / "faces", SystemKeyring(Asking()))
    store.save(somebody("Ann"))
    enrolled = PeopleWatcher(store)
    assert enrolled.people() == ()
    assert asked.wait(5)
    assert enrolled.people() == ()
    answered.set()
    assert [person.name for person in enrolled.wait(5)] == ["Ann"]


def test_one_view_is_deleted_and_with_the_last_the_person(store: PeopleStore) -> None:
    person = somebody(views=3)
    store.save(person)
    first, second, third = (view.id for view in person.views)
    store.delete_view(person.name, second)
    (left,) = store.load().people
    assert [view.id for view in left.views] == [first, third]
    assert np.array_equal(left.embeddings, person.embeddings[[0, 2]])
    with pytest.raises(EnrollmentError, match="no such view"):
        store.delete_view(person.name, second)
    store.delete_view(person.name, first)
    store.delete_view(person.name, third)
    assert store.load().people == ()
