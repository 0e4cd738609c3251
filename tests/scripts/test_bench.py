"""scripts/bench.py takes turns with its baseline, prints both ratios, and fails with one clear line."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench.py"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("bench_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class StandInBench:
    """Three networks that take 10 ms a frame."""

    def __init__(self, settings, frames: int, size: tuple[int, int], faces: int) -> None:
        self.measured: list[int] = []

    def warm_up(self) -> None: ...

    def measure(self, frames: int) -> None:
        self.measured.append(frames)

    def report(self):
        from occlufix_vcam.offline.benchmark import BenchReport

        figures = {"p50_ms": 10.0, "p95_ms": 11.0, "p99_ms": 12.0, "count": sum(self.measured)}
        stages = {"total": figures, "networks": figures}
        return BenchReport("demo", (1280, 720), sum(self.measured), 1, 1, stages, 20.0, 4.0, (90.0,), 5.0, {}, {})

    def close(self) -> None: ...


def test_the_report_as_json(script, monkeypatch, capsys):
    monkeypatch.setattr(script, "Bench", StandInBench)
    assert script.main(["--frames", "7", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["frames"] == 7 and report["stages"]["total"]["p50_ms"] == 10.0 and report["classic"] == {}


def test_the_baseline_runs_both_ways_between_the_frames(script, monkeypatch, capsys):
    pytest.importorskip("onnx")
    import classic_unet

    small = classic_unet.write_classic_unet
    monkeypatch.setattr(classic_unet, "write_classic_unet", lambda path: small(path, channels=(4, 8, 16), side_px=32))
    monkeypatch.setattr(script, "Bench", StandInBench)
    assert script.main(["--frames", "45", "--baseline", "classic", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["frames"] == 45
    assert len(report["classic"]) == 2
    for figures in report["classic"].values():
        assert figures["ratio"] == pytest.approx(figures["p50_ms"] / 10.0)


def test_a_missing_clip_is_one_clear_line(script, capsys):
    assert script.main(["--source", "/nowhere/clip.mp4"]) != 0
    error = capsys.readouterr().err
    assert "Traceback" not in error and len(error.strip().splitlines()) <= 2


def test_no_frames_are_no_benchmark(script, capsys):
    with pytest.raises(SystemExit, match="2"):
        script.main(["--frames", "0"])
    assert "above 0" in capsys.readouterr().err
