"""What the product makes of films: faces in front of which something comes and goes, and what was behind it is known.

`python -m train eval restore --video`. Things from the evaluation's cut-outs are moved in front of the people in
`DATA/clips`, whom nothing hides; the program itself (`occlufix-vcam process`, all of the live pipeline) restores the
films, with and without memory, and each picture is compared with the one that was covered.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

from engines.contract import CROP_PX, HIDDEN, Affine, Image, Points, similarity, transform_points
from train.data.product_mask import face_area
from train.evaluation import product
from train.evaluation.films.lossless import frames_of, read_clip, steady_landmarks, write_film
from train.evaluation.metrics import psnr
from train.evaluation.report import EvalReport, by_kind_tables, sheet
from train.evaluation.restoration.cases import EvalCase
from train.evaluation.restoration.meter import RestorationMeter
from train.occlusion.occluders import Occluders

SEED = 7
FRAMES = 130
#: Frames of a film: the thing comes, is there, goes, is gone.
COMES, THERE, GOES, GONE = 30, 38, FRAMES - 30, FRAMES - 22
#: How far away it begins, in crop pixels; there it sways a little.
AWAY = (40.0, 220.0)
#: Every so many frames one is measured by networks, and one is shown on the sheets.
MEASURE_EVERY, SHOWN = 6, (28, 32, 35, 40, 60, 80, 95, 101, 104, 107)
#: A smaller hole, in pixels of the crop, is not measured.
SMALLEST_HOLE = 1_500
#: Frames of an enrollment, taken from another part of the clip, and by how much its light was another.
ENROL_FRAMES, ENROL_LIGHT = 6, 0.85

SETTINGS: dict[str, dict[str, str]] = {
    "without memory": {"OCCLUFIX_MEMORY": "false"},
    "memory alone": {"OCCLUFIX_RESTORER": "memory"},
    "network with reference": {"OCCLUFIX_RESTORER": "network"},
    "as shipped": {},
}
ENROLLED = {"without memory": SETTINGS["without memory"], "enrolled": {}}


@dataclass(frozen=True)
class FilmScript:
    """A clip from frame `start`, and what comes in front of it: passing by, or there from the first frame on."""

    clip: str
    start: int
    kind: str
    passes: bool = True


PASSING = (
    FilmScript("liveportrait_d9", 40, "hand"),
    FilmScript("liveportrait_s18", 30, "cup"),
    FilmScript("liveportrait_d3", 60, "phone"),
    FilmScript("liveportrait_d20", 10, "hand"),
    FilmScript("liveportrait_d18", 20, "microphone"),
    FilmScript("liveportrait_d12", 20, "medical_mask"),
)
WORN = tuple(
    FilmScript(clip, 60, "medical_mask", passes=False)
    for clip in ("liveportrait_d9", "liveportrait_s18", "liveportrait_d3")
)


@dataclass(frozen=True, eq=False)
class Film:
    """Pictures, the same ones covered, how far each pixel is covered (0..255), and the faces' way to the template."""

    truth: list[Image]
    covered: list[Image]
    alpha: list[Image]
    to_crop: list[Affine]
    landmarks: list[Points]


def evaluate_video(
    data: Path, out: Path | None = None, limit: int | None = None, threads: int = 2, console: Console | None = None
) -> EvalReport:
    """Figures of SETTINGS on films in which something comes and goes, and of a mask worn by a person who enrolled."""
    meter = RestorationMeter(data / "weights", threads)
    kinds: dict[str, dict[str, dict[str, float]]] = {}
    rounds = [("comes and goes", PASSING, SETTINGS), ("worn from the start", WORN, ENROLLED)]
    for title, scenes, settings in rounds:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in settings}
        for scene in scenes[:limit]:
            film = make_film(data, scene)
            made = {name: run_product(film, environment, data, scene) for name, environment in settings.items()}
            for name, pictures in made.items():
                found[name].append(film_figures(film, pictures, meter))
            kinds[f"{scene.clip} {scene.kind}"] = {name: values[-1] for name, values in found.items()}
            if console is not None:
                console.print(f"{scene.clip} {scene.kind}: {', '.join(made)}")
            if out is not None:
                _strips(out / f"video_{scene.clip}_{scene.kind}.png", film, made)
        kinds[title] = {name: _mean(values) for name, values in found.items()}
    figures = {
        f"{title} {name} {figure}".replace(" ", "_"): value
        for title, _, _ in rounds
        for name, values in kinds[title].items()
        for figure, value in values.items()
    }
    return EvalReport(figures, by_kind_tables(kinds, "Films, inside the hole"), {"films": kinds})


