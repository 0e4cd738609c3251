"""Before and after, from the product's own pipeline: look at them before you believe any figure.

    python scripts/contact_sheet.py clips ../shared/data output/contact_sheet.png   12 frames of real clips, covered
    python scripts/contact_sheet.py demo docs/before-after.png                      the demo face, covered and restored
    python scripts/contact_sheet.py strip docs/memory-strip.jpg                 a hand passes; with and without memory
    python scripts/contact_sheet.py networks OUT.png NETWORK NETWORK ...        the demo face by several restorers

The clips show people whom nothing hides; held-out occluders are put in front of them, so each row has the truth too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from engines.contract import CROP_PX, Affine, Image, transform_points
from occlufix_vcam.assembly import build_pipeline
from occlufix_vcam.core.frame import FaceTrack, Frame
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.telemetry import Telemetry
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.sources.opening import open_source
from occlufix_vcam.stages.align import align
from occlufix_vcam.stages.find import open_finder

KINDS = ("medical_mask", "hand", "cup", "medical_mask", "phone", "hand", "medical_mask", "microphone", "scarf")
CELLS = 12
LEAD_IN = 6  # frames before the one that is shown, so that tracking and smoothing are as in a call
SEED = 5
TILE_PX = 300
#: Seconds of the demo's round in which mask, hand and mug are in place.
DEMO_MOMENTS_S = (3.5, 8.5, 12.8)
#: Frames before them: as in a call, the face was seen before something came in front of it.
DEMO_LEAD_IN = 90
#: Seconds of the demo's round in which the hand comes and goes, and frames before that for the memory to learn.
STRIP_S = (6.9, 7.3, 7.5, 7.8, 8.4, 9.0, 9.4, 9.7, 10.1)
STRIP_LEAD_IN = 40
STRIP_PART = (slice(130, 590), slice(410, 870))

SETTINGS = Settings()
ENGINES = EngineSet(SETTINGS)


@dataclass(frozen=True)
class Case:
    """A few frames with something in front of the face, the last one's truth, and where its face is."""

    covered: list[Image]
    truth: Image
    to_crop: Affine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    clips = commands.add_parser("clips", help="frames of the clips in a data folder")
    clips.add_argument("data", type=Path)
    clips.add_argument("out", type=Path)
    demo = commands.add_parser("demo", help="frames of the demo source")
    demo.add_argument("out", type=Path)
    strip = commands.add_parser("strip", help="a hand passes in front of the demo's face")
    strip.add_argument("out", type=Path)
    networks = commands.add_parser("networks", help="the demo's face by several restorers, without memory")
    networks.add_argument("out", type=Path)
    networks.add_argument("networks", type=Path, nargs="+", help="run folder, checkpoint or ONNX file")
    chosen = parser.parse_args()
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    sheets = {"clips": lambda: clip_sheet(chosen.data), "demo": demo_sheet, "strip": memory_strip}
    sheets["networks"] = lambda: network_sheet(chosen.networks)
    picture = sheets[chosen.command]()
    if not cv2.imwrite(str(chosen.out), picture):
        raise SystemExit(f"{chosen.out} can't be written")
    print(f"{chosen.out}: {picture.shape[1]}x{picture.shape[0]}")


def clip_sheet(data: Path) -> Image:
    """Rows of covered, restored, truth; two cases side by side."""
    rows = []
    for case in clip_cases(data):
        restored = restore(case.covered)
        rows.append(np.hstack([tile(image, case.to_crop) for image in (case.covered[-1], restored, case.truth)]))
    half = len(rows) // 2
    return np.hstack([np.vstack(rows[:half]), np.vstack(rows[half : 2 * half])])


