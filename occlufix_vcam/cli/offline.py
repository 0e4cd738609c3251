"""Commands that need no daemon: process, bench, build-engine."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from occlufix_vcam.cli.render import counted, print_check, print_kept_engines, progress
from occlufix_vcam.core.errors import DeviceError
from occlufix_vcam.core.media.film_formats import Quality
from occlufix_vcam.core.settings import load_settings

if TYPE_CHECKING:
    from occlufix_vcam.offline.engine_check import EngineCheck
    from occlufix_vcam.offline.process import ProcessReport


def process(
    source: Annotated[Path, typer.Argument(metavar="IN", help="an image, a film or a folder of both")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="the output file; a folder if IN is one")],
    mask: Annotated[
        Path | None, typer.Option(metavar="FILE", help="mask, white where hidden; a folder if IN is one")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="FILE", help="a photograph of the same person, unhidden")
    ] = None,
    aligned: Annotated[
        bool, typer.Option("--aligned", help="IN is already aligned: a 256x256 crop in the template")
    ] = False,
    side_by_side: Annotated[bool, typer.Option("--side-by-side", help="show before and after side by side")] = False,
    quality: Annotated[
        Quality, typer.Option(help="how well films are encoded; auto is lossless in .mkv, high elsewhere")
    ] = Quality.AUTO,
    person: Annotated[
        str | None, typer.Option(metavar="NAME", help="enrolled person whom every face shows; none: recognise nobody")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write statistics of each file to this JSON file")
    ] = None,
) -> None:
    """Restores an image, a film or a folder of both with the live pipeline; sound, subtitles and dates stay."""
    from occlufix_vcam.offline.process import StageOverrides
    from occlufix_vcam.offline.process import process as run
    from occlufix_vcam.system.core_dumps import disable_core_dumps

    disable_core_dumps()
    overrides = StageOverrides(mask, reference, aligned, side_by_side, quality, person)
    with _cleaned_up(), progress(source.name, share=True) as show:
        told = run(source, target, overrides, load_settings(), show, report)
    if report is not None:
        told.save(report)
    _tell(told)
    if any(one.error for one in told.files):
        raise typer.Exit(DeviceError.exit_code)


@contextlib.contextmanager
def _cleaned_up() -> Iterator[None]:
    """Ends as on Ctrl-C, leaving no unfinished file, where the terminal closes or the system shuts down."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    defaults = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in defaults:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in defaults:
            signal.signal(number, signal.SIG_DFL)


def _tell(told: ProcessReport) -> None:
    """Prints what was done, and what could not be."""
    for one in told.files:
        if one.error:
            typer.echo(f"{'incomplete' if one.out else 'left out'}: {one.file}: {one.error}", err=True)
        for note in one.notes:
            typer.echo(f"{one.file}: {note}", err=True)
    names = sorted({name for one in told.files for name in one.recognised})
    known = f", recognised {', '.join(names)}" if names else ""
    written = sum(one.out is not None for one in told.files)
    restored = sum(one.restored for one in told.files)
    skipped = f", {told.skipped} other files skipped" if told.skipped else ""
    typer.echo(
        f"{written} of {counted(len(told.files), 'file')} written, {counted(restored, 'face')} restored{known}{skipped}"
    )


def bench(
    source: Annotated[
        str, typer.Option(metavar="SOURCE", help="a video, an image, a folder, a camera, or demo")
    ] = "demo",
    frames: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="number of frames to measure")] = 300,
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """Measures the live pipeline on this machine, stage by stage."""
    from occlufix_vcam.offline.benchmark import Bench, as_text

    settings = load_settings({"source": source})
    with contextlib.closing(Bench(settings, frames)) as measured, progress("measuring") as show:
        measured.warm_up()
        measured.measure(frames, show)
        report = measured.report()
    typer.echo(json.dumps(asdict(report)) if as_json else as_text(report))


def build_engine(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="models to build; default: all")
    ] = None,
    backend: Annotated[str | None, typer.Option(metavar="NAME", help="engine backend; auto picks the fastest")] = None,
    precision: Annotated[str | None, typer.Option(metavar="NAME", help="fp16, bf16, int8 or fp32")] = None,
    onnx: Annotated[
        Path | None, typer.Option(metavar="FILE", help="an ONNX file to build instead of the model's own")
    ] = None,
    for_: Annotated[
        str,
        typer.Option("--for", metavar="GPUS", help="also build TensorRT engines for these GPUs, such as sm86,portable"),
    ] = "",
    list_: Annotated[bool, typer.Option("--list", help="list the cached engines and exit")] = False,
    clean: Annotated[bool, typer.Option("--clean", help="delete the cached engines and exit")] = False,
) -> None:
    """Builds engines, checks them against the FP32 models on 64 crops, times both and keeps those that pass."""
    if list_ or clean:
        _kept_engines(clean)
        return
    from engines.contract import MODEL_NAMES
    from occlufix_vcam.offline.build_engine import build_engines

    given = {"backend": backend, "precision": precision}
    settings = load_settings({name: value for name, value in given.items() if value is not None})
    architectures = [name.strip() for name in for_.split(",") if name.strip()]
    named = models or ([] if onnx else MODEL_NAMES)
    checks: list[EngineCheck] = []
    try:
        with progress("looking") as show:
            checks.extend(
                build_engines(
                    named, onnx, settings, architectures, lambda what, share: show(int(100 * share), 100, what)
                )
            )
    finally:  # reports the ones that passed even if a later one fails
        for check in checks:
            print_check(check)
    if settings.backend == settings.precision == "auto" and not onnx and not architectures:
        _print_times(named)


def _print_times(models: Sequence[str]) -> None:
    import engines

    for model in models:
        with progress(f"timing {model}"):
            found = engines.measure(model, again=True)
        typer.echo(f"{model}, fastest first: {'; '.join(map(str, found))}")


def _kept_engines(clean: bool) -> None:
    from engines.cache import EngineCache

    cache = EngineCache()
    if not clean:
        print_kept_engines(cache)
        return
    count, freed = cache.clean()
    typer.echo(f"{count} engines deleted, {freed / 1e6:.1f} MB freed in {cache.folder}")
