"""PipeWire session with the daemon and a reader that checks numbered frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from occlufix_vcam.core.state import StateFolder
from occlufix_vcam.core.status import Status
from occlufix_vcam.system.v4l2 import OWN_LABEL
from scripts.harness.endurance.tally import Tally
from scripts.harness.readers import film, numbered, product, session

SIZE, RATE = (640, 360), 30.0
PICTURES, GONE_WITHIN_S, SHOWN_WITHIN_S = 4, 20.0, 40.0
#: Programs of the session in which something of ours could remain.
WATCHED = ("pipewire", "wireplumber")


class Scene:
    """A session, a numbered clip, and the daemon as its command line starts it, with a cheap engine."""

    def __init__(self, running: session.Programs, folder: Path, pictures: int = 60) -> None:
        self.session, self.folder, self.clip, self.pictures = running, folder, folder / "numbered.mp4", pictures
        product.make_clip(self.clip, pictures, SIZE)
        self.environment: dict[str, str] = {
            **running.environment,
            "OCCLUFIX_BACKEND": "fake",
            "OCCLUFIX_CACHE_DIR": str(folder / "engines"),
            "OCCLUFIX_FACES_DIR": str(folder / "faces"),
        }

    def start(self) -> None:
        begun = product.run(self.environment, "start", f"--source={self.clip}", "--sink=pipewire")
        assert begun.returncode == 0, begun.stderr
        assert self.is_listed(), "it has started and is not in the list"

    def stop(self) -> None:
        ended = product.run(self.environment, "stop")
        assert ended.returncode == 0, ended.stderr

    def status(self) -> Status:
        return product.status(self.environment)

    def is_listed(self) -> bool:
        return OWN_LABEL in session.things(self.environment, "Node")

    def wait_until_gone(self, pid: int) -> float:
        """Seconds until neither the daemon nor its camera exists any more."""
        state = StateFolder(Path(self.environment["OCCLUFIX_STATE_DIR"]))

        def is_gone() -> bool:
            return not psutil.pid_exists(pid) and not state.held() and not self.is_listed()

        return session.wait_for(is_gone, "the end of the daemon", GONE_WITHIN_S)

    @contextmanager
    def reader(self) -> Iterator[film.Film]:
        with film.film(self.environment, self.folder / "reader.log", SIZE) as reading:
            yield reading

    def count(self) -> dict[str, int]:
        """Counts everything in the session that could be left behind."""
        counted = {"nodes": 0, "clients": 0}
        for kind in ("Node", "Client"):
            counted[f"{kind.lower()}s"] = session.things(self.environment, kind).count(f"PipeWire:Interface:{kind}")
        for name in WATCHED:
            program = psutil.Process(self.session.pid(name))
            counted |= {f"{name} descriptors": program.num_fds(), f"{name} threads": program.num_threads()}
        return counted

    def settle(self, tally: Tally, count: Callable[[], Mapping[str, int]]) -> None:
        """Counts again once what the last round released is gone."""
        ends_at = time.monotonic() + GONE_WITHIN_S
        tally.after = dict(count())
        while tally.left and time.monotonic() < ends_at:
            time.sleep(0.2)
            tally.after = dict(count())


def read_in_order(reader: film.Film, many: int) -> float:
    """Seconds until several numbered frames of `many` have arrived in order.

    If the clip was closed a moment before, it starts again: earlier frames do not count.
    """
    began, numbers = time.monotonic(), list[int]()
    while len(numbers) < PICTURES or not numbered.are_in_order(numbers[-PICTURES:], many):
        assert time.monotonic() - began < SHOWN_WITHIN_S, f"only placeholder frames arrive, and {numbers[-20:]}"
        number = numbered.read(numbered.grey_of(reader.next()[1]))
        if number is not None:
            numbers.append(number)
    return time.monotonic() - began


def wait_for_placeholder(reader: film.Film) -> float:
    began = time.monotonic()
    while numbered.read(numbered.grey_of(reader.next()[1])) is not None:
        assert time.monotonic() - began < SHOWN_WITHIN_S, "frames continue as if nothing had happened"
    return time.monotonic() - began
