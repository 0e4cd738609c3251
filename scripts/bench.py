"""Benchmarks the product's own pipeline on a clip; with `--baseline classic` also against a plain U-Net.

    python scripts/bench.py --source clip.mp4 --frames 300
    python scripts/bench.py --size 1920x1080 --faces 2
    python scripts/bench.py --source clip.mp4 --baseline classic --json
    python scripts/bench.py --engines --limit

The baseline is a 64-to-1024-channel U-Net with random weights, the class of network that such projects ship. It
alternates with the pipeline in the same process, so that other load on the machine slows both alike, and runs twice: in
ONNX Runtime with fp32, as it would ship, and on the same backend as our networks.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import engines  # noqa: E402  found through the line above
from occlufix_vcam.core.errors import OccluFixError  # noqa: E402
from occlufix_vcam.core.settings import load_settings  # noqa: E402
from occlufix_vcam.offline.benchmark import MOST_FACES, SIZE, Bench, Size, as_text  # noqa: E402

TURNS = 20


class Classic:
    """Baseline on one backend, with the time of each run."""

    def __init__(self, name: str, engine: engines.InferenceEngine) -> None:
        self.name = f"{name} ({engine.backend} on {engine.device}, {engine.precision})"
        self._engine = engine
        rng = np.random.default_rng(0)
        self._feeds = {spec.name: rng.integers(0, 256, spec.shape, np.uint8) for spec in engine.inputs}
        self._ms: list[float] = []
        engine.run(self._feeds)

    def run(self) -> None:
        began = time.perf_counter()
        self._engine.run(self._feeds)
        self._ms.append((time.perf_counter() - began) * 1e3)

    @property
    def p50_ms(self) -> float:
        return float(np.median(self._ms))

    def close(self) -> None:
        self._engine.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="how fast the pipeline is on this machine, stage by stage")
    parser.add_argument("--source", default="demo", help="a video, an image, a folder, a camera, or demo")
    parser.add_argument("--frames", type=int, default=300, help="number of frames to measure")
    parser.add_argument("--size", type=size, default=SIZE, metavar="WIDTHxHEIGHT", help="size of a frame")
    parser.add_argument("--faces", type=int, choices=range(1, MOST_FACES + 1), default=1, help="show the face so often")
    parser.add_argument("--baseline", choices=["classic"], help="also run a plain U-Net and print the ratio")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--engines", nargs="*", metavar="MODEL", help="a table of all engines instead of the pipeline")
    parser.add_argument(
        "--limit", action="store_true", help="with --engines: also the lower limit of each time on this machine"
    )
    options = parser.parse_args(arguments)
    if options.frames < 1:
        parser.error("--frames must be above 0")
    try:
        return bench(options) if options.engines is None else bench_engines(options)
    except (OccluFixError, engines.EngineError) as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return error.exit_code


def size(text: str) -> Size:
    """Width and height from a text such as 1280x720. Raises ValueError."""
    width, height = map(int, text.split("x"))
    return width, height


def bench(options: argparse.Namespace) -> int:
    settings = load_settings({"source": options.source})
    with ExitStack() as stack:
        measured = stack.enter_context(closing(Bench(settings, options.frames, options.size, options.faces)))
        baselines: list[Classic] = []
        if options.baseline:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            same = engines.EngineOptions(backend=settings.backend, precision=settings.precision)
            shipped = engines.EngineOptions(backend="onnxruntime", precision="fp32")
            baselines = open_baselines(stack, folder, {"as ours": same, "as shipped": shipped})
        measured.warm_up()
        turns = min(TURNS, options.frames) if baselines else 1
        for turn in range(turns):
            measured.measure((turn + 1) * options.frames // turns - turn * options.frames // turns)
            for baseline in baselines:
                baseline.run()
        report = measured.report()
    networks_ms = report.stages["networks"]["p50_ms"]
    ratios = {each.name: {"p50_ms": each.p50_ms, "ratio": each.p50_ms / networks_ms} for each in baselines}
    if options.json:
        print(json.dumps({**asdict(report), "classic": ratios}, indent=2))
        return 0
    print(as_text(report))
    for name, figures in ratios.items():
        print(f"classic U-Net {name}: {figures['p50_ms']:.1f} ms, {figures['ratio']:.1f} times all our networks")
    return 0


def bench_engines(options: argparse.Namespace) -> int:
    from bench_engines import as_table, measure_engines

    rows = list(measure_engines(options.engines, options.limit))
    print(json.dumps([asdict(row) for row in rows], indent=2) if options.json else as_table(rows))
    return 0


def open_baselines(stack: ExitStack, folder: Path, ways: dict[str, engines.EngineOptions]) -> list[Classic]:
    """Opens the classic U-Net once per backend; the stack closes them."""
    from classic_unet import write_classic_unet  # needs the package onnx, which only the baseline uses

    model = write_classic_unet(folder / "classic.onnx")
    return [stack.enter_context(closing(Classic(name, engines.load(model, way)))) for name, way in ways.items()]


if __name__ == "__main__":
    sys.exit(main())
