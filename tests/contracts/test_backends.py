"""What every entry of BACKENDS has to do alike: inputs and outputs, checks, determinism, closing."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable

import numpy as np
import psutil
import pytest

import engines
from engines import (
    ContractMismatch,
    EngineOptions,
    EngineRunError,
    InferenceEngine,
    manifest,
)
from engines.contract import MODEL_NAMES
from tests.harness import cuda_standin

Load = Callable[..., InferenceEngine]
Feeds = dict[str, np.ndarray]


@pytest.fixture
def feeds() -> Feeds:
    rng = np.random.default_rng(1)
    picture, mask = (1, 256, 256, 3), (1, 256, 256, 1)
    hidden = np.zeros(mask, np.uint8)
    hidden[:, 100:200, 60:180] = 255
    return {
        "face": rng.integers(0, 256, picture, dtype=np.uint8),
        "mask": hidden,
        "reference": rng.integers(0, 256, picture, dtype=np.uint8),
        "reference_mask": np.full(mask, 255, np.uint8),
    }


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_inputs_and_outputs_are_those_of_the_manifest(load: Load, name: str) -> None:
    engine, model = load(name), manifest.find_model(name)

    assert {spec.name: spec.shape for spec in engine.inputs} == model.inputs
    assert {spec.name: spec.shape for spec in engine.outputs} == model.outputs
    assert {spec.dtype for spec in engine.inputs} == {"uint8"}
    results = engine.run({spec.name: np.zeros(spec.shape, spec.dtype) for spec in engine.inputs})
    for spec in engine.outputs:
        assert (results[spec.name].shape, results[spec.name].dtype.name) == (spec.shape, spec.dtype)


def test_says_what_it_is(load: Load, backend: str, install: Callable[[str], str]) -> None:
    engine = load("restore")

    assert (engine.backend, engine.device) == (backend, install(backend))
    assert engine.precision in {"fp32", "bf16", "fp16", "int8", "none"}
    assert engine.passed_over == ()


def test_known_pixels_come_back_bit_for_bit(load: Load, feeds: Feeds) -> None:
    restored = load("restore").run(feeds)["restored"]

    hidden = feeds["mask"][..., 0] == 255
    np.testing.assert_array_equal(restored[~hidden], feeds["face"][~hidden])
    assert (restored[hidden] != feeds["face"][hidden]).mean() > 0.9


def test_two_runs_give_the_same_and_leave_the_feeds_alone(load: Load, feeds: Feeds) -> None:
    engine, before = load("restore"), {name: feed.copy() for name, feed in feeds.items()}

    first = engine.run(feeds)["restored"].copy()
    engine.run({**feeds, "face": feeds["reference"]})
    second = engine.run(feeds)["restored"]

    np.testing.assert_array_equal(first, second)
    for name, feed in feeds.items():
        np.testing.assert_array_equal(feed, before[name])


def test_two_engines_do_not_share_their_results(load: Load, feeds: Feeds) -> None:
    one, other = load("restore"), load("restore")

    first = one.run(feeds)["restored"]
    kept = first.copy()
    other.run({**feeds, "face": feeds["reference"]})

    np.testing.assert_array_equal(first, kept)


def test_takes_views_and_read_only_feeds(load: Load, feeds: Feeds) -> None:
    engine = load("restore")
    expected = engine.run(feeds)["restored"].copy()

    views = {name: np.repeat(feed, 2, axis=2)[:, :, ::2] for name, feed in feeds.items()}
    for view in views.values():
        view.flags.writeable = False

    np.testing.assert_array_equal(engine.run(views)["restored"], expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mask": None}, "face, mask, reference, reference_mask"),
        ({"frame": np.zeros((1, 2, 2, 3), np.uint8)}, "was given face, frame, mask"),
        ({"face": np.zeros((256, 256, 3), np.uint8)}, "1x256x256x3 uint8, but is 256x256x3 uint8"),
        ({"face": np.zeros((1, 256, 256, 3), np.float32)}, "1x256x256x3 uint8, but is 1x256x256x3 float32"),
    ],
)
def test_wrong_feeds_are_refused_and_do_no_harm(load: Load, feeds: Feeds, change: Feeds, said: str) -> None:
    engine = load("restore")
    expected = engine.run(feeds)["restored"].copy()

    with pytest.raises(ContractMismatch, match=said):
        engine.run({name: feed for name, feed in {**feeds, **change}.items() if feed is not None})

    np.testing.assert_array_equal(engine.run(feeds)["restored"], expected)


def test_closes_twice_and_runs_no_more(load: Load, feeds: Feeds) -> None:
    engine = load("restore")
    kept = engine.run(feeds)["restored"]
    expected = kept.copy()

    engine.close()
    engine.close()

    np.testing.assert_array_equal(kept, expected)
    with pytest.raises(EngineRunError, match="closed"):
        engine.run(feeds)


def test_lives_in_another_thread(load: Load, feeds: Feeds) -> None:
    here = load("restore").run(feeds)["restored"]
    there: list[np.ndarray] = []

    def work() -> None:
        engine = load("restore", threads=1)
        there.append(engine.run(feeds)["restored"].copy())
        engine.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    np.testing.assert_array_equal(there[0], here)


def test_open_axes_take_the_wanted_sizes(load: Load) -> None:
    engine = load("faces", input_shapes={"frame": (2, 160, 160, 3)})

    assert engine.outputs[0].shape == (2, 20, 20, 1)
    assert engine.run({"frame": np.zeros((2, 160, 160, 3), np.uint8)})["heat"].shape == (2, 20, 20, 1)


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_pictures_of_a_batch_do_not_touch_each_other(load: Load, feeds: Feeds, batch: int) -> None:
    many = {name: np.repeat(feed, batch, axis=0) for name, feed in feeds.items()}
    many["reference"][1:] = 255 - many["reference"][1:]

    together = load("restore", input_shapes={name: feed.shape for name, feed in many.items()}).run(many)["restored"]

    alone = load("restore")
    for at in range(batch):
        expected = alone.run({name: feed[at : at + 1] for name, feed in many.items()})["restored"]
        np.testing.assert_array_equal(together[at : at + 1], expected)


@pytest.mark.parametrize("picture", ["black", "white", "noise"])
def test_no_picture_makes_numbers_that_are_none(load: Load, picture: str) -> None:
    engine = load("faces")
    noise = np.random.default_rng(3).integers(0, 256, engine.inputs[0].shape, dtype=np.uint8)
    frame = {"black": np.zeros_like(noise), "white": np.full_like(noise, 255), "noise": noise}[picture]

    for name, values in engine.run({"frame": frame}).items():
        assert np.isfinite(values).all(), name


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_a_batch_gives_what_its_pictures_give_alone(load: Load, feeds: Feeds, batch: int) -> None:
    rng = np.random.default_rng(batch)
    many = {name: np.repeat(feed, batch, axis=0) for name, feed in feeds.items()}
    many["face"] = rng.integers(0, 256, many["face"].shape, dtype=np.uint8)
    one = load("restore")

    together = load("restore", input_shapes={name: feed.shape for name, feed in many.items()}).run(many)["restored"]

    assert together.shape == (batch, 256, 256, 3)
    for row in range(batch):
        alone = one.run({name: feed[row : row + 1] for name, feed in many.items()})["restored"]
        np.testing.assert_array_equal(together[row], alone[0])


def test_engines_in_many_threads_do_not_disturb_one_another(load: Load, feeds: Feeds) -> None:
    expected = load("restore").run(feeds)["restored"].copy()
    other = {**feeds, "face": feeds["reference"], "mask": np.zeros_like(feeds["mask"])}
    start = threading.Barrier(3)
    wrong: list[int] = []

    def work(number: int) -> None:
        engine = load("restore", threads=1)
        start.wait()
        for _ in range(10):
            mine = engine.run(feeds if number else other)["restored"]
            if not np.array_equal(mine, expected if number else feeds["reference"]):
                wrong.append(number)
        engine.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong


def test_runs_allocate_nothing_that_lasts(load: Load, feeds: Feeds) -> None:
    """Neither among Python's objects nor, by the size of the process, in the library; pictures are never copied."""
    engine, process = load("restore"), psutil.Process()
    if engine.backend == "fake" or engine.device == cuda_standin.DEVICE:
        pytest.skip("what stands in for a library does its work in Python")
    for _ in range(20):
        engine.run(feeds)
    tracemalloc.start()
    try:
        engine.run(feeds)
        before, resident = tracemalloc.get_traced_memory()[0], process.memory_info().rss
        tracemalloc.reset_peak()
        for _ in range(50):
            engine.run(feeds)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before < 4096
    assert peak - before < 16384  # a picture has 196,608 bytes
    assert process.memory_info().rss - resident < 50 * feeds["face"].nbytes / 2


needs_models = pytest.mark.skipif(not (manifest.MODELS / manifest.MANIFEST).exists(), reason="no model is trained yet")


@needs_models
@pytest.mark.parametrize("name", MODEL_NAMES)
def test_what_ships_is_finite_and_the_same_each_time_on_black_white_and_noise(backend: str, name: str) -> None:
    engine = engines.load(name, EngineOptions(backend=backend))
    rng = np.random.default_rng(3)
    fills: list[Callable[[tuple[int, ...]], np.ndarray]] = [
        lambda shape: np.zeros(shape, np.uint8),
        lambda shape: np.full(shape, 255, np.uint8),
        lambda shape: rng.integers(0, 256, shape, dtype=np.uint8),
    ]
    for fill in fills:
        feeds = {spec.name: fill(spec.shape) for spec in engine.inputs}
        first = {key: value.copy() for key, value in engine.run(feeds).items()}
        for key, value in engine.run(feeds).items():
            assert np.isfinite(value).all()
            np.testing.assert_array_equal(value, first[key])
    engine.close()