def make_film(data: Path, scene: FilmScript, frames: int = FRAMES) -> Film:
    """The clip with the scene's thing in front. Raises DataError where the clip is missing or too short."""
    truth = read_clip(data, scene.clip, scene.start, frames)
    landmarks = steady_landmarks(data, truth)
    to_crop = [similarity(points) for points in landmarks]
    colours, weights = _thing(data, scene, truth[len(truth) // 2], to_crop[len(truth) // 2], landmarks[len(truth) // 2])
    covered, alpha = [], []
    for number, (image, matrix) in enumerate(zip(truth, to_crop, strict=True)):
        place = _place(number) if scene.passes else np.eye(3)
        size = image.shape[1::-1]
        if place is None:
            covered.append(image)
            alpha.append(np.zeros(image.shape[:2], np.uint8))
            continue
        whole = np.linalg.inv(place) @ np.vstack([matrix, (0, 0, 1)])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        thing = cv2.warpAffine(colours, whole[:2], size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        alpha.append(cv2.warpAffine(weights, whole[:2], size, flags=flags))
        share = alpha[-1].astype(np.float32)[..., None] / 255
        covered.append(np.round(image * (1 - share) + thing * share).astype(np.uint8))
    return Film(truth, covered, alpha, to_crop, landmarks)


def _thing(data: Path, scene: FilmScript, image: Image, to_crop: Affine, landmarks: Points) -> tuple[Image, Image]:
    """What comes in front: colours and weights in the template, covering a good part of the lower face."""
    crop, points = _crop(image, to_crop), transform_points(landmarks, to_crop)
    occluders, rng = Occluders(data, "eval"), np.random.default_rng([SEED, *scene.clip.encode(), scene.start])
    for _ in range(50):
        covered, mask = occluders.occlude(crop, points, rng, [scene.kind])
        if (mask[140:230, 80:176] > 0).mean() > 0.35:
            break
    return covered, cv2.GaussianBlur(mask, (0, 0), 0.8)


def _place(number: int) -> np.ndarray | None:
    """Where the thing is in a frame: 3x3, from its place in front of the face; None while it is away."""
    if not COMES <= number < GONE:
        return None
    way = np.clip([(number - COMES) / (THERE - COMES), (GONE - number) / (GONE - GOES)], 0, 1).min()
    far = 1 - way * way * (3 - 2 * way)
    turn = cv2.getRotationMatrix2D((CROP_PX / 2, CROP_PX), 3 * np.sin(number / 9) + 10 * far, 1.0)
    turn[:, 2] += (6 * np.sin(number / 7) + AWAY[0] * far, 4 * np.sin(number / 5) + AWAY[1] * far)
    return np.vstack([turn, (0, 0, 1)])


def run_product(film: Film, environment: Mapping[str, str], data: Path, scene: FilmScript) -> list[Image]:
    """What `occlufix-vcam process` makes of the covered film; who wears something from the start is enrolled.

    Raises DataError with what the program said where it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        given, taken = home / "covered.mkv", home / "restored.mkv"
        write_film(given, film.covered)
        pictures = enrollment(home, data, scene) if not scene.passes and not environment else []
        product.restore(given, taken, home, environment, pictures)
        return list(frames_of(taken))


def enrollment(home: Path, data: Path, scene: FilmScript) -> list[str]:
    """Pictures of the same person from before the scene, in another light."""
    frames = read_clip(data, scene.clip, 0, scene.start)
    files = []
    for number, place in enumerate(np.linspace(0, len(frames) - 1, ENROL_FRAMES).astype(int)):
        files.append(str(home / f"me-{number}.png"))
        cv2.imwrite(files[-1], cv2.convertScaleAbs(frames[place], alpha=ENROL_LIGHT))
    return files


def film_figures(film: Film, made: Sequence[Image], meter: RestorationMeter) -> dict[str, float]:
    """Figures in the hole, means over the frames: distance from the truth, and `flicker` against the truth's own."""
    measured: list[EvalCase] = []
    shown: list[Image] = []
    psnrs: list[float] = []
    changes: list[tuple[float, float]] = []
    last: tuple[Image, Image, Image] | None = None
    for number, picture in enumerate(made):
        matrix = film.to_crop[number]
        ours, truth = _crop(picture, matrix), _crop(film.truth[number], matrix)
        hole = _hole(_crop(film.alpha[number], matrix, cv2.BORDER_CONSTANT))
        if cv2.countNonZero(hole) < SMALLEST_HOLE:
            last = None
            continue
        psnrs.append(psnr(ours, truth, hole))
        if last is not None:
            changes.append(_changes(last, (ours, truth, hole)))
        last = ours, truth, hole
        if number % MEASURE_EVERY == 0:
            points = transform_points(film.landmarks[number], matrix)
            measured.append(EvalCase(truth, hole, np.full_like(hole, HIDDEN), points))
            shown.append(ours)
    means = meter(measured, {"ours": shown})["ours"]
    figures = [one.figures for one in means if one is not None]
    flicker = np.array(changes).mean(axis=0)
    return {
        "psnr": float(np.mean(psnrs)),
        **{name: float(np.mean([one[name] for one in figures])) for name in ("pd_mobilenet", "identity", "seam")},
        "flicker": float(flicker[0] / flicker[1]),
        **_delays(film, made),
    }


def _changes(last: tuple[Image, Image, Image], now: tuple[Image, Image, Image]) -> tuple[float, float]:
    """Mean change inside the hole from one frame to the next, of ours and of the truth: grey levels.

    The head's own motion is taken out: the affine one that most of the truth's optical flow over the face agrees on.
    """
    motion = _head_motion(last[1], now[1])
    both = (last[2] > 0) & (now[2] > 0)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (CROP_PX, CROP_PX)
    changes = []
    for before, after in ((last[0], now[0]), (last[1], now[1])):
        carried = cv2.warpAffine(before, motion, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        changes.append(float(cv2.absdiff(after, carried)[both].mean()) if both.any() else 0.0)
    return changes[0], changes[1]


def _head_motion(before: Image, after: Image) -> Affine:
    greys = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (after, before)]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*greys, None)
    rows, columns = np.nonzero(face_area()[::6, ::6])
    start = np.stack([columns * 6, rows * 6], axis=1).astype(np.float32)
    matrix, _ = cv2.estimateAffine2D(start, start + flow[rows * 6, columns * 6], ransacReprojThreshold=0.7)
    return np.eye(2, 3) if matrix is None else matrix


def _delays(film: Film, made: Sequence[Image]) -> dict[str, float]:
    """Frames from the face's being covered to its being restored, and from its being free to its being left alone."""
    covers = [_crop(alpha, matrix, cv2.BORDER_CONSTANT) for alpha, matrix in zip(film.alpha, film.to_crop, strict=True)]
    differs = [cv2.absdiff(ours, given).max(axis=2) for ours, given in zip(made, film.covered, strict=True)]
    hides = [_share(_hole(cover)) for cover in covers]
    changed = [_share(_hole(_crop(picture, film.to_crop[n], cv2.BORDER_CONSTANT))) for n, picture in enumerate(differs)]
    first = next(number for number, share in enumerate(hides) if share > 0.04)
    onset = next((number for number in range(first, len(made)) if changed[number] > 0.5 * hides[number]), len(made))
    free = next((n for n in range(first, len(made)) if hides[n] == 0), len(made))
    end = next((n for n in range(free, len(made)) if changed[n] < 0.01), len(made))
    return {"onset_frames": float(onset - first), "end_frames": float(end - free)}


def _crop(image: Image, to_crop: Affine, border: int = cv2.BORDER_REPLICATE) -> Image:
    return np.asarray(cv2.warpAffine(image, to_crop, (CROP_PX, CROP_PX), borderMode=border), np.uint8)


def _hole(alpha: Image) -> Image:
    """What of the face is covered, its soft rim too."""
    solid = cv2.compare(alpha, 20, cv2.CMP_GT)
    return np.asarray(cv2.bitwise_and(cv2.dilate(solid, np.ones((5, 5), np.uint8)), face_area()), np.uint8)


def _share(hole: Image) -> float:
    return cv2.countNonZero(hole) / cv2.countNonZero(face_area())


def _mean(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}


def _strips(path: Path, film: Film, made: Mapping[str, Sequence[Image]]) -> None:
    """Rows of the same moments: covered, each of `made`, the truth."""
    rows = [film.covered, *made.values(), film.truth]
    pictures = [[_crop(row[number], film.to_crop[number]) for number in SHOWN] for row in rows]
    sheet(path, pictures, [f"frame {number}" for number in SHOWN])
