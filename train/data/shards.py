"""Faces in tar shards, the WebDataset format: written whole or not at all, read as a stream or face by face.

A prepared folder holds `train/`, `valid/` and `eval/` with NAME-00000.tar, ..., and `prepared/NAME.json`, which says
what is in them. One sample of a shard is one person: pictures `0.webp`, `1.webp`, ... and `0.json`, `1.json`, ... with
the fields of train.data.face_set.FaceRow. So a reader of a face has another picture of the same person at hand.
"""

from __future__ import annotations

import json
import logging
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engines.contract import CROP_PX, Image
from train.data.face_set import DataError, DrawnFace, FaceRow, origin_shares, row_of

STATES = "prepared"
#: Faces from which the next is drawn: encoded, so about 40 MiB.
_BUFFER_FACES = 2_000
#: A stream of which so many pictures in a row can't be decoded is no stream of pictures.
_BROKEN_AT_MOST = 50

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodedFace:
    """A picture of the template as a file's bytes, and what is known of it."""

    suffix: str
    picture: bytes
    facts: Mapping[str, Any]  # file, identity, origin, landmarks, valid_quad


@dataclass(frozen=True)
class _Kept:
    """A face in the buffer, and all of its person."""

    person: tuple[EncodedFace, ...]
    number: int


def write_shard(file: Path, people: Sequence[Sequence[EncodedFace]]) -> None:
    """One tar of people. Raises OSError (a full disk, say); then there is no such file."""
    import webdataset  # only those who prepare or stream shards need it

    temporary = file.with_suffix(".part")
    try:
        with webdataset.TarWriter(str(temporary), encoder=False, mtime=0, user="", group="") as writer:
            for number, person in enumerate(people):
                sample: dict[str, Any] = {"__key__": f"{number:06d}"}
                for place, face in enumerate(person):
                    sample[f"{place}.{face.suffix}"] = face.picture
                    sample[f"{place}.json"] = json.dumps(dict(face.facts)).encode()
                writer.write(sample)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def index_lines(file: Path) -> Iterator[dict[str, Any]]:
    """For each face of a shard its facts, and `shard`, `offset` and `bytes` of its picture. Raises DataError."""
    pictures: dict[str, tarfile.TarInfo] = {}
    facts: dict[str, Any] = {}
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                name, suffix = member.name.rsplit(".", 1)
                if suffix == "json":
                    facts[name] = json.loads(_content(tar, member))
                else:
                    pictures[name] = member
        for name, known in facts.items():
            yield {**known, "shard": file.name, "offset": pictures[name].offset_data, "bytes": pictures[name].size}
    except (tarfile.TarError, OSError, ValueError, KeyError) as error:
        raise damaged(file) from error


