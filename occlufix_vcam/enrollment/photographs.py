"""Enrolls from photographs: files and folders, of which the unsuitable ones are skipped with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from occlufix_vcam.core.errors import DeviceError
from occlufix_vcam.enrollment.collector import Pose, UnsuitableView, ViewCollector, keep
from occlufix_vcam.people.person import EnrollmentError, Person, checked_name
from occlufix_vcam.people.store import PeopleStore


@dataclass(frozen=True, slots=True)
class PhotographReport:
    """Who was enrolled, from how many photographs, why others were skipped, and which poses none shows."""

    person: Person
    used: int
    skipped: Sequence[tuple[Path, str]]
    missing: Sequence[Pose]


def enroll_from_photographs(
    name: str, paths: Sequence[Path], collector: ViewCollector, store: PeopleStore
) -> PhotographReport:
    """Enrolls one person from files, and from all files in folders.

    Raises EnrollmentError, DeviceError, EngineRunError.
    """
    name = checked_name(name)
    files = _files(paths)
    used: list[Path] = []
    skipped: list[tuple[Path, str]] = []
    for file in files:
        try:
            collector.add_picture(file)
            used.append(file)
        except DeviceError as error:
            if len(files) == 1:
                raise
            skipped.append((file, error.message))
        except UnsuitableView as poor:
            if len(files) == 1:
                why = f"{file.name} cannot be used: {poor}"
                raise EnrollmentError(why, "choose another image", code=poor.need) from poor
            skipped.append((file, str(poor)))
    strangers = collector.leave_out_strangers()
    skipped += [(used[number], "it is unlike the other pictures: another person?") for number in strangers]
    if len(used) == len(strangers):
        raise _none_usable(skipped)
    person = keep(collector.person(name), store, collector.embed)
    return PhotographReport(person, len(used) - len(strangers), skipped, collector.missing_poses())


def _files(paths: Sequence[Path]) -> list[Path]:
    """Files, and the visible files of folders by name; each once. Raises EnrollmentError if there are none."""
    found = [
        file
        for path in paths
        for file in (sorted(path.iterdir()) if path.is_dir() else [path])
        if path == file or (file.is_file() and not file.name.startswith("."))
    ]
    if not found:
        raise EnrollmentError(f"{paths[0]} holds no pictures", "name image files, or a folder of them")
    return list(dict.fromkeys(found))


def _none_usable(skipped: Sequence[tuple[Path, str]]) -> EnrollmentError:
    file, why = skipped[0]
    return EnrollmentError(
        f"none of {len(skipped)} pictures can be used; {file.name}: {why}", "choose images with one clear face"
    )
