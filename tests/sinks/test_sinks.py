"""Several sinks as one, and the one door to open them by."""

from __future__ import annotations

from pathlib import Path

import pytest

from occlufix_vcam.errors import ConfigError, SinkUnavailable
from occlufix_vcam.sinks import Sinks, open_sink
from tests.sinks.fakes import FakeSink, frame_of

FRAME = frame_of((8, 8))


def test_every_sink_gets_every_frame() -> None:
    one, two = FakeSink("one"), FakeSink("two")
    sinks = Sinks([one, two])
    for _ in range(3):
        sinks.send(FRAME)
    assert (one.sent, two.sent, sinks.name) == (3, 3, "one, two")


@pytest.mark.parametrize("error", [SinkUnavailable("gone"), ValueError("our own fault")])
def test_one_that_fails_is_closed_told_once_and_does_not_stop_the_others(error: Exception) -> None:
    bad, good = FakeSink("bad", breaks=error), FakeSink("good")
    told: list[tuple[object, Exception]] = []
    sinks = Sinks([bad, good], on_failure=lambda sink, why: told.append((sink, why)))
    for _ in range(3):
        sinks.send(FRAME)
    assert told == [(bad, error)] and sinks.failures == {"bad": str(error)}
    assert (good.sent, bad.closed, sinks.open) == (3, 1, (good,))


def test_one_that_does_not_even_close_does_not_stop_the_others() -> None:
    bad, good = FakeSink("bad", breaks=SinkUnavailable("gone"), close_breaks="stuck"), FakeSink("good")
    Sinks([bad, good]).send(FRAME)
    assert good.sent == 1


def test_when_all_have_failed_every_reason_is_said() -> None:
    sinks = Sinks([FakeSink("one", breaks=SinkUnavailable("gone")), FakeSink("two", breaks=OSError("broken pipe"))])
    with pytest.raises(SinkUnavailable, match=r"one: gone; two: broken pipe"):
        sinks.send(FRAME)
    with pytest.raises(SinkUnavailable):
        sinks.send(FRAME)


def test_without_any_sink_there_is_none_to_send_to() -> None:
    with pytest.raises(SinkUnavailable, match="there is no sink"):
        Sinks([]).send(FRAME)


def test_close_closes_all_then_tells_of_the_trouble() -> None:
    one, bad, two = FakeSink("one"), FakeSink("bad", close_breaks="lost the end"), FakeSink("two")
    sinks = Sinks([one, bad, two])
    with pytest.raises(SinkUnavailable, match="lost the end"):
        sinks.close()
    sinks.close()
    assert (one.closed, bad.closed, two.closed) == (1, 1, 1)


def test_a_recorder_needs_a_file() -> None:
    with pytest.raises(ConfigError) as caught:
        open_sink("recorder", size=(64, 48), rate=30)
    assert "--record" in caught.value.hint


def test_sinks_open_by_name(tmp_path: Path) -> None:
    assert open_sink("null", size=(64, 48), rate=30).name == "null"
    recorder = open_sink("recorder", size=(64, 48), rate=30, path=tmp_path / "call.mp4")
    assert recorder.name == "call.mp4"
    recorder.close()
