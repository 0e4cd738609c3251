"""Where pictures to train on come from: CelebA as downloaded, any folder of pictures, a set already in the template.

A source lists its pictures, each person's together, and gives the faces of one of them, aligned. What is wrong with a
picture is a BrokenPicture: it is skipped, counted and named. What is wrong with the whole source is a DataError.
"""

from __future__ import annotations

import hashlib
import re
import threading
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

import engines
from engines.contract import CLOSE_UP_SIZE, CROP_PX, EYE_DISTANCE_PX, SEARCH_SIZE, Image, Points, similarity
from engines.contract import transform_points as moved
from engines.faces_maps import Detection, TwoPassDetector
from train.data.face_set import DataError, FaceSet, valid_mask
from train.data.shards import EncodedFace

SPLITS = ("train", "valid", "eval")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
#: A face is enlarged this far into the template and no further: beyond, there is nothing to learn from.
MOST_ENLARGED = 2.5
#: Less of the crop inside the photograph than this is no picture of a face.
LEAST_VALID = 0.5
_QUALITY = [cv2.IMWRITE_WEBP_QUALITY, 92]
_FACES_IN_A_PICTURE = 12


class BrokenPicture(Exception):
    """Why a picture, or a face in it, can't be used."""


@dataclass(frozen=True)
class ImportedPicture:
    """One picture of a source: its name there, which split it is in, whose it is, and its landmarks if known."""

    name: str
    split: str
    identity: str | None = None
    landmarks: Points | None = None


class PictureSource(Protocol):
    """`pictures` have those of one person in a split next to each other."""

    name: str
    pictures: Sequence[ImportedPicture]

    def faces(self, picture: ImportedPicture) -> list[EncodedFace]:
        """The aligned faces of a picture; may be called by several threads. Raises BrokenPicture."""
        ...


