"""From pictures to tar shards of aligned faces: with progress, and going on where it was stopped.

A shard is whole or not there, and the plan which picture goes into which shard is the same at every run; so what is
there already is not made again, also after a kill or a full disk.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from train.data.face_set import DataError
from train.data.importers import SPLITS, BrokenPicture, ImportedPicture, PictureSource
from train.data.shards import STATES, EncodedFace, index_lines, write_shard

FACES_IN_A_SHARD = 2_000
#: Pictures of one person that stay together; a person with more has several groups.
LARGEST_GROUP = 8
_INDEX = "index.jsonl"
_NAMED_AT_MOST = 10


@dataclass(frozen=True)
class Prepared:
    """What a run left: faces by split, and each skipped picture with its reason."""

    faces: dict[str, int]
    skipped: dict[str, str]


def prepare(
    source: PictureSource, out: Path, console: Console, workers: int | None = None, in_a_shard: int = FACES_IN_A_SHARD
) -> Prepared:
    """Writes all shards of `source` that are not in `out` yet, and the indexes. Raises DataError."""
    plan = dict(_plan(source, in_a_shard))
    state_file = out / STATES / f"{source.name}.json"
    state = _open_state(state_file, _fingerprint(plan))
    total = sum(len(person) for people in plan.values() for person in people)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=console) as progress,
        ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool,
    ):
        task = progress.add_task(source.name, total=total)
        for name, people in plan.items():
            count = sum(len(person) for person in people)
            if name in state["shards"] and _is_whole(out / name, state["shards"][name]):
                progress.advance(task, count)
                continue
            state["shards"][name] = _make_shard(source, out / name, people, pool, lambda: progress.advance(task))
            _write_state(state_file, state)
    for split in SPLITS:
        _write_index(out / split)
    faces = Counter[str]()
    for name, facts in state["shards"].items():
        faces[name.split("/")[0]] += facts["faces"]
    skipped = {name: why for facts in state["shards"].values() for name, why in facts["skipped"].items()}
    return Prepared(dict(faces), skipped)


def summary(prepared: Prepared, out: Path) -> Iterator[str]:
    """What happened, for a person to read."""
    counts = ", ".join(f"{count:,} for {split}" for split, count in prepared.faces.items() if count)
    yield f"{counts or 'no faces'} in {out}"
    if prepared.skipped:
        yield f"{len(prepared.skipped):,} pictures skipped; all of them in {out / STATES}, the first are:"
        for name, reason in list(prepared.skipped.items())[:_NAMED_AT_MOST]:
            yield f"  {name}: {reason}"


def _plan(source: PictureSource, in_a_shard: int) -> Iterator[tuple[str, list[list[ImportedPicture]]]]:
    """The people of each shard, as SPLIT/NAME-00000.tar."""
    for split in SPLITS:
        number, people, count = 0, list[list[ImportedPicture]](), 0
        for person in _people([picture for picture in source.pictures if picture.split == split]):
            if count and count + len(person) > in_a_shard:
                yield f"{split}/{source.name}-{number:05d}.tar", people
                number, people, count = number + 1, [], 0
            people.append(person)
            count += len(person)
        if people:
            yield f"{split}/{source.name}-{number:05d}.tar", people


def _people(pictures: Sequence[ImportedPicture]) -> Iterator[list[ImportedPicture]]:
    for identity, group in groupby(pictures, key=lambda picture: picture.identity):
        own = list(group)
        size = LARGEST_GROUP if identity is not None else 1
        yield from (own[start : start + size] for start in range(0, len(own), size))


def _make_shard(
    source: PictureSource,
    file: Path,
    people: Sequence[Sequence[ImportedPicture]],
    pool: ThreadPoolExecutor,
    done: Callable[[], None],
) -> dict[str, Any]:
    """Writes one shard; gives its size, its faces by origin, and what was skipped and why."""
    skipped: dict[str, str] = {}

    def faces_of(person: Sequence[ImportedPicture]) -> list[list[EncodedFace]]:
        found: list[list[EncodedFace]] = []
        for picture in person:
            try:
                found.append(source.faces(picture))
            except BrokenPicture as error:
                skipped[picture.name] = str(error)
            done()
        return found

    groups: list[list[EncodedFace]] = []
    for person, found in zip(people, pool.map(faces_of, people), strict=True):
        if person[0].identity is not None:
            groups.append([face for faces in found for face in faces])
        else:  # several faces of one picture are several people
            groups += [[face] for faces in found for face in faces]
    groups = [group for group in groups if group]
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_shard(file, groups)
        origins = Counter(str(face.facts["origin"]) for group in groups for face in group)
        return {
            "bytes": file.stat().st_size,
            "faces": sum(origins.values()),
            "origins": dict(origins),
            "skipped": skipped,
        }
    except OSError as error:
        raise _no_room(file, error) from error


def _write_index(folder: Path) -> None:
    """index.jsonl over all shards of a split, of whichever source."""
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        return
    temporary = folder / (_INDEX + ".part")
    try:
        with temporary.open("w", encoding="utf-8") as index:
            for shard in shards:
                index.writelines(json.dumps(line) + "\n" for line in index_lines(shard))
        temporary.replace(folder / _INDEX)
    except OSError as error:
        raise _no_room(folder / _INDEX, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _is_whole(file: Path, facts: dict[str, Any]) -> bool:
    return file.is_file() and file.stat().st_size == facts["bytes"]


def _open_state(file: Path, fingerprint: str) -> dict[str, Any]:
    """The state of an earlier run with the same plan, or a new one. Raises DataError where the plan was another."""
    if not file.is_file():
        return {"fingerprint": fingerprint, "shards": {}}
    try:
        state: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        earlier, _ = state["fingerprint"], state["shards"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} can't be read; delete it and run again") from error
    if earlier != fingerprint:
        shards = f"{file.parents[1]}/*/{file.stem}-*.tar"
        raise DataError(
            f"{file.stem} was prepared from other pictures; delete {file} and {shards}, or give another --out"
        )
    return state


def _write_state(file: Path, state: dict[str, Any]) -> None:
    temporary = file.with_suffix(".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(state), encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        raise _no_room(file, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _fingerprint(plan: dict[str, list[list[ImportedPicture]]]) -> str:
    digest = hashlib.sha256()
    for name, people in plan.items():
        for person in people:
            digest.update("\0".join([name, *(picture.name for picture in person)]).encode())
    return digest.hexdigest()


def _no_room(file: Path, error: OSError) -> DataError:
    if error.errno == errno.ENOSPC:
        return DataError(f"the disk is full at {file}; make room and run again: what is whole is kept")
    return DataError(f"{file} can't be written: {error.strerror or error}; fix that and run again")
