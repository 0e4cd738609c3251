"""Enrolling from photographs: what cannot be used is skipped with a reason, and the rest is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE, Image
from occlufix_vcam.core.errors import DeviceError
from occlufix_vcam.core.frame import Crop, FaceTrack, Frame, HiddenCrop
from occlufix_vcam.enrollment.collector import LEAST_ALIKE, ViewCollector, most_varied
from occlufix_vcam.enrollment.photographs import enroll_from_photographs
from occlufix_vcam.people.keys import KeyFile
from occlufix_vcam.people.person import EnrollmentError
from occlufix_vcam.people.store import PeopleStore
from occlufix_vcam.stages.embed import Embedding


class Album:
    """Photographs whose top row says what the fakes see: faces, the person's angle to Ann, and the head's turn."""

    model = "fake"
    same_person = 0.9

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.collector = ViewCollector(self, self.see_hidden, self)
        self._rng = np.random.default_rng(0)

    def picture(self, name: str, degrees: int = 0, faces: int = 1, turn: int = 0) -> Path:
        """A new photograph of someone whose embedding lies `degrees` from Ann's."""
        noise = self._rng.integers(40, 216, (130, 130, 3), dtype=np.uint8)
        image = cv2.resize(noise, (520, 520), interpolation=cv2.INTER_LINEAR)
        image[0, :3, 0] = faces, degrees, turn + 100
        image[200:280, 200:280] = degrees  # inside the crop, for the embedder
        path = self.folder / name
        cv2.imwrite(str(path), image)
        return path

    def __call__(self, *seen: object) -> object:
        return self._find(seen[0]) if isinstance(seen[0], Frame) else self._embed(*seen)  # type: ignore[arg-type]

    def _find(self, frame: Frame) -> Sequence[FaceTrack]:
        faces, _, turn = (int(value) for value in frame.image[0, :3, 0])
        landmarks = TEMPLATE.copy()
        landmarks[2, 0] += (turn - 100) / 100 * 76.8
        return [FaceTrack(1, landmarks + 60, 1.0)] * faces

    def _embed(self, crop: Crop, mask: Image) -> Embedding:
        angle = np.radians(float(np.median(crop.image[150:200, 150:200])))
        vector = np.zeros(128, np.float32)
        vector[:2] = np.cos(angle), np.sin(angle)
        return vector

    def see_hidden(self, crop: Crop) -> HiddenCrop:
        return HiddenCrop.of_template(crop, np.zeros((CROP_PX, CROP_PX), np.uint8), 0.0)

    def reset(self) -> None:
        """Keeps nothing between photographs."""

    def close(self) -> None:
        """Holds nothing."""


@pytest.fixture
def album(tmp_path: Path) -> Album:
    (tmp_path / "album").mkdir()
    return Album(tmp_path / "album")


@pytest.fixture
def store(tmp_path: Path) -> PeopleStore:
    return PeopleStore(tmp_path / "faces", KeyFile(tmp_path / "faces" / "key"))


def test_a_folder_is_used_but_for_what_is_unsuitable(album: Album, store: PeopleStore) -> None:
    first = album.picture("1.png")
    album.picture("2.png", degrees=40)
    cv2.imwrite(str(album.folder / "again.webp"), cv2.imread(str(first)), [cv2.IMWRITE_WEBP_QUALITY, 101])
    album.picture("nobody.png", faces=0)
    album.picture("party.png", faces=3)
    (album.folder / "notes.txt").write_text("no picture")
    (album.folder / ".hidden").write_text("not looked at")
    report = enroll_from_photographs("Ann", [album.folder], album.collector, store)
    why = {file.name: reason for file, reason in report.skipped}
    assert report.used == 2 and len(store.load().people[0].views) == 2
    assert set(why) == {"again.webp", "nobody.png", "party.png", "notes.txt"}
    assert "already given" in why["again.webp"] and "no face" in why["nobody.png"] and "3 faces" in why["party.png"]
    assert report.missing == ["left", "right"]


def test_light_and_pose_do_not_make_another_person(album: Album, store: PeopleStore) -> None:
    """Views 60 degrees apart, far below what naming requires, are one person's."""
    files = [album.picture(f"{number}.png", degrees=angle) for number, angle in enumerate((0, 60, 30))]
    assert enroll_from_photographs("Ann", files, album.collector, store).used == 3


def test_another_person_among_them_is_left_out(album: Album, store: PeopleStore) -> None:
    files = [album.picture("1.png"), album.picture("bob.png", degrees=90), album.picture("2.png", degrees=10)]
    report = enroll_from_photographs("Ann", files, album.collector, store)
    assert [file.name for file, _ in report.skipped] == ["bob.png"] and "another person" in report.skipped[0][1]
    (ann,) = store.load().people
    assert len(ann.views) == len(ann.embeddings) == 2
    assert float(ann.embeddings[0] @ ann.embeddings[1]) > LEAST_ALIKE


def test_poses_that_are_there_are_not_missing(album: Album, store: PeopleStore) -> None:
    files = [album.picture(f"{turn}.png", turn=turn) for turn in (-20, 0, 20)]
    assert enroll_from_photographs("Ann", files, album.collector, store).missing == []


@pytest.mark.parametrize(("faces", "said"), [(0, "shows no face"), (3, "shows 3 faces")])
def test_one_picture_that_cannot_be_used_is_an_error(album: Album, store: PeopleStore, faces: int, said: str) -> None:
    with pytest.raises(EnrollmentError, match=said) as told:
        enroll_from_photographs("Ann", [album.picture("party.png", faces=faces)], album.collector, store)
    assert "party.png" in told.value.message and told.value.hint
    assert not store.load().people


def test_many_that_cannot_be_used_are_one_error(album: Album, store: PeopleStore) -> None:
    files = [album.picture(f"{number}.png", faces=0) for number in range(3)]
    with pytest.raises(EnrollmentError, match=r"none of 3 pictures.*0\.png"):
        enroll_from_photographs("Ann", files, album.collector, store)


def test_a_file_that_is_not_there_and_an_empty_folder_are_errors(album: Album, store: PeopleStore) -> None:
    with pytest.raises(DeviceError, match="no image"):
        enroll_from_photographs("Ann", [album.folder / "nowhere.png"], album.collector, store)
    with pytest.raises(EnrollmentError, match="holds no pictures"):
        enroll_from_photographs("Ann", [album.folder], album.collector, store)


def test_of_many_views_the_most_varied_are_kept() -> None:
    angles = np.radians([0, 1, 2, 3, 45, 90])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert most_varied(embeddings, 3) == [0, 4, 5]
    assert most_varied(embeddings, 9) == list(range(6))