def align(image: Image, landmarks: Points) -> tuple[Image, Points]:
    """The 256x256 crop of a face, and its `valid_quad`: the photograph's corners in the crop. Raises BrokenPicture."""
    try:
        matrix = similarity(landmarks.astype(np.float32))
    except ValueError as error:
        raise BrokenPicture("its landmarks are no face") from error
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale > MOST_ENLARGED:
        raise BrokenPicture(f"the face is too small: {EYE_DISTANCE_PX / scale:.0f} pixels from eye to eye")
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    quad = moved(corners, matrix)
    if scale < 0.5:  # shrinking far at once would alias
        size = max(1, round(width * scale * 1.5)), max(1, round(height * scale * 1.5))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        factor = np.array([width / image.shape[1], height / image.shape[0]], np.float32)
        matrix = matrix.copy()
        matrix[:, 2] += matrix[:, :2] @ (factor / 2 - 0.5)  # middles of pixels coincide, not their corners
        matrix[:, :2] *= factor
    crop = cv2.warpAffine(
        image,
        matrix,
        (CROP_PX, CROP_PX),
        flags=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    inside = np.zeros((CROP_PX, CROP_PX), np.uint8)
    cv2.fillConvexPoly(inside, np.round(quad).astype(np.int32), 1)
    if inside.mean() < LEAST_VALID:
        raise BrokenPicture("most of the face lies outside of the picture")
    return crop, quad


def encoded_face(image: Image, landmarks: Points, name: str, identity: str | None, origin: str) -> EncodedFace:
    """A face aligned and encoded. Raises BrokenPicture."""
    crop, quad = align(image, landmarks)
    points = moved(landmarks, similarity(landmarks.astype(np.float32)))
    facts = {
        "file": name,
        "identity": identity,
        "origin": origin,
        "landmarks": np.round(points, 2).tolist(),
        "valid_quad": np.round(quad, 1).tolist(),
    }
    return EncodedFace("webp", cv2.imencode(".webp", crop, _QUALITY)[1].tobytes(), facts)


class CelebA:
    """CelebA's aligned and cropped pictures with its official split, landmarks and identities.

    `folder` holds `img_align_celeba` (a folder, or the zip as it was downloaded) and the three lists, as .txt or .csv.
    With `partial`, pictures that the lists name and that are not there are left out; else they are an error.
    """

    name = "celeba"
    _PARTITIONS: Mapping[str, str] = {"0": "train", "1": "valid", "2": "eval"}

    def __init__(self, folder: Path, partial: bool = False) -> None:
        lists = {name: _list_file(folder, name) for name in ("list_eval_partition", "list_landmarks_align_celeba")}
        identities = _list_file(folder, "identity_CelebA")
        self._files = _Files(folder, "img_align_celeba")
        missing = [name for name, file in (lists | {"identity_CelebA": identities}).items() if file is None]
        if missing or not self._files.names:
            names = ", ".join([f"{name}.txt" for name in missing] + ["img_align_celeba"] * (not self._files.names))
            raise DataError(f"{folder} is not CelebA as downloaded: no {names}; unpack the whole download there")
        splits = {name: values[0] for name, values in _read_list(lists["list_eval_partition"], 1).items()}
        points = _read_list(lists["list_landmarks_align_celeba"], 10)
        people = {name: values[0] for name, values in _read_list(identities, 1).items()}
        present = [name for name in splits if name in self._files.names]
        if len(present) < len(splits) and not partial:
            raise DataError(
                f"img_align_celeba in {folder} has {len(present):,} of {len(splits):,} pictures: it is half unpacked; "
                "unpack it again, or take what is present with --partial"
            )
        unknown = [name for name in present if name not in points or name not in people]
        if unknown:
            raise DataError(f"CelebA's lists in {folder} know nothing of {unknown[0]}; download them again")
        self.pictures = sorted(
            (
                ImportedPicture(name, self._split(splits[name]), f"celeba{people[name]}", _in_order(points[name]))
                for name in present
            ),
            key=lambda picture: (SPLITS.index(picture.split), str(picture.identity), picture.name),
        )

    def faces(self, picture: ImportedPicture) -> list[EncodedFace]:
        assert picture.landmarks is not None
        image = _decoded(self._files.read(picture.name))
        return [encoded_face(image, picture.landmarks, f"celeba/{picture.name}", picture.identity, self.name)]

    def _split(self, number: str) -> str:
        try:
            return self._PARTITIONS[number]
        except KeyError:
            raise DataError(f"list_eval_partition names a part {number}; there are 0, 1 and 2") from None


class PictureFolder:
    """Any pictures, in sub-folders too; faces are found by the product's own finder.

    With `people` each sub-folder holds pictures of one person. A share `held_out` of the people (else of the pictures)
    is kept for evaluation, the same ones each time.
    """

    def __init__(self, folder: Path, people: bool = False, held_out: float = 0.03) -> None:
        self._folder = folder
        self.name = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_") or "pictures"
        names = [path.relative_to(folder).as_posix() for path in picture_files(folder)]
        self.pictures = sorted(
            (self._picture(name, people, held_out) for name in names),
            key=lambda picture: (SPLITS.index(picture.split), picture.identity or "", picture.name),
        )
        self._finder = PictureFaceFinder()

    def faces(self, picture: ImportedPicture) -> list[EncodedFace]:
        image = _decoded((self._folder / picture.name).read_bytes())
        finds = self._finder(image)
        if picture.identity is not None:  # a face in the background is another person
            finds = sorted(finds, key=lambda find: -_height(find))[:1]
        faces, reason = [], "no face was found in it"
        for number, find in enumerate(finds):
            try:
                name = f"{self.name}/{picture.name}" + (f"#{number}" if number else "")
                faces.append(encoded_face(image, find.landmarks, name, picture.identity, self.name))
            except BrokenPicture as error:
                reason = str(error)
        if not faces:
            raise BrokenPicture(reason)
        return faces

    def _picture(self, name: str, people: bool, held_out: float) -> ImportedPicture:
        parent = Path(name).parent.as_posix()
        identity = f"{self.name}/{parent}" if people and parent != "." else None
        dice = int(hashlib.sha256((identity or name).encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
        return ImportedPicture(name, "eval" if dice < held_out else "train", identity)


class TemplateSet:
    """A folder that FaceSet reads: its pictures are taken as they are, byte for byte."""

    name = "template"

    def __init__(self, data: Path) -> None:
        self._sets = {split: FaceSet(data, split) for split in ("train", "eval")}
        self._places = {
            (split, row.file): index for split, faces in self._sets.items() for index, row in enumerate(faces.rows)
        }
        self._lock = threading.Lock()  # a zip file is read by one thread at a time
        self.pictures = [
            ImportedPicture(row.file, split, row.identity, row.landmarks)
            for split, faces in self._sets.items()
            for row in sorted(faces.rows, key=lambda row: (row.identity or "", row.file))
        ]

    def faces(self, picture: ImportedPicture) -> list[EncodedFace]:
        faces = self._sets[picture.split]
        index = self._places[picture.split, picture.name]
        row = faces.rows[index]
        try:
            with self._lock:
                content = faces.encoded(index)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise BrokenPicture("it is not where its index says") from error
        if _decoded(content).shape != (CROP_PX, CROP_PX, 3):
            raise BrokenPicture(f"it is not {CROP_PX}x{CROP_PX}")
        if not valid_mask(row).any():
            raise BrokenPicture("nothing of it lies inside its photograph")
        facts = {
            "file": row.file,
            "identity": row.identity,
            "origin": row.origin,
            "landmarks": row.landmarks.tolist(),
            "valid_quad": row.valid_quad.tolist(),
        }
        return [EncodedFace(Path(row.file).suffix.lstrip(".") or "webp", content, facts)]


class PictureFaceFinder:
    """The `faces` network that ships, for whole pictures; one picture at a time, from any thread."""

    def __init__(self) -> None:
        try:
            search, close_up = (
                engines.load("faces", engines.EngineOptions(input_shapes={"frame": (1, *size, 3)}, threads=1))
                for size in (SEARCH_SIZE, CLOSE_UP_SIZE)
            )
        except engines.EngineError as error:
            raise DataError(f"faces can't be found: {error.message}. {error.hint}") from error
        self._reader = TwoPassDetector(
            lambda frame: search.run({"frame": frame}), lambda frame: close_up.run({"frame": frame})
        )
        self._lock = threading.Lock()

    def __call__(self, image: Image) -> list[Detection]:
        """The faces of a picture, best first."""
        with self._lock:
            return self._reader.find(image, limit=_FACES_IN_A_PICTURE)


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a folder and of those in it, by name. Raises DataError where there are none."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    if not found:
        raise DataError(f"there are no pictures in {folder}; it should hold {', '.join(PICTURE_SUFFIXES)} files")
    return found


class _Files:
    """The pictures of a folder, or of a zip of that name."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, archive = folder / name, folder / f"{name}.zip"
        if (self._folder / name).is_dir():  # some unpack the zip into a folder of its own
            self._folder = self._folder / name
        self._archive: zipfile.ZipFile | None = None
        self._lock = threading.Lock()
        if self._folder.is_dir():
            self.names = {path.name for path in self._folder.iterdir()}
        elif archive.is_file():
            try:
                self._archive = zipfile.ZipFile(archive)
            except zipfile.BadZipFile as error:
                raise DataError(f"{archive} is no whole zip; download it again") from error
            self._members = {Path(member).name: member for member in self._archive.namelist()}
            self.names = set(self._members)
        else:
            self.names = set()

    def read(self, name: str) -> bytes:
        try:
            if self._archive is None:
                return (self._folder / name).read_bytes()
            with self._lock:
                return self._archive.read(self._members[name])
        except (OSError, zipfile.BadZipFile) as error:
            raise BrokenPicture("it can't be read") from error


def _list_file(folder: Path, name: str) -> Path | None:
    places = (folder / f"{name}{suffix}" for suffix in (".txt", ".csv"))
    return next((place for place in places if place.is_file()), None)


def _read_list(file: Path | None, count: int) -> dict[str, list[str]]:
    """One of CelebA's lists: a picture's name, then `count` values; a line with other things in front is a heading."""
    assert file is not None
    found: dict[str, list[str]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        name, *values = re.split(r"[,\s]+", line.strip())
        if not name.lower().endswith((".jpg", ".png")):
            continue
        if len(values) != count or not all(re.fullmatch(r"-?\d+", value) for value in values):
            raise DataError(f"{file}, line {number}: not a picture and {count} numbers; download it again")
        found[name] = values
    if not found:
        raise DataError(f"{file} names no pictures; download it again")
    return found


def _in_order(values: Sequence[str]) -> Points:
    """Eye, eye, nose, mouth corner, mouth corner, image left first."""
    points = np.array(values, np.float32).reshape(5, 2)
    for first, second in ((0, 1), (3, 4)):
        if points[first, 0] > points[second, 0]:
            points[[first, second]] = points[[second, first]]
    return points


def _decoded(content: bytes) -> Image:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if image is None:
        raise BrokenPicture("it is no picture, or only a part of one")
    return image


def _height(find: Detection) -> float:
    return float(find.box[3] - find.box[1])