def clip_cases(data: Path) -> Iterator[Case]:
    """CELLS cases, taken in turn from the clips at different moments, each with another occluder."""
    from train.occlusion.occluders import Occluders

    occluders = Occluders(data, "eval")
    find = open_finder("own", ENGINES.load)
    clips = sorted((data / "clips").glob("*.mp4"))
    for number in range(CELLS):
        frames = read_frames(clips[number % len(clips)], 20 + 67 * (number // len(clips)))
        cover = None
        covered: list[Image] = []
        find.reset()
        for image in frames:
            frame = Frame(image, 0, 0.0)
            faces = find(frame)
            crop = align(frame, faces[0]) if faces else None
            if crop is None:
                break
            if cover is None:
                cover = occluder_sprite(
                    occluders, KINDS[number % len(KINDS)], crop.face, crop.image, crop.to_crop, number
                )
            covered.append(laid_over(image, cover, crop.to_crop))
        else:
            yield Case(covered, frames[-1], crop.to_crop)


def occluder_sprite(
    occluders: object, kind: str, face: FaceTrack, image: Image, to_crop: Affine, number: int
) -> tuple[Image, Image]:
    """An occluder in crop pixels: colours, and weights with a soft edge."""
    rng = np.random.default_rng([SEED, number])
    covered, mask = occluders.occlude(image, transform_points(face.landmarks, to_crop), rng, [kind])  # type: ignore[attr-defined]
    return covered, cv2.GaussianBlur(mask, (0, 0), 0.8)


def laid_over(image: Image, cover: tuple[Image, Image], to_crop: Affine) -> Image:
    """The frame with the occluder moving along with the face."""
    height, width = image.shape[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    colours = cv2.warpAffine(cover[0], to_crop, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    weights = cv2.warpAffine(cover[1], to_crop, (width, height), flags=flags)[..., None] / 255.0
    return np.round(image * (1 - weights) + colours * weights).astype(np.uint8)


def restore(frames: list[Image]) -> Image:
    """The last of `frames`, after the pipeline has seen those before it."""
    pipeline = build_pipeline(SETTINGS, Telemetry(), ENGINES)
    last = frames[0]
    for index, image in enumerate(frames):
        last = pipeline(Frame(image, index, index / 30))[0].image
    return last


def read_frames(clip: Path, start: int) -> list[Image]:
    capture = cv2.VideoCapture(str(clip))
    capture.set(cv2.CAP_PROP_POS_FRAMES, start)
    frames = [image for there, image in (capture.read() for _ in range(LEAD_IN + 1)) if there]
    capture.release()
    return frames


def tile(image: Image, to_crop: Affine) -> Image:
    """The face with some of what is around it."""
    wider = to_crop.copy()
    wider[:, :2] *= 0.8
    wider[:, 2] = wider[:, 2] * 0.8 + 0.1 * CROP_PX
    return cv2.warpAffine(image, wider * (TILE_PX / CROP_PX), (TILE_PX, TILE_PX), borderMode=cv2.BORDER_REPLICATE)


def demo_sheet() -> Image:
    """One row: what hides the face above, what goes out below."""
    source = open_source("demo", realtime=False)
    before, after = [], []
    for moment in DEMO_MOMENTS_S:
        last = round(moment * source.rate)
        frames = [source.render(index) for index in range(last - DEMO_LEAD_IN, last + 1)]  # type: ignore[attr-defined]
        before.append(frames[-1])
        after.append(restore(frames))
    rows = [
        np.hstack([cv2.resize(image, (480, 270), interpolation=cv2.INTER_AREA) for image in row])
        for row in (before, after)
    ]
    return np.vstack(rows)


def memory_strip() -> Image:
    """Rows of the same moments: covered, restored without memory, with memory, and what was behind the hand."""
    source = open_source("demo", realtime=False)
    moments = [round(second * source.rate) for second in STRIP_S]
    rows: dict[str, list[Image]] = {"covered": [], "without memory": [], "with memory": [], "truth": []}
    pipelines = {
        "without memory": build_pipeline(SETTINGS.but(memory=False), Telemetry(), ENGINES),
        "with memory": build_pipeline(SETTINGS, Telemetry(), ENGINES),
    }
    for index in range(moments[0] - STRIP_LEAD_IN, moments[-1] + 1):
        image = source.render(index)  # type: ignore[attr-defined]
        made = {
            name: pipeline(Frame(image, index, index / source.rate))[0].image for name, pipeline in pipelines.items()
        }
        if index in moments:
            pictures = {"covered": image, **made, "truth": source.truth(index)[0]}  # type: ignore[attr-defined]
            for name, picture in pictures.items():
                rows[name].append(cv2.resize(picture[STRIP_PART], (200, 200), interpolation=cv2.INTER_AREA))
    return np.vstack([np.hstack(row) for row in rows.values()])


def network_sheet(networks: list[Path]) -> Image:
    """A row for each moment of the demo: the face with its hole, as each network fills it, and the truth."""
    from train.config import RECIPES
    from train.evaluation.restoration.methods import restore as filled
    from train.evaluation.runners import open_runner

    source, find = open_source("demo", realtime=False), open_finder("own", ENGINES.load)
    runners = [open_runner(RECIPES["restore", "base"], Path(), network, 2) for network in networks]
    rows = []
    for moment in DEMO_MOMENTS_S:
        truth, hidden = source.truth(round(moment * source.rate))  # type: ignore[attr-defined]
        frame = Frame(truth, 0, 0.0)
        faces = find(frame)
        crop = align(frame, faces[0]) if faces else None
        if crop is None:
            raise SystemExit(f"the demo's face was not found at {moment} s")
        hole = cv2.warpAffine(hidden, crop.to_crop, (CROP_PX, CROP_PX), flags=cv2.INTER_NEAREST)
        hollow = np.where(hole[..., None] > 0, 0, crop.image).astype(np.uint8)
        rows.append(np.hstack([hollow, *(filled(run, crop.image, hole) for run in runners), crop.image]))
    return np.vstack(rows)


if __name__ == "__main__":
    main()
