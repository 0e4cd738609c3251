"""Packs what a rented GPU needs into blocks: the training's code, its data, and networks to measure.

    python -m scripts.rented_gpu.pack --data DATA --out KIT

Pack again after a change: blocks that are the same stay untouched, so that only what changed has to travel.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from scripts.rented_gpu import blocks

ROOT = Path(__file__).parents[2]
#: What a block, and all that travels in one go, may weigh.
BLOCK_BYTES, TRIP_BYTES = 20 * blocks.MIB, 64 * blocks.MIB
#: The archives by name: patterns of files. `code` is small, as it travels after every change.
CODE = (
    "engines/**/*.py",
    "train/**/*.py",
    "scripts/rented_gpu/*.py",
    "engines/models/models.toml",
    "engines/models/hidden.fp32.onnx",  # says which faces are bare, and what is hidden
    "engines/models/embed.fp32.onnx",  # the loss `identity`
)
WEIGHTS = ("train/weights/restore.safetensors",)
MEASURED = ("engines/models/restore.fp32.onnx", "engines/models/restore.fp16.onnx")
DATA = (
    "train/**/*",
    "wide/train*",
    "occluders/train/**/*",
    "occluders/mask_*/*",
    "hands/**/*",
    "weights/squeezenet_v1.0_imagenet_fp16.onnx",
)


def pack(data: Path, out: Path, wheels: Iterable[Path] = ()) -> dict[str, list[dict[str, object]]]:
    """Writes the blocks, the manifest and the program that unpacks them into `out`; gives the manifest.

    `wheels` are packages that the machine lacks. What is below code/ and data/ of each archive is where `start` looks.
    """
    archives = {
        "code.tar": archive(_found(ROOT, CODE), "code"),
        "weights.tar": archive(_found(ROOT, WEIGHTS), "code"),
        "measured.tar": archive(_found(ROOT, MEASURED), "code"),
        "data.tar": archive(_found(data, DATA), "data"),
    }
    wheels = list(wheels)
    if wheels:
        archives["wheels.tar"] = archive({wheel.name: wheel for wheel in wheels}, "wheels")
    manifest = {name: blocks.split(content, name, out, BLOCK_BYTES) for name, content in archives.items()}
    blocks.replace(out / blocks.MANIFEST, json.dumps(manifest, indent=1).encode())
    shutil.copy(blocks.__file__, out / "blocks.py")
    return manifest


def archive(files: Mapping[str, Path], folder: str) -> bytes:
    """A tar of files by name; the same bytes for the same content."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode = files[name].stat().st_size, 0o644
            with files[name].open("rb") as file:
                tar.addfile(entry, file)
    return content.getvalue()


def trips(manifest: Mapping[str, Iterable[Mapping[str, object]]]) -> Iterator[list[str]]:
    """The blocks in the order in which they travel, as many at a time as may."""
    trip: list[str] = []
    left = TRIP_BYTES
    for block in (block for archive in manifest.values() for block in archive):
        name, size = str(block["name"]), int(str(block["bytes"]))
        if trip and size > left:
            yield trip
            trip, left = [], TRIP_BYTES
        trip.append(name)
        left -= size
    yield trip


def _found(root: Path, patterns: Iterable[str]) -> dict[str, Path]:
    files = {path for pattern in patterns for path in root.glob(pattern) if path.is_file()}
    return {path.relative_to(root).as_posix(): path for path in files if "__pycache__" not in path.parts}


def main(
    data: Annotated[Path, typer.Option(help="the data folder")] = Path("../shared/data"),
    out: Annotated[Path, typer.Option(help="folder of the kit")] = Path("runs/kit"),
    wheel: Annotated[list[Path] | None, typer.Option(help="a package that the machine lacks; repeatable")] = None,
) -> None:
    """Packs the kit and says what travels in which trip."""
    manifest = pack(data, out, wheel or ())
    for number, names in enumerate(trips(manifest), 1):
        typer.echo(f"trip {number}: {', '.join(names)}")


if __name__ == "__main__":
    typer.run(main)
