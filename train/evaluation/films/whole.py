"""What the product makes of things that reach beyond the face template, in films whose truth is known.

Arms from the picture's edge pass in front of a face that was seen before, a mug comes with the hand that holds it, and
masks with straps are worn from the first frame on; at 480p, 720p and 1080p.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

from engines.contract import Image, Points, similarity
from train.data.face_set import DataError
from train.evaluation import product
from train.evaluation.films.lossless import FilmWriter, clip_file, frames_of, steady_landmarks
from train.evaluation.films.things import ArmScript, MaskScript, Thing, arm, mask
from train.evaluation.films.whole_figures import MeasuredFrame, whole_figures
from train.evaluation.report import EvalReport, by_kind_tables

FRAMES, QUICK_FRAMES = 100, 44
#: Every so many frames one is measured.
MEASURE_EVERY = 2
#: Frames of the strips, as shares of the film, and their height in pixels.
SHOWN, STRIP_PX = (0.02, 0.36, 0.5, 0.7, 0.86), 480


@dataclass(frozen=True, slots=True)
class WholeScript:
    """A clip from frame `start`, scaled so that its shorter side has `lines` pixels, and what comes in front of it."""

    name: str
    clip: str
    start: int
    lines: int
    thing: ArmScript | MaskScript
    frames: int = FRAMES


@dataclass(frozen=True)
class WholeFilm:
    """Files of a film in one folder, and the way to the template in each frame."""

    truth: Path
    covered: Path
    alpha: Path
    landmarks: list[Points]

    def measured(self, made: Path) -> Iterator[MeasuredFrame]:
        """Every MEASURE_EVERY-th frame, beside what was made of it."""
        films = [frames_of(path) for path in (self.truth, self.covered, self.alpha, made)]
        rows = zip(*films, self.landmarks, strict=True)
        for truth, covered, alpha, restored, points in islice(rows, 0, None, MEASURE_EVERY):
            yield MeasuredFrame(truth, covered, alpha[..., 0].copy(), restored, similarity(points))


SCRIPTS: dict[str, tuple[WholeScript, ...]] = {
    "dev": (
        WholeScript("arm 1", "talk_08_p009", 10, 480, ArmScript("hand_018.webp", (0.0, 1.0), 70)),
        WholeScript("arm 2", "talk_06_p007", 20, 720, ArmScript("tones/h053.webp", (0.1, 0.9), -35, own_tone=True)),
        WholeScript("arm 3", "talk_10_p011", 40, 720, ArmScript("hand_090.webp", (-0.1, 0.6), -60, own_tone=True)),
        WholeScript("arm 4", "liveportrait_s18", 30, 1080, ArmScript("hand_198.webp", (0.2, 0.9), 25)),
        WholeScript("mug", "talk_05_p006", 20, 720, ArmScript("holding/o67.webp", (0.0, 1.0), 5)),
        WholeScript("mask 1", "talk_00_p001", 0, 480, MaskScript("surgical_blue")),
        WholeScript("mask 2", "talk_01_p002", 0, 720, MaskScript("KN95", bands=True)),
        WholeScript("mask 3", "talk_10_p011", 0, 1080, MaskScript("cloth", strap=(40, 38, 36))),
    ),
    "eval": (
        WholeScript("arm 1", "liveportrait_d9", 40, 480, ArmScript("hand_306.webp", (0.0, 1.0), 40)),
        WholeScript("arm 2", "liveportrait_d3", 60, 480, ArmScript("hand_036.webp", (0.1, 0.8), -75, own_tone=True)),
        WholeScript("arm 3", "talk_07_p008", 20, 720, ArmScript("tones/h006.webp", (0.0, 1.0), 30)),
        WholeScript("arm 4", "liveportrait_d13", 60, 1080, ArmScript("hand_216.webp", (-0.2, 0.7), 30, own_tone=True)),
        WholeScript("mug", "liveportrait_d20", 10, 480, ArmScript("holding/o09.webp", (0.5, 1.1), -90)),
        WholeScript("mask 1", "talk_04_p005", 0, 480, MaskScript("N95", bands=True)),
        WholeScript("mask 2", "talk_02_p003", 0, 720, MaskScript("surgical_green")),
        WholeScript("mask 3", "liveportrait_d13", 200, 1080, MaskScript("KN95", strap=(40, 38, 36))),
    ),
}
#: What `--quick` measures: an arm and a mask of the dev set in few frames.
QUICK = tuple(replace(script, frames=QUICK_FRAMES) for script in SCRIPTS["dev"] if script.lines == 480)


def evaluate_whole(
    data: Path, scripts: Sequence[WholeScript], out: Path | None = None, console: Console | None = None
) -> EvalReport:
    """Figures of each film, and their means for arms, mugs and masks."""
    rows: dict[str, dict[str, float]] = {}
    for script in scripts:
        with tempfile.TemporaryDirectory() as folder:
            film, made = make_film(data, script, Path(folder)), Path(folder) / "made.mkv"
            product.restore(film.covered, made, Path(folder))
            rows[f"{script.name} {script.lines}p {script.clip}"] = figures = whole_figures(film.measured(made))
            if out is not None:
                _strip(out / f"whole_{script.clip}_{script.name.replace(' ', '_')}.png", film, made, script.frames)
        if console is not None:
            console.print(f"{script.name}: {', '.join(f'{name} {value:.3f}' for name, value in figures.items())}")
    kinds = {kind: _mean(rows, kind) for kind in dict.fromkeys(name.split()[0] for name in rows)}
    flat = {f"whole_{kind}_{name}": value for kind, means in kinds.items() for name, value in means.items()}
    tables = by_kind_tables({"whole things": rows, "means": kinds}, "Whole things, in the frame's own pixels")
    return EvalReport(flat, tables, {"whole": rows})


def make_film(data: Path, script: WholeScript, folder: Path) -> WholeFilm:
    """The clip with the script's thing in front, written into `folder`.

    Raises DataError where the clip is missing or too short.
    """
    landmarks = steady_landmarks(data, _scaled(data, script))
    if len(landmarks) < script.frames:
        raise DataError(f"{script.clip} has no {script.frames} frames from frame {script.start} on")
    film = WholeFilm(*(folder / f"{name}.mkv" for name in ("truth", "covered", "alpha")), landmarks)
    thing = _thing(data, script, landmarks[script.frames // 2])
    with ExitStack() as stack:
        writers = [stack.enter_context(closing(FilmWriter(path))) for path in (film.truth, film.covered, film.alpha)]
        for number, (image, points) in enumerate(zip(_scaled(data, script), landmarks, strict=True)):
            colours, alpha = thing(number, points)
            weight = alpha.astype(np.float32) / 255
            covered = np.where(alpha[..., None] > 0, cv2.blendLinear(colours, image, weight, 1 - weight), image)
            for writer, picture in zip(writers, (image, covered, alpha), strict=True):
                writer.write(picture)
    return film


def _scaled(data: Path, script: WholeScript) -> Iterator[Image]:
    """The clip's frames at the script's resolution, with even sides."""
    for image in islice(frames_of(clip_file(data, script.clip), script.start), script.frames):
        factor = script.lines / min(image.shape[:2])
        width, height = (round(side * factor / 2) * 2 for side in image.shape[1::-1])
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        yield np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)


def _thing(data: Path, script: WholeScript, landmarks: Points) -> Thing:
    middle = next(islice(_scaled(data, script), script.frames // 2, None))
    if isinstance(script.thing, MaskScript):
        return mask(data, script.thing, middle, landmarks)
    return arm(data, script.thing, script.frames, middle, landmarks)


def _mean(rows: dict[str, dict[str, float]], kind: str) -> dict[str, float]:
    own = [row for name, row in rows.items() if name.split()[0] == kind]
    return {name: float(np.mean([row[name] for row in own])) for name in own[0]}


def _strip(path: Path, film: WholeFilm, made: Path, frames: int) -> None:
    """Whole frames of the same moments: covered, restored, the truth."""
    rows = [_moments(frames_of(source), frames) for source in (film.covered, made, film.truth)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack(rows))


def _moments(pictures: Iterable[Image], frames: int) -> Image:
    chosen = {round(share * frames) for share in SHOWN}
    shown = [picture for number, picture in enumerate(pictures) if number in chosen]
    return np.hstack([cv2.resize(p, (p.shape[1] * STRIP_PX // p.shape[0], STRIP_PX)) for p in shown])
