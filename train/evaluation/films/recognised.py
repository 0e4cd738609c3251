"""Whether the product knows who enrolled: each person in a mask from the first frame on, for one second of film.

The people of `DATA/clips` and `DATA/talk`, of whom `embed` has seen none, enrol with six pictures from the beginning of
their film in another light, and are looked at near its end. Each film is shown a second time, to the product in which
only another one enrolled.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
from rich.console import Console
from rich.progress import track

from train.data.face_set import DataError
from train.evaluation import product
from train.evaluation.films.lossless import RATE, clip_file, write_film
from train.evaluation.report import EvalReport, column_table
from train.evaluation.video import FilmScript, enrollment, make_film

#: One second at the rate of the films that are written.
FRAMES = round(RATE)
#: A shorter film has no beginning that differs from its end.
LEAST_FRAMES = 120


def evaluate_recognition(data: Path, limit: int | None = None, console: Console | None = None) -> EvalReport:
    """How many people could enrol, how many of those are recognised within a second, and how often another one is."""
    scenes = list(worn_scenes(data))[:limit]
    enrolled, known, strangers = 0, 0, 0
    for number, scene in enumerate(track(scenes, "recognised", console=console, disable=console is None)):
        names = named(data, scene, scene)
        enrolled, known = enrolled + (names is not None), known + bool(names)
        strangers += bool(named(data, scene, scenes[number - 1])) if len(scenes) > 1 else 0
    figures = {
        "recognition_people": float(len(scenes)),
        "recognition_enrolled": float(enrolled),
        "recognition_within_a_second": known / max(enrolled, 1),
        "recognition_strangers": float(strangers),
    }
    return EvalReport(figures, column_table({"as shipped": figures}, "In a mask from the first frame on"))


def worn_scenes(data: Path) -> Iterator[FilmScript]:
    """The last second of each person's film that is long enough."""
    index = data / "talk" / "index.jsonl"
    lines = map(json.loads, index.read_text(encoding="utf-8").splitlines()) if index.is_file() else ()
    clips = [path.stem for path in sorted((data / "clips").glob("*.mp4"))]
    for clip in [*clips, *(Path(line["file"]).stem for line in lines if line["kind"] == "talk")]:
        frames = int(cv2.VideoCapture(str(clip_file(data, clip))).get(cv2.CAP_PROP_FRAME_COUNT))
        if frames >= LEAST_FRAMES:
            yield FilmScript(clip, frames - FRAMES - 5, "medical_mask", passes=False)


def named(data: Path, scene: FilmScript, whose: FilmScript) -> list[str] | None:
    """Who is recognised in a scene after the person of `whose` enrolled; None where no picture would do for that."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        given, report = home / "covered.mkv", home / "report.json"
        write_film(given, make_film(data, scene, FRAMES).covered)
        pictures = enrollment(home, data, FilmScript(whose.clip, whose.start * 2 // 5, whose.kind))
        try:
            product.restore(given, home / "restored.mkv", home, enrollment=pictures, report=report)
        except DataError as error:
            if "can be used" not in str(error):
                raise
            return None
        return list(json.loads(report.read_text(encoding="utf-8"))["files"][0]["recognised"])