class FaceStream:
    """Endless faces of the shards in `data / split`, each worker's in an order of its own that its generator decides.

    Only a buffer of them is in memory. Machines that train together may each have other shards in their folder.
    Raises DataError for what is no prepared folder, for a shard that is missing, cut off or damaged.
    """

    def __init__(self, data: Path, split: str = "train") -> None:
        states = read_states(data)
        shards = {name: facts for state in states for name, facts in state["shards"].items() if name.startswith(split)}
        if not shards:
            raise DataError(f"there are no shards of `{split}` in {data}; make them with: python -m train data")
        self._files = [data / name for name in shards]
        for file, facts in zip(self._files, shards.values(), strict=True):
            if not file.is_file() or file.stat().st_size != facts["bytes"]:
                raise damaged(file)
        origins = Counter[str]()
        for facts in shards.values():
            origins.update(facts["origins"])
        self.faces = sum(origins.values())
        if not self.faces:
            raise DataError(f"all shards of `{split}` in {data} are empty; prepare more pictures: python -m train data")
        shares = {origin: share / origins[origin] for origin, share in origin_shares(origins).items()}
        self._accepted = {origin: share / max(shares.values()) for origin, share in shares.items()}
        self._people: Iterator[tuple[EncodedFace, ...]] | None = None
        self._buffer: list[_Kept] = []

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_people": None, "_buffer": []}  # each worker process reads for itself

    def draw(self, rng: np.random.Generator) -> DrawnFace:
        """A random face of the buffer; the stream's next takes its place."""
        for _ in range(_BROKEN_AT_MOST):
            while len(self._buffer) < min(_BUFFER_FACES, self.faces):
                self._buffer += self._next_person(rng)
            place = int(rng.integers(len(self._buffer)))
            kept, self._buffer[place] = self._buffer[place], self._buffer[-1]
            self._buffer.pop()
            face = kept.person[kept.number]
            image = _decoded(face)
            if image is not None:
                return DrawnFace(_row(face), image, partial(_sibling, kept))
        raise DataError("the shards hold hardly any picture that can be read; make them again: python -m train data")

    def _next_person(self, rng: np.random.Generator) -> list[_Kept]:
        """The faces of the next person that are accepted: of an origin with too many pictures, some are passed over."""
        if self._people is None:
            self._people = self._read(rng)
        person = next(self._people)
        return [
            _Kept(person, number)
            for number, face in enumerate(person)
            if rng.random() < self._accepted.get(face.facts["origin"], 1.0)
        ]

    def _read(self, rng: np.random.Generator) -> Iterator[tuple[EncodedFace, ...]]:
        import webdataset

        while True:
            urls = [f"file://{self._files[place].resolve().as_posix()}" for place in rng.permutation(len(self._files))]
            samples = webdataset.WebDataset(
                urls, shardshuffle=False, nodesplitter=None, workersplitter=None, empty_check=False, handler=_refuse
            )
            for sample in samples:
                yield _person(sample)


def read_states(data: Path) -> list[dict[str, Any]]:
    """What `python -m train data` left behind in a folder: one state for each source. Raises DataError."""
    states = []
    for file in sorted((data / STATES).glob("*.json")):
        try:
            state = json.loads(file.read_text(encoding="utf-8"))
            states.append({"fingerprint": state["fingerprint"], "shards": dict(state["shards"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file} can't be read; delete it and run python -m train data again") from error
    return states


def damaged(file: Path) -> DataError:
    """A shard that is not as it was written."""
    return DataError(f"the shard {file} is missing or damaged; delete it and run python -m train data again")


def _refuse(error: Exception) -> bool:
    urls = [str(part) for part in error.args if str(part).startswith("file://")]
    raise damaged(Path(urls[-1].removeprefix("file://") if urls else "(unknown)")) from error


def _person(sample: Mapping[str, Any]) -> tuple[EncodedFace, ...]:
    facts = {key.split(".")[0]: json.loads(value) for key, value in sample.items() if key.endswith(".json")}
    pictures = [key.split(".") for key in sample if not key.startswith("_") and not key.endswith(".json")]
    return tuple(
        EncodedFace(suffix, sample[f"{number}.{suffix}"], facts[number])
        for number, suffix in sorted(pictures)
        if number in facts
    )


def _sibling(kept: _Kept, rng: np.random.Generator) -> tuple[FaceRow, Image] | None:
    others = [other for number, other in enumerate(kept.person) if number != kept.number]
    if not others:
        return None
    face = others[int(rng.integers(len(others)))]
    image = _decoded(face)
    return None if image is None else (_row(face), image)


def _decoded(face: EncodedFace) -> Image | None:
    image = cv2.imdecode(np.frombuffer(face.picture, np.uint8), cv2.IMREAD_COLOR)
    if image is None or image.shape != (CROP_PX, CROP_PX, 3):
        _log.warning("%s in a shard is no %dx%d picture; passed over", face.facts.get("file"), CROP_PX, CROP_PX)
        return None
    return image


def _row(face: EncodedFace) -> FaceRow:
    return row_of({**face.facts, "shard": None})


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = tar.extractfile(member)
    return opened.read() if opened is not None else b""
