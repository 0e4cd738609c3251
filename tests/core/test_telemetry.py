"""Telemetry gives true figures, counts repeated trouble instead of shouting it, and its log file rotates."""

from __future__ import annotations

import logging
import threading

import pytest

from occlufix_vcam.core import telemetry as telemetry_module
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.telemetry import SaidOnce, Telemetry, configure_logging


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_percentiles_of_recorded_stages():
    telemetry = Telemetry()
    for ms in range(1, 101):
        telemetry.record("find", ms / 1e3)
    figures = telemetry.percentiles()["find"]
    assert figures["p50_ms"] == pytest.approx(50.5)
    assert figures["p95_ms"] == pytest.approx(95.05)
    assert figures["p99_ms"] == pytest.approx(99.01)
    assert figures["count"] == 100


def test_only_the_newest_spans_count_for_percentiles():
    telemetry = Telemetry(window=10)
    for _ in range(50):
        telemetry.record("find", 1.0)
    for _ in range(10):
        telemetry.record("find", 0.002)
    figures = telemetry.percentiles()["find"]
    assert figures["p99_ms"] == pytest.approx(2.0)
    assert figures["count"] == 60


def test_a_span_is_recorded_even_where_the_block_raises():
    telemetry = Telemetry()
    with pytest.raises(RuntimeError), telemetry.span("restore"):
        raise RuntimeError
    with telemetry.span("restore"):
        pass
    assert telemetry.percentiles()["restore"]["count"] == 2


def test_rate_follows_the_ticks_and_falls_to_zero():
    clock = Clock()
    telemetry = Telemetry(clock=clock)
    assert telemetry.rate("output") == 0.0
    for _ in range(90):
        clock.now += 1 / 30
        telemetry.tick("output")
    assert telemetry.rate("output") == pytest.approx(30.0, rel=0.01)
    clock.now += 5
    assert telemetry.rate("output") == 0.0


def test_counts_from_many_threads_add_up():
    telemetry = Telemetry(window=16)

    def work() -> None:
        for _ in range(500):
            telemetry.count("dropped")
            telemetry.record("find", 0.001)
            telemetry.percentiles()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert telemetry.counts() == {"dropped": 1500}
    assert telemetry.percentiles()["find"]["count"] == 1500


def test_reset_forgets():
    telemetry = Telemetry()
    telemetry.record("find", 1.0)
    telemetry.count("dropped")
    telemetry.tick("output")
    telemetry.reset()
    assert telemetry.percentiles() == {} and telemetry.counts() == {} and telemetry.rate("output") == 0.0


def test_repeated_trouble_is_said_once_in_ten_seconds(caplog):
    clock = Clock()
    said = SaidOnce(logging.getLogger("occlufix_vcam.test"), clock=clock)
    for _ in range(300):
        said.warning("frame %d failed", 7)
    said.warning("another trouble")
    assert caplog.messages == ["frame 7 failed", "another trouble"]
    clock.now += 10
    said.warning("frame %d failed", 8)
    assert caplog.messages[-1] == "frame 8 failed (and 299 more times before)"


@pytest.fixture
def loggers_as_they_were():
    loggers = [logging.getLogger(name) for name in telemetry_module.LOGGER_NAMES]
    before = [(logger, list(logger.handlers), logger.level) for logger in loggers]
    yield
    for logger, handlers, level in before:
        for handler in set(logger.handlers) - set(handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)


def test_the_log_file_rotates_and_a_second_call_replaces_the_first(tmp_path, monkeypatch, loggers_as_they_were):
    monkeypatch.setattr(telemetry_module, "LOG_BYTES", 500)
    first, second = tmp_path / "first.log", tmp_path / "state" / "second.log"
    configure_logging(first)
    configure_logging(second)
    for number in range(50):
        logging.getLogger("occlufix_vcam.pipeline").info("line %d", number)
    logging.getLogger("engines").info("the end")
    assert first.read_text() == ""
    assert "the end" in second.read_text()
    assert sorted(path.name for path in second.parent.iterdir()) == [
        "second.log", "second.log.1", "second.log.2", "second.log.3",
    ]  # fmt: skip


def test_a_log_file_that_can_not_be_written_is_a_settings_error(tmp_path, loggers_as_they_were):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="log file"):
        configure_logging(tmp_path / "file" / "daemon.log")
