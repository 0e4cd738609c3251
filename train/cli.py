"""The commands of `python -m train`: data, fit, eval, export, ablation, quantise."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from engines.contract import CROP_PX, WIDE_PX
from train import checkpoint, loop
from train.config import RECIPES, Recipe
from train.data.face_set import DataError
from train.data.importers import CelebA, PictureFolder, PictureSource, TemplateSet
from train.data.prepare import prepare, summary
from train.evaluation.ablation import ablation
from train.evaluation.films.recognised import evaluate_recognition
from train.evaluation.films.whole import QUICK, SCRIPTS, evaluate_whole
from train.evaluation.plots import draw_schedule
from train.evaluation.report import EvalReport, joined
from train.evaluation.restoration.evaluate import SPLITS
from train.evaluation.runners import names_of, open_checkpoint, open_runner
from train.evaluation.video import evaluate_video
from train.export.export import LICENCE, TRAINED_ON, ExportError, export_network
from train.export.quantise import quantise_network
from train.hardware import TrainingError
from train.occlusion.preview import write_masks, write_preview
from train.schedule import ScheduleError
from train.task import DEV_SETS, TASKS, Illustrated, load_evaluation, load_task, split_option

#: What is wrong with what was given; the message is all that a person needs.
USER_ERRORS = (DataError, ExportError, ScheduleError, checkpoint.CheckpointError, TrainingError)

app = typer.Typer(help="Train, evaluate and export the networks.", no_args_is_help=True, add_completion=False)
console = Console()

DEFAULT_DATA = Path("../shared/data")
Network = Annotated[str, typer.Argument(help=f"one of {', '.join(TASKS)}")]
Data = Annotated[Path, typer.Option(help="folder with train/, eval/, occluders/, scenes/ ...")]


@app.command()
def fit(
    network: Network,
    recipe: Annotated[str, typer.Option(help="debug, base or full")] = "base",
    data: Data = DEFAULT_DATA,
    out: Annotated[Path | None, typer.Option(help="run folder; run folder; a run there resumes")] = None,
    minutes: Annotated[float, typer.Option(help="stop after this time; run again to go on")] = math.inf,
    threads: Annotated[int | None, typer.Option(help="processor threads")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="processes that make samples; 0: none beside this one")
    ] = None,
    size: Annotated[int | None, typer.Option(help="side of a training picture, pixels")] = None,
    batch: Annotated[int | None, typer.Option(help="pictures a step")] = None,
    steps: Annotated[int | None, typer.Option(help="length of the whole run")] = None,
    weight: Annotated[list[str] | None, typer.Option(help="NAME=VALUE: a loss's final weight, or 0")] = None,
    backbone: Annotated[str | None, typer.Option(help="of the perceptual loss: auto, vgg16 or squeezenet")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bf16, fp16 or off")] = None,
    compile_: Annotated[bool | None, typer.Option("--compile", help="compile the networks with torch")] = None,
    attention: Annotated[bool | None, typer.Option("--attention", help="of the restorer, at 16x16")] = None,
    copy: Annotated[bool | None, typer.Option("--copy", help="the restorer can copy from its reference")] = None,
    copy_alone: Annotated[bool | None, typer.Option("--copy-alone", help="with --copy: trains that part alone")] = None,
    another: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="how often a reference is another photograph, not the same one bent"),
    ] = None,
    much_hidden: Annotated[
        float | None, typer.Option(min=0, max=1, help="share of samples in which 60 to 90 % of the face is hidden")
    ] = None,
    adversary: Annotated[str | None, typer.Option(help="of the restorer: hinge or logistic")] = None,
    adversaries_from: Annotated[
        float | None, typer.Option(help="share of the run, 0 to 1, from which the restorer's adversaries count")
    ] = None,
    full_weights: Annotated[
        bool | None, typer.Option("--full-weights", help="losses but adversaries do not rise: for a trained restorer")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="after the warm-up; it falls to 5 % of that")] = None,
    warm_up: Annotated[int | None, typer.Option(min=0, help="steps over which the learning rate rises")] = None,
    freeze_statistics: Annotated[
        bool | None, typer.Option("--freeze-statistics", help="batch norm keeps the statistics that the network has")
    ] = None,
    plot_schedule: Annotated[
        Path | None, typer.Option(help="draw the schedule of the loss weights into this PNG and exit")
    ] = None,
    grow: Annotated[bool, typer.Option("--grow", help="start modules that the checkpoint lacks from scratch")] = False,
    start_from: Annotated[Path | None, typer.Option(help="exported weights to start a new run from")] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="with --start-from: take the network only and start at step 0")
    ] = False,
) -> None:
    """Trains a network. A run in the same folder resumes."""
    changes = {"threads": threads, "size_px": size, "batch": batch, "steps": steps, "backbone": backbone}
    changes |= {"weights": _weights(weight) if weight else None, "device": device, "compile": compile_}
    changes |= {"workers": workers, "autocast": precision, "attention": attention, "adversary": adversary}
    changes |= {"adversaries_from": adversaries_from, "learning_rate": learning_rate, "warm_up": warm_up}
    changes |= {"freeze_statistics": freeze_statistics, "full_weights": full_weights}
    changes |= {"copy": copy, "copy_alone": copy_alone, "another": another, "much_hidden": much_hidden}
    chosen = _recipe(network, recipe).but(**{name: value for name, value in changes.items() if value is not None})
    if anew and start_from is None:
        raise typer.BadParameter("--anew takes the network of weights: name them with --start-from")
    folder = out or Path("runs") / network
    task = load_task(chosen, data)
    if weight and not isinstance(task, Illustrated):
        raise ScheduleError(f"the losses of `{network}` have no weights to choose; leave out --weight")
    if plot_schedule is not None:
        draw_schedule(task, chosen.steps, plot_schedule)
        console.print(f"weights of the losses over {chosen.steps} steps: {plot_schedule}")
        return
    step = loop.fit(task, chosen, folder, minutes, console, grow, start_from, anew)
    console.print(f"step {step} of {chosen.steps}; checkpoint in {folder / loop.CHECKPOINT}")


@app.command("eval")
def evaluate(
    network: Network,
    run: Annotated[Path | None, typer.Option(help="run folder, checkpoint or ONNX file")] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="ONNX file, checkpoint or run folder to compare with; repeatable")
    ] = None,
    data: Data = DEFAULT_DATA,
    out: Annotated[Path | None, typer.Option(help="folder for tables, JSON and contact sheets")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="measure only so many pictures of each kind")] = None,
    threads: Annotated[int, typer.Option(min=1, help="processor threads")] = 2,
    video: Annotated[bool, typer.Option("--video", help="measure what the installed product makes of films")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="with --video: two short films of the dev set")] = False,
    whole: Annotated[bool, typer.Option("--whole", help="with --video: things beyond the template only")] = False,
    split: Annotated[
        str, typer.Option(help="restore: choices are made on `dev`, people kept from training; `eval` is for the end")
    ] = "eval",
) -> None:
    """Evaluates a network on held-out images, beside the baselines."""
    if split not in SPLITS or (split != "eval" and network not in DEV_SETS):
        raise typer.BadParameter("--split is `eval`, or for restore `dev`")
    if video:
        scripts = QUICK if quick else SCRIPTS[split][:limit]
        report = evaluate_whole(data, scripts, out, console)
        if not quick and not whole:
            films = joined(
                evaluate_video(data, out, limit, threads, console), evaluate_recognition(data, limit, console)
            )
            report = joined(films, report)
        _show(report, out)
        return
    recipe = _recipe(network, "base")
    paths = [run or Path("runs") / network, *(against or [])]
    runners = {name: open_runner(recipe, data, path, threads) for name, path in names_of(paths).items()}
    _show(load_evaluation(network)(runners, data, out, limit, threads, console, **split_option(network, split)), out)


def _show(report: EvalReport, out: Path | None) -> None:
    if out is not None:
        report.write(out)
        console.print(f"tables, JSON and contact sheets in {out}")
    console.print(report.tables, markup=False, soft_wrap=True)


@app.command("data")
def prepare_data(
    celeba: Annotated[Path | None, typer.Option(help="folder of CelebA as downloaded")] = None,
    pictures: Annotated[list[Path] | None, typer.Option(help="folder of any pictures; may be repeated")] = None,
    template: Annotated[Path | None, typer.Option(help="folder with train/index.jsonl, already aligned")] = None,
    out: Annotated[Path, typer.Option(help="folder of the shards; or of the masks")] = Path("runs/data"),
    people: Annotated[bool, typer.Option("--people", help="each sub-folder holds pictures of one person")] = False,
    held_out: Annotated[float, typer.Option(min=0, max=0.9, help="share of --pictures kept for evaluation")] = 0.03,
    partial: Annotated[bool, typer.Option("--partial", help="take what is present of a half-unpacked CelebA")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="threads; default: one for each core")] = None,
    preview: Annotated[Path | None, typer.Option(help="write a contact sheet of occluders (PNG) and exit")] = None,
    masks_only: Annotated[Path | None, typer.Option(help="write masks for the images of this folder and exit")] = None,
    shape: Annotated[str | None, typer.Option(help="with --masks-only: one shape; a random one if not given")] = None,
    seed: Annotated[int, typer.Option(help="of --preview and --masks-only")] = 0,
    data: Data = DEFAULT_DATA,
) -> None:
    """Aligns images and packs them into shards for `fit --data OUT`. Run again to resume."""
    if preview is not None:
        write_preview(data, preview, seed)
        console.print(f"contact sheet in {preview}")
    if masks_only is not None:
        for line in write_masks(masks_only, out, shape, seed):
            console.print(line, markup=False)
    sources: list[PictureSource] = [CelebA(celeba, partial)] if celeba else []
    sources += [PictureFolder(folder, people, held_out) for folder in pictures or ()]
    sources += [TemplateSet(template)] if template else []
    if not sources and preview is None and masks_only is None:
        raise typer.BadParameter("give --celeba, --pictures or --template; or --preview, or --masks-only")
    for source in sources:
        for line in summary(prepare(source, out, console, workers), out):
            console.print(line, markup=False)


@app.command()
def export(
    network: Network,
    run: Annotated[Path | None, typer.Option(help="run folder")] = None,
    data: Data = DEFAULT_DATA,
    models: Annotated[Path, typer.Option(help="folder of the ONNX files and models.toml")] = Path("engines/models"),
    weights: Annotated[Path, typer.Option(help="folder of weights for --start-from")] = Path("train/weights"),
    figures: Annotated[Path | None, typer.Option(help="figures.json of `eval`, kept in models.toml")] = None,
    one: Annotated[bool, typer.Option("--one", help="files that take one picture, instead of any batch")] = False,
    licence: Annotated[str, typer.Option(help="licence of the network")] = LICENCE,
    trained_on: Annotated[str, typer.Option(help="what it was trained on")] = TRAINED_ON,
) -> None:
    """Writes FP32 and FP16 ONNX files, checks them against torch, and enters them in models.toml and MODEL_CARD.md."""
    folder = run or Path("runs") / network
    task, content = open_checkpoint(_recipe(network, "base"), data, folder / loop.CHECKPOINT)
    metrics = json.loads(figures.read_text(encoding="utf-8")) if figures else {}
    for line in export_network(task, content, models, metrics, data, one, licence, trained_on):
        console.print(line)
    kept = weights / f"{network}.safetensors"
    checkpoint.write_weights(kept, content)
    console.print(f"{kept}: {kept.stat().st_size / 1e6:.1f} MB, for `fit {network} --start-from`")


@app.command("ablation")
def compare_losses(
    recipe: Annotated[str, typer.Option(help="debug, base, full or vit")] = "base",
    data: Data = DEFAULT_DATA,
    out: Annotated[Path, typer.Option(help="folder of its runs; they are resumed")] = Path("runs/ablation"),
    minutes: Annotated[float, typer.Option(help="stop each run after this time; run again to go on")] = math.inf,
    steps: Annotated[int | None, typer.Option(help="length of each run")] = None,
    size: Annotated[int | None, typer.Option(help="side of a training picture, pixels")] = None,
    batch: Annotated[int | None, typer.Option(help="pictures a step")] = None,
    threads: Annotated[int | None, typer.Option(help="processor threads")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="processes that make samples; 0: none beside this one")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="measure only so many pictures of each kind")] = None,
    start_from: Annotated[
        Path | None, typer.Option(help="exported weights that each run starts from, at step 0, as one trained on")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="of the groups; repeatable, all if not given")] = None,
) -> None:
    """Trains the restorer with growing groups of losses and compares them."""
    changes = {"steps": steps, "size_px": size, "batch": batch, "threads": threads, "workers": workers}
    chosen = _recipe("restore", recipe).but(**{name: value for name, value in changes.items() if value is not None})
    if start_from is not None:  # a trained network has its structure already, and its statistics
        chosen = chosen.but(full_weights=True, freeze_statistics=True, learning_rate=2e-4, adversaries_from=0.0)
    report = ablation(chosen, data, out, minutes, limit, console, start_from, only or ())
    if report is None:
        console.print("time is up; run the same command again to continue")
    else:
        _show(report, out)


def _weights(given: list[str]) -> dict[str, float]:
    try:
        return {name: float(value) for name, _, value in (item.partition("=") for item in given)}
    except ValueError:
        raise typer.BadParameter(f"a weight is NAME=VALUE, such as adv_patch=0.1, not `{' '.join(given)}`") from None


@app.command()
def quantise(
    network: Network,
    data: Data = DEFAULT_DATA,
    models: Annotated[Path, typer.Option(help="folder of the ONNX files and models.toml")] = Path("engines/models"),
    samples: Annotated[int, typer.Option(min=1, help="training samples to calibrate on")] = 64,
    limit: Annotated[int | None, typer.Option(min=1, help="measure only so many pictures of each kind")] = None,
    threads: Annotated[int, typer.Option(min=1, help="processor threads")] = 2,
) -> None:
    """Quantises an exported FP32 model to int8 and adds it to models.toml if it loses little."""
    task = load_task(_recipe(network, "base").but(size_px=WIDE_PX if network == "hidden" else CROP_PX, batch=1), data)
    for line in quantise_network(task, data, models, samples, limit, threads):
        console.print(line)


def _recipe(network: str, name: str) -> Recipe:
    try:
        return RECIPES[network, name]
    except KeyError:
        known = ", ".join(f"{network_} {name_}" for network_, name_ in RECIPES)
        raise typer.BadParameter(f"there is no recipe `{name}` for `{network}`; there are: {known}") from None


def main() -> None:
    """Runs a command; exit code 2 with one line where what was given is wrong."""
    try:
        app()
    except USER_ERRORS as error:
        console.print(said(error), style="red", markup=False)
        raise SystemExit(2) from None


def said(error: Exception) -> str:
    """An error's own words; one that comes from a worker process has a traceback around them."""
    lines = str(error).strip().splitlines() or [""]
    return lines[-1].split("Error: ", 1)[-1] if "in DataLoader worker" in lines[0] else str(error)
