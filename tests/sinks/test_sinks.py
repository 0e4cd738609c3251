"""Several sinks as one, and opening them by name."""

from __future__ import annotations

import pkgutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from occlufix_vcam import sinks as sinks_module
from occlufix_vcam.core.errors import ConfigError, SinkUnavailable, Trouble
from occlufix_vcam.sinks.fan_out import LEFT_OUT_PAUSE_S, Audience, LeftOut, Sinks
from occlufix_vcam.sinks.opening import open_sink
from tests.harness.fakes import WAIT_S, ReadSink
from tests.harness.sinks import FakeSink, frame_of
from tests.harness.sources import FakeClock

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
    sinks = Sinks([bad, good])
    for _ in range(3):
        sinks.send(FRAME)
    assert sinks.failures == {"bad": Trouble(str(error))}
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


def test_one_that_failed_is_opened_again_with_growing_pauses() -> None:
    clock, good, again = FakeClock(), FakeSink("good"), FakeSink("again")
    opener = Opener(SinkUnavailable("still gone", "mend it"), again)
    sinks = Sinks([FakeSink("bad", breaks=SinkUnavailable("gone")), good], [opener, None], clock)
    sinks.send(FRAME)
    sinks.send(FRAME)
    assert len(opener.answers) == 2
    clock.advance(0.5)
    send_until(sinks, lambda: sinks.failures == {"bad": Trouble("still gone", "mend it")})
    clock.advance(0.9)
    sinks.send(FRAME)
    assert len(opener.answers) == 1 and again.sent == 0
    clock.advance(0.1)
    send_until(sinks, lambda: again.sent > 0)
    assert sinks.failures == {} and sinks.open == (good, again)


def test_while_one_is_opened_again_the_others_do_not_wait() -> None:
    clock, good, again, may_open = FakeClock(), FakeSink("good"), FakeSink("again"), threading.Event()
    opener = Opener(again, may_open=may_open)
    sinks = Sinks([FakeSink("bad", breaks=SinkUnavailable("gone")), good], [opener, None], clock)
    sinks.send(FRAME)
    clock.advance(0.5)
    for _ in range(3):
        sinks.send(FRAME)
    assert opener.asked.wait(WAIT_S) and (good.sent, again.sent) == (4, 0)
    sinks.close()  # and what comes after the end is closed
    may_open.set()
    assert again.was_closed.wait(WAIT_S)


def test_one_that_was_left_out_is_tried_now_and_then_and_told_of_until_it_is_there() -> None:
    clock, good, late = FakeClock(), FakeSink("good"), FakeSink("late")
    opener = Opener(SinkUnavailable("no session yet", "log in"), late)
    sinks = Sinks([good], [None], clock, [LeftOut("pipewire", SinkUnavailable("no session", "log in"), opener)])
    sinks.send(FRAME)
    assert sinks.left_out == {"pipewire": Trouble("no session", "log in")} and len(opener.answers) == 2
    clock.advance(LEFT_OUT_PAUSE_S)
    send_until(sinks, lambda: sinks.left_out == {"pipewire": Trouble("no session yet", "log in")})
    clock.advance(LEFT_OUT_PAUSE_S)
    send_until(sinks, lambda: late.sent > 0)
    assert (sinks.left_out, sinks.failures, sinks.open) == ({}, {}, (good, late))


class Opener:
    """Gives one answer after another, once it may."""

    def __init__(self, *answers: FakeSink | Exception, may_open: threading.Event | None = None) -> None:
        self.answers, self.asked, self._may_open = list(answers), threading.Event(), may_open

    def __call__(self) -> FakeSink:
        self.asked.set()
        assert self._may_open is None or self._may_open.wait(WAIT_S)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def send_until(sinks: Sinks, is_so: Callable[[], bool]) -> None:
    """Sends, as the output does, until what is opened in another thread is there."""
    ends_at = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < ends_at
        sinks.send(FRAME)


def test_who_reads_is_told_where_a_sink_can_tell() -> None:
    read, unread, recording = ReadSink(), ReadSink(), FakeSink("recording")
    read.readers = ("zoom (1)", "chrome (2)")
    assert Sinks([unread]).audience() == Audience(wanted=False, viewers=())
    assert Sinks([unread, read]).audience() == Audience(wanted=True, viewers=("zoom (1)", "chrome (2)"))
    assert Sinks([unread, recording]).audience() == Audience(wanted=True, viewers=())
    assert Sinks([recording]).audience() == Audience(wanted=True, viewers=None)


def test_a_sink_that_fails_when_it_is_asked_is_left_out() -> None:
    class Gone(FakeSink):
        def viewers(self) -> tuple[str, ...]:
            raise SinkUnavailable("gone")

    sinks = Sinks([Gone("gone"), FakeSink("good")])
    assert sinks.audience().wanted and sinks.name == "good" and sinks.failures == {"gone": Trouble("gone")}


@pytest.mark.parametrize("name", ["auto", "virtual_camera", "OccluFix Camera"])
def test_the_kinds_of_virtual_camera_are_tried_in_order(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def refuse(target: str, *, size: tuple[int, int], rate: float) -> FakeSink:
        tried.append(target)
        raise SinkUnavailable(f"refused {len(tried)}", f"mend {len(tried)}")

    monkeypatch.setitem(sinks_module.VIRTUAL_CAMERAS, sys.platform, ("one", "two"))
    monkeypatch.setitem(sinks_module.SINKS, "one", f"{__name__}:refuse")
    monkeypatch.setitem(sinks_module.SINKS, "two", f"{__name__}:refuse")
    monkeypatch.setattr(pkgutil, "resolve_name", lambda _: refuse)
    with pytest.raises(SinkUnavailable, match="refused 1; refused 2") as caught:
        open_sink(name, size=(64, 48), rate=30)
    assert caught.value.hint == "mend 1"
    assert tried == 2 * ["OccluFix Camera" if name == "OccluFix Camera" else "auto"]


def test_a_recording_that_broke_off_is_told_again_at_the_end() -> None:
    film, camera = FakeSink("call.mp4", breaks=SinkUnavailable("the disk is full")), FakeSink("camera")
    sinks = Sinks([film, camera], [None, lambda: camera])
    sinks.send(FRAME)
    with pytest.raises(SinkUnavailable, match="the disk is full"):
        sinks.close()
    assert camera.closed == 1


def test_a_recorder_needs_a_file() -> None:
    with pytest.raises(ConfigError) as caught:
        open_sink("recorder", size=(64, 48), rate=30)
    assert "--record" in caught.value.hint


def test_sinks_open_by_name(tmp_path: Path) -> None:
    assert open_sink("null", size=(64, 48), rate=30).name == "null"
    recorder = open_sink("recorder", size=(64, 48), rate=30, path=tmp_path / "call.mp4")
    assert recorder.name == "call.mp4"
    recorder.close()
