"""The kit for a rented GPU, in a folder laid out as such a machine: few packages, and nothing but what travels."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.rented_gpu import blocks, measure, pack, start, weights_back

#: Packages that such a machine lacks.
ABSENT = ("webdataset", "tomli_w", "tomlkit", "openvino", "platformdirs", "fastapi", "av", "occlufix_vcam")
#: The debug recipe, with losses that need no other network; later options win.
DEBUG = (
    *("--recipe", "debug", "--size", "64", "--batch", "2", "--workers", "0"),
    *(f"--weight={name}=0" for name in ("perceptual", "style", "adv_projected", "feature_matching", "identity")),
)
#: What comes back: files at most, and bytes of each.
MOST_BACK, BACK_BYTES = 8, 16 * blocks.MIB


def test_what_was_split_comes_together_and_damage_is_named(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10
    parts = blocks.split(content, "some", tmp_path, 1000)
    assert [part["bytes"] for part in parts] == [1000, 1000, 560]
    assert blocks.join(parts, tmp_path) == content
    (tmp_path / "some.01").write_bytes(b"0" * 1000)
    with pytest.raises(blocks.KitError, match=r"some\.01 is missing or damaged: send it again"):
        blocks.join(parts, tmp_path)


def test_packing_again_touches_only_what_changed(tmp_path: Path) -> None:
    blocks.split(b"a" * 1500, "some", tmp_path, 1000)
    (tmp_path / "some.00").touch()
    before = {file.name: file.stat().st_ino for file in tmp_path.iterdir()}
    blocks.split(b"a" * 1000 + b"b" * 500, "some", tmp_path, 1000)
    assert {file.name for file in tmp_path.iterdir() if file.stat().st_ino != before[file.name]} == {"some.01"}


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.train.conftest import write_faces

    folder = tmp_path_factory.mktemp("kit")
    write_faces(folder / "data")
    pack.pack(folder / "data", folder / "kit")
    return folder / "kit"


def test_blocks_and_trips_are_small_enough(kit: Path) -> None:
    manifest = json.loads((kit / blocks.MANIFEST).read_text())
    sizes = {block["name"]: block["bytes"] for archive in manifest.values() for block in archive}
    assert max(sizes.values()) <= 20 * blocks.MIB
    trips = list(pack.trips(manifest))
    assert all(sum(sizes[name] for name in trip) <= 64 * blocks.MIB for trip in trips)
    assert [name for trip in trips for name in trip] == list(sizes)
    assert sum(block["bytes"] for block in manifest["code.tar"]) < 20 * blocks.MIB  # it travels after every change


def receive(kit: Path, work: Path) -> str:
    """What the machine's own Python says, without the project."""
    command = [sys.executable, "-I", str(kit / "blocks.py"), str(kit), str(work)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=kit).stdout


def test_what_comes_in_several_trips_is_unpacked_when_it_is_complete(kit: Path, tmp_path: Path) -> None:
    manifest = json.loads((kit / blocks.MANIFEST).read_text())
    first, *rest = [block["name"] for block in manifest["measured.tar"]]
    trip = tmp_path / "trip"
    trip.mkdir()
    for name in (blocks.MANIFEST, "blocks.py", first):
        shutil.copy(kit / name, trip)
    assert f"measured.tar: still to come: {', '.join(rest)}" in receive(trip, tmp_path / "work")
    (trip / first).unlink()
    for name in rest:
        shutil.copy(kit / name, trip)
    assert "measured.tar: unpacked" in receive(trip, tmp_path / "work")
    assert (tmp_path / "work/code/engines/models/restore.fp16.onnx").stat().st_size > 10 * blocks.MIB
    assert "measured.tar: there already" in receive(trip, tmp_path / "work")


def test_of_two_sets_of_weights_the_newest_that_is_whole_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_back, "PIECE_BYTES", 10)
    back, out = tmp_path / "back", tmp_path / "weights"
    back.mkdir()
    assert not weights_back.fetch("coarse", back, out)
    for step in (100, 200, 300):
        out.write_bytes(b"%d" % step * 8)
        weights_back.send(out, step, "coarse", back)
    assert weights_back.fetch("coarse", back, out) and out.read_bytes() == b"300" * 8
    assert json.loads((back / "coarse-a.json").read_text())["step"] == 300
    (back / "coarse-a.02").unlink()
    assert weights_back.fetch("coarse", back, out) and out.read_bytes() == b"200" * 8


@pytest.fixture(scope="module")
def machine(kit: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Starts a run on a machine that has what was unpacked, and lacks packages; gives what it says."""
    place = tmp_path_factory.mktemp("machine")
    assert "still to come" not in receive(kit, place)
    absent = place / "absent"
    absent.mkdir()
    for name in ABSENT:
        (absent / f"{name}.py").write_text(f"raise ModuleNotFoundError('{name} is not on this machine')")
    variables = {**os.environ, "PYTHONPATH": str(absent), "OMP_NUM_THREADS": "1"}

    def begin(run: str, *options: str) -> str:
        places = [f"--data={place / 'data'}", f"--work={place / 'runs'}", f"--pieces={place / 'pieces'}"]
        places += [f"--back={place / 'back'}"]
        command = [sys.executable, "-m", "scripts.rented_gpu.start", run, *places, *DEBUG, *options]
        done = subprocess.run(command, cwd=place / "code", env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    begin.place = place  # type: ignore[attr-defined]
    return begin


def test_a_lost_run_goes_on_from_what_came_back(machine: Callable[..., str]) -> None:
    place: Path = machine.place  # type: ignore[attr-defined]
    assert "resumed at step 0" in machine("coarse", "--steps=2")
    back = list((place / "back").iterdir())
    assert len(back) <= MOST_BACK and max(file.stat().st_size for file in back) < BACK_BYTES

    shutil.rmtree(place / "runs")  # the machine is gone
    (place / "back").rename(place / "pieces")
    assert "resumed at step 2" in machine("coarse", "--steps=4")
    assert len(list((place / "back").iterdir())) <= MOST_BACK


def test_a_run_begins_with_the_weights_of_the_one_before(tmp_path: Path) -> None:
    assert start.starting_weights("full", tmp_path, tmp_path) == ["--start-from", str(start.SHIPPED), "--anew"]
    before = tmp_path / "before"
    before.write_bytes(b"weights")
    weights_back.send(before, 7, "coarse", tmp_path)
    file = tmp_path / "coarse.safetensors"
    assert start.starting_weights("full", tmp_path, tmp_path) == ["--start-from", str(file), "--anew"]
    assert file.read_bytes() == b"weights"
    assert start.starting_weights("coarse", tmp_path, tmp_path) == ["--start-from", str(file)]


def test_what_a_machine_without_a_gpu_cannot_measure_says_why(data: Path) -> None:
    lines = list(measure.tables(data, quick=True))
    said = "\n".join(lines)
    assert "| torch fp16 | skipped: torch sees no GPU |" in said
    assert "| ONNX Runtime CUDA fp32 | skipped: this onnxruntime has no CUDA |" in said
    assert "| tensorrt fp32 | skipped: " in said
    assert [line for line in lines if line.startswith("| onnxruntime fp32 | ") and "p95" in line]
    assert said.count("skipped: torch sees no GPU |") == 4  # two of them are the memory of training
