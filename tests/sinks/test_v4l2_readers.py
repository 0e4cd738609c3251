"""Readers of a node: looked for when their number changes, and at intervals in any case."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from occlufix_vcam.sinks.v4l2_readers import LOOK_BLIND_S, LOOK_UNREAD_S, SETTLED_S, OpenSigns, Readers
from tests.harness.sources import FakeClock


class Scene:
    """Processes that hold the node, and the signs of their coming and going."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.holders: list[str] = []
        self.sign: bool | None = False
        self.looks = 0
        self.readers = Readers("/dev/video9", holders=self._look, signs=lambda path: self, clock=self.clock)
        self.now()

    def seen(self) -> bool | None:
        sign = self.sign
        self.sign = None if sign is None else False
        return sign

    def close(self) -> None:
        self.sign = None

    def come(self, *names: str) -> None:
        self.holders, self.sign = list(names), self.sign if self.sign is None else True

    def now(self, usage: int | None = None) -> list[str]:
        return self.readers.now(usage)

    def _look(self, path: str) -> list[str]:
        self.looks += 1
        return list(self.holders)


def test_a_program_that_stays_reads_and_one_that_goes_does_not() -> None:
    scene = Scene()
    scene.come("chrome (7)")
    assert scene.now() == []
    scene.clock.advance(SETTLED_S + 0.01)
    assert scene.now() == ["chrome (7)"]
    scene.come()
    assert scene.now() == []


def test_a_program_that_only_lists_cameras_is_no_reader() -> None:
    scene = Scene()
    scene.come("chrome (7)")
    scene.now()
    scene.come()
    scene.clock.advance(SETTLED_S + 0.01)
    assert scene.now() == []


def test_without_signs_nobody_looks_at_each_frame() -> None:
    scene = Scene()
    looks = scene.looks
    for _ in range(100):
        scene.clock.advance(LOOK_UNREAD_S / 101)
        scene.now()
    assert scene.looks == looks


def test_a_sign_that_was_lost_is_made_good() -> None:
    scene = Scene()
    scene.holders = ["zoom (8)"]
    scene.clock.advance(LOOK_UNREAD_S)
    scene.now()
    scene.clock.advance(SETTLED_S + 0.01)
    assert scene.now() == ["zoom (8)"]


def test_where_the_system_gives_no_signs_it_looks_each_second() -> None:
    scene = Scene()
    scene.sign = None
    scene.clock.advance(LOOK_UNREAD_S)
    scene.now()
    looks = scene.looks
    scene.clock.advance(LOOK_BLIND_S)
    scene.now()
    assert scene.looks == looks + 1


def test_a_reader_that_we_may_not_look_into_is_told_by_the_module() -> None:
    scene = Scene()
    assert scene.now(usage=1) == ["a program"] and scene.now() == ["a program"]
    scene.come("chrome (7)")
    scene.now()
    scene.clock.advance(SETTLED_S + 0.01)
    assert scene.now() == ["chrome (7)"]
    scene.come()
    assert scene.now(usage=0) == []


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux'")
def test_linux_tells_of_opening_and_closing(tmp_path: Path) -> None:
    file = tmp_path / "video9"
    file.touch()
    signs = OpenSigns(str(file))
    assert signs.seen() is False
    with file.open():
        assert signs.seen() is True and signs.seen() is False
    assert signs.seen() is True
    signs.close()
    assert signs.seen() is None


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_real_program_is_seen_to_come_and_go(tmp_path: Path) -> None:
    file, clock = tmp_path / "video9", FakeClock()
    file.touch()
    readers = Readers(str(file), clock=clock)
    assert readers.now(None) == []
    hold = "import sys; file = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
    arguments = [sys.executable, "-c", hold, str(file)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout and program.stdout.readline()
        readers.now(None)
        clock.advance(SETTLED_S + 0.01)
        (name,) = readers.now(None)
        assert str(program.pid) in name
        program.communicate()
    assert readers.now(None) == []
    readers.close()
