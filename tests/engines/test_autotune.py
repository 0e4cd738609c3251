"""The choice by measurement: the fastest way is taken, remembered, and timed again when what it hangs on changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import engines
from engines import EngineOptions, autotune, manifest
from engines.base import BufferedEngine, Precision, TensorSpec
from engines.errors import EngineRunError, EngineUnavailable
from engines.manifest import Model
from tests.harness.models import write_models


class Now:
    """A clock that only engines move."""

    seconds = 0.0


class Paced(BufferedEngine):
    """An engine whose run takes as long as its device's and precision's place in `pace`, by the clock `Now`."""

    pace: ClassVar[dict[tuple[str, str], float]] = {}
    error: EngineUnavailable | EngineRunError | None = None

    def __init__(self, model: Model, device: str, options: EngineOptions) -> None:
        if self.error is not None:
            raise self.error
        self._seconds = self.pace[device, options.precision]
        inputs = [TensorSpec(name, shape, "uint8") for name, shape in model.inputs.items()]
        outputs = [TensorSpec(name, shape, "uint8") for name, shape in model.outputs.items()]
        super().__init__(device, options.precision, inputs, outputs)

    @classmethod
    def devices(cls) -> list[str]:
        return list(dict.fromkeys(device for device, _ in cls.pace))

    @classmethod
    def precisions(cls, model: Model, device: str) -> list[Precision]:  # type: ignore[override]
        return [precision for place, precision in cls.pace if place == device]  # type: ignore[misc]

    def _execute(self) -> None:
        Now.seconds += self._seconds

    def _release(self) -> None: ...


class Early(Paced):
    backend = "early"
    pace: ClassVar = {("CPU", "bf16"): 0.004, ("CPU", "int8"): 0.003}


class Late(Paced):
    backend = "late"
    pace: ClassVar = {("CPU", "fp32"): 0.002}


@pytest.fixture(autouse=True)
def two_backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCCLUFIX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(manifest, "MODELS", write_models(tmp_path))
    monkeypatch.setattr("engines.loader.BACKENDS", {"early": f"{__name__}:Early", "late": f"{__name__}:Late"})
    monkeypatch.setattr(autotune.time, "perf_counter", lambda: Now.seconds)
    backends = {"early": Early, "late": Late}
    monkeypatch.setattr("engines.loader._backend", lambda name: backends[name])


def test_until_it_is_timed_the_table_ranks() -> None:
    engine = engines.load("hidden")

    assert (engine.backend, engine.precision) == ("early", "bf16")
    assert [(one.backend, one.reason) for one in engine.passed_over] == [
        ("early CPU int8", "ranks after early, not timed on this machine yet"),
        ("late", "ranks after early, not timed on this machine yet"),
    ]
    assert engines.timed("hidden") == []


def test_what_is_fastest_is_taken_from_then_on_and_says_why() -> None:
    found = engines.measure("hidden")

    assert [(str(one.candidate), one.p50_ms) for one in found] == [
        ("late on CPU, fp32", 2.0),
        ("early on CPU, int8", 3.0),
        ("early on CPU, bf16", 4.0),
    ]
    assert engines.timed("hidden") == found
    engine = engines.load("hidden")
    assert engine.backend == "late"
    assert [(one.backend, one.reason) for one in engine.passed_over] == [
        ("early", "takes 3.0 ms here, late on CPU, fp32 2.0")
    ]


def test_int8_has_to_gain_more_than_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Early.pace, ("CPU", "int8"), 0.0019)
    engines.measure("hidden")

    engine = engines.load("hidden")

    assert (engine.backend, engine.precision) == ("late", "fp32")
    assert [one.reason for one in engine.passed_over] == [
        "takes 1.9 ms here, late on CPU, fp32 2.0, which is more exact"
    ]
    monkeypatch.setitem(Early.pace, ("CPU", "int8"), 0.0017)
    engines.measure("hidden", again=True)
    assert engines.load("hidden").precision == "int8"


def test_it_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engines.measure("hidden")
    monkeypatch.setitem(Late.pace, ("CPU", "fp32"), 0.009)

    assert engines.measure("hidden")[0].candidate.backend == "late"
    assert engines.measure("hidden", again=True)[0].candidate.backend == "early"
    assert engines.load("hidden").backend == "early"


def test_a_choice_of_ones_own_stands_where_the_network_has_such_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    engines.measure("hidden")
    int8 = EngineOptions(precision="int8", backend="early")

    assert engines.load("hidden", EngineOptions(backend="early")).precision == "bf16"
    assert engines.load("hidden", int8).precision == "bf16"
    monkeypatch.setattr(manifest.Model, "has", lambda model, precision: True)
    assert engines.load("hidden", int8).precision == "int8"


@pytest.mark.parametrize("what", ["file", "library", "way"])
def test_a_change_makes_it_unknown(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engines.measure("hidden")
    if what == "file":
        text = (manifest.MODELS / manifest.MANIFEST).read_text(encoding="utf-8")
        digest = manifest.read_manifest()["hidden"].files["fp16"].sha256
        (manifest.MODELS / manifest.MANIFEST).write_text(text.replace(digest, "0" * 64), encoding="utf-8")
    elif what == "library":
        monkeypatch.setattr(autotune, "_version", lambda library: "1.2.3")
    else:
        monkeypatch.setitem(Late.pace, ("GPU", "fp16"), 0.001)

    assert engines.timed("hidden") == []
    assert engines.load("faces", EngineOptions(backend="late")).backend == "late"


def test_a_way_that_fails_says_so_and_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Early, "error", EngineUnavailable("no such thing here"))
    found = engines.measure("hidden")

    assert [one.p50_ms for one in found] == [2.0, None, None]
    assert found[1].reason == "no such thing here"
    assert engines.timed("hidden") == found


def test_what_failed_for_the_moment_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Early, "error", EngineRunError("the GPU is out of memory"))

    assert len(engines.measure("hidden")) == 3
    assert engines.timed("hidden") == []


def test_one_that_is_hopelessly_slow_is_not_run_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Late.pace, ("CPU", "fp32"), 2.0)
    began = Now.seconds
    engines.measure("hidden")

    assert Now.seconds - began < 20


STRANGE = '[{"candidate": {"backend": "%s", "device": "CPU", "precision": "fp32"}, "p50_ms": %s, "reason": ""}]'
DAMAGED = [b"", b"{", b'[{"candidate": 3}]', b"\xff", b"[" * 100_000, (STRANGE % ("other", 1)).encode()]
DAMAGED += [(STRANGE % ("late", time)).encode() for time in ('"fast"', "NaN", "-1", "[]")]


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: repr(content[-30:]))
def test_damaged_times_are_as_good_as_none(content: bytes) -> None:
    engines.measure("hidden")
    (times,) = Path(autotune.EngineCache().folder).glob("*.times")
    assert json.loads(times.read_text())[0]["p50_ms"] == 2.0
    times.write_bytes(content)

    assert engines.load("hidden").backend == "early"
    assert engines.measure("hidden")[0].candidate.backend == "late"


def test_a_cache_that_cannot_be_used_costs_only_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OCCLUFIX_CACHE_DIR", str(tmp_path / "file"))

    assert engines.measure("hidden")[0].candidate.backend == "late"
    assert engines.load("hidden").backend == "early"


def test_feeds_are_of_the_inputs_types() -> None:
    """An input may be float: numbers of its type are made, not refused."""
    spec = TensorSpec("x", (1, 2), "float32")
    seen: list[np.ndarray] = []

    class Noting(Paced):
        backend = "noting"

        def run(self, feeds):  # type: ignore[no-untyped-def]
            seen.append(feeds["x"])
            return super().run(feeds)

    engine = Noting.__new__(Noting)
    engine._seconds = 0.001
    BufferedEngine.__init__(engine, "CPU", "fp32", [spec], [spec])
    autotune.measure(Model("own", {}), [autotune.EngineCandidate("noting", "CPU", "fp32")], lambda candidate: engine)
    assert {feed.dtype.name for feed in seen} == {"float32"}
