"""What `process` has to do: which inputs, pictures or films by their content, become which outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from occlufix_vcam.core.errors import CameraNotFound, ConfigError, OccluFixError
from occlufix_vcam.core.media.film_facts import expected_frames, is_film
from occlufix_vcam.core.media.film_formats import FILM_SUFFIXES
from occlufix_vcam.core.media.picture_facts import is_picture, picture_facts
from occlufix_vcam.core.media.picture_writer import KINDS
from occlufix_vcam.core.media.pictures import PICTURE_SUFFIXES, visible_files

#: Names of films that FFmpeg may not be able to read, so that their error is told.
_FILM_NAMES = frozenset(
    (*FILM_SUFFIXES, ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".dv")
)


@dataclass(frozen=True, slots=True)
class Job:
    """One input and its output; `steps` is its share of the progress: its frames."""

    source: Path
    target: Path
    is_film: bool
    steps: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    jobs: Sequence[Job]
    skipped: int = 0

    @property
    def steps(self) -> int:
        return sum(job.steps for job in self.jobs)


def plan(source: Path, target: Path) -> Plan:
    """Jobs of `process source target`. Raises CameraNotFound, ConfigError."""
    if not source.exists():
        raise CameraNotFound(f"there is no {source}", "check the path")
    if source.is_dir():
        return _plan_folder(source, target)
    if not source.is_file():
        raise ConfigError(f"{source} is no file", "name an image, a film or a folder of both")
    film = _is_film(source)
    if film is None:
        film = source.suffix.lower() not in PICTURE_SUFFIXES
    if not film and target.suffix.lower() in FILM_SUFFIXES and is_film(source):
        film = True  # an animation
    if target.is_dir():
        target = target / _out_name(source, film)
    if source.resolve() == target.resolve():
        raise ConfigError("IN and OUT are the same", "give OUT another name: the input is never overwritten")
    return Plan([_job(source, target, film)])


def check_report(report: Path, plan: Plan, others: Iterable[Path | None]) -> None:
    """Raises ConfigError if the report would replace an input or an output, or has no place."""
    taken = [path for job in plan.jobs for path in (job.source, job.target)]
    taken += [path for path in others if path is not None]
    if report.resolve() in {path.resolve() for path in taken}:
        raise ConfigError(f"the report cannot be {report}: that is an input or OUT", "give it a name of its own")
    if report.is_dir() or not report.absolute().parent.is_dir():
        raise ConfigError(f"the report cannot be written to {report}", "name a file in a folder that exists")


def _plan_folder(source: Path, target: Path) -> Plan:
    if (target.exists() and not target.is_dir()) or target.suffix.lower() in (*KINDS, *FILM_SUFFIXES):
        raise ConfigError(f"IN is a folder, and OUT, {target}, is a file", "name a folder as OUT")
    if source.resolve() == target.resolve():
        raise ConfigError("IN and OUT are the same", "give OUT another name: the inputs are never overwritten")
    files = visible_files(source)
    kinds = [(file, film) for file in files if (film := _is_film(file)) is not None]
    if not kinds:
        raise CameraNotFound(
            f"the folder {source} contains no images and no films", "name a folder with images or films"
        )
    names = _distinct([_out_name(file, film) for file, film in kinds], [file.name for file, _ in kinds])
    jobs = [_job(file, target / name, film) for (file, film), name in zip(kinds, names, strict=True)]
    return Plan(jobs, len(files) - len(jobs))


def _is_film(file: Path) -> bool | None:
    """Whether it is a film (True) or a picture, by its content, else by its name; None if it is neither."""
    try:
        if is_picture(file):
            return False
    except OccluFixError:  # too large a picture
        return False
    if is_film(file):
        return True
    suffix = file.suffix.lower()
    return False if suffix in PICTURE_SUFFIXES else True if suffix in _FILM_NAMES else None


def _out_name(file: Path, film: bool) -> str:
    """The input's name, with a suffix that can be written."""
    if file.suffix.lower() in (FILM_SUFFIXES if film else KINDS):
        return file.name
    return f"{file.stem}{'.mp4' if film else '.png'}"


def _distinct(names: Sequence[str], originals: Sequence[str]) -> list[str]:
    """`names`; where two are the same, the one that was changed keeps its original suffix, too."""
    return [
        f"{original}{Path(name).suffix}" if name != original and names.count(name) > 1 else name
        for name, original in zip(names, originals, strict=True)
    ]


def _job(source: Path, target: Path, film: bool) -> Job:
    return Job(source, target, film, expected_frames(source) if film else _images(source))


def _images(source: Path) -> int:
    try:
        return picture_facts(source).frames
    except OccluFixError:  # told when it is read
        return 1
