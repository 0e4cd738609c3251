"""Starts, kills, disconnects and suspends the whole daemon repeatedly, and checks that nothing is left behind.

    python scripts/endurance.py                                             a few rounds of each
    python scripts/endurance.py --restarts 100 --kills 50 --replugs 100     the long form, a quarter of an hour
    python scripts/endurance.py --sleeps 4 --asleep 20 --sessions 20

Everything runs in a PipeWire session of its own, with GStreamer as the reader; needs the Debian packages that
`scripts/install_readers.sh` installs. After each round the camera must be usable: listed, and read with numbered frames
in order. Counted are descriptors and threads (of daemon, PipeWire, WirePlumber), nodes and clients. Prints one JSON
object; exits with 1 if a round failed or something was left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)] if str(ROOT) not in sys.path else []

from occlufix_vcam.core.settings import Settings  # noqa: E402
from occlufix_vcam.core.state import StateFolder  # noqa: E402
from occlufix_vcam.core.status import Status  # noqa: E402
from occlufix_vcam.runtime.daemon import Daemon, Parts  # noqa: E402
from occlufix_vcam.sources import CameraInfo, CameraSource, SourceOptions  # noqa: E402
from occlufix_vcam.sources.camera import Camera  # noqa: E402
from occlufix_vcam.system.v4l2 import OWN_LABEL  # noqa: E402
from scripts.harness.readers import film, numbered, product, session  # noqa: E402

SIZE, RATE = (640, 360), 30.0
PICTURES, GONE_WITHIN_S, SHOWN_WITHIN_S = 4, 20.0, 40.0
#: Programs of the session in which something of ours could remain.
WATCHED = ("pipewire", "wireplumber")


@dataclass
class Tally:
    """Results of the rounds of one kind."""

    rounds: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    #: Counts before the first round and after the last one.
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)

    def note(self, **seconds: float) -> None:
        for what, taken in seconds.items():
            self.seconds.setdefault(what, []).append(taken)

    @contextmanager
    def round(self) -> Iterator[None]:
        """Runs one round; a failure keeps its reason, and the next round continues."""
        self.rounds += 1
        try:
            yield
        except Exception as error:  # noqa: BLE001  any error is this round's result
            self.failed.append(f"round {self.rounds}: {error!r}")

    @property
    def left(self) -> list[str]:
        """Counts that are higher than before."""
        return [what for what, many in self.before.items() if self.after[what] > many]

    @property
    def is_good(self) -> bool:
        return not self.failed and not self.left

    def told(self) -> dict[str, Any]:
        figures = {
            f"{what}, s": {name: round(float(np.percentile(taken, p)), 2) for name, p in (("p50", 50), ("max", 100))}
            for what, taken in self.seconds.items()
        }
        counted = {what: f"{many} before, {self.after[what]} after" for what, many in self.before.items()}
        return {"rounds": self.rounds, "failed": self.failed, "left": self.left, **figures, "counted": counted}


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


# ---- the daemon ends ----


def end_again_and_again(scene: Scene, rounds: int, kill: bool) -> Tally:
    """Starts the daemon, reads it, ends it; every other time while a program still reads."""
    tally = Tally()
    for number in range(rounds + 1):
        if number == 1:  # what the session's programs open once is open by now
            tally = Tally(before=scene.count())
        with tally.round():
            _start_and_end(scene, tally, kill, while_read=number % 2 == 0)
    scene.settle(tally, scene.count)
    return tally


def _start_and_end(scene: Scene, tally: Tally, kill: bool, while_read: bool) -> None:
    began = time.monotonic()
    scene.start()
    tally.note(start=time.monotonic() - began)
    pid = scene.status()["pid"]
    try:
        with scene.reader() as reader:
            tally.note(read=read_in_order(reader, scene.pictures))
            if while_read:
                _end(scene, pid, kill)
        if not while_read:
            _end(scene, pid, kill)
        tally.note(gone=scene.wait_until_gone(pid))
    finally:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def _end(scene: Scene, pid: int, kill: bool) -> None:
    if kill:
        os.kill(pid, signal.SIGKILL)
    else:
        scene.stop()


# ---- the camera disconnects ----


class Plug:
    """Camera of numbered frames that can be disconnected; it replaces OpenCV's capture and the list of cameras.

    Its failures alternate, as real ones do: missing from the list; only a driver error such as EIO; in use by another
    program when it returns; another size when it returns; silent.
    """

    WAYS = ("gone", "error", "busy", "other size", "gone", "silent")

    def __init__(self, file: Path) -> None:
        file.touch()
        self._camera = CameraInfo(0, "enduring camera", str(file), "enduring camera")
        self.way = ""
        self._out = threading.Event()
        self._busy = 0
        self._size = SIZE
        self._began = time.monotonic()
        self._shots: dict[tuple[int, int], Any] = {}

    def pull(self, way: str) -> None:
        self.way = way
        self._out.set()

    def put_back(self) -> None:
        self._busy = 1 if self.way == "busy" else 0
        self._size = (480, 270) if self.way == "other size" else SIZE
        self._out.clear()

    def cameras(self) -> list[CameraInfo]:
        listed = not self._out.is_set() or self.way in ("error", "silent")
        return [self._camera] if listed else []

    def open(self, _: CameraInfo) -> _Capture:
        self._busy -= 1
        return _Capture(self, opens=not self._out.is_set() and self._busy < 0)

    def grab(self) -> bool:
        """Whether the driver has a frame; blocks until then, as drivers do."""
        if self._out.is_set():
            while self.way == "silent" and self._out.is_set():
                time.sleep(0.05)
            return False
        time.sleep(1 / RATE)
        return True

    def picture(self) -> Any:
        number = int((time.monotonic() - self._began) * RATE) % numbered.MANY
        blank = self._shots.setdefault(self._size, np.full((self._size[1], self._size[0], 3), 90, np.uint8))
        return numbered.stamp(blank, number)

    @property
    def size(self) -> tuple[int, int]:
        return self._size


class _Capture:
    """cv2.VideoCapture of a Plug."""

    def __init__(self, plug: Plug, opens: bool) -> None:
        self._plug, self._opens = plug, opens

    def isOpened(self) -> bool:  # noqa: N802  OpenCV's name
        return self._opens

    def grab(self) -> bool:
        return self._plug.grab()

    def retrieve(self) -> tuple[bool, Any]:
        return True, self._plug.picture()

    def get(self, prop: int) -> float:
        import cv2

        width, height = self._plug.size
        return {cv2.CAP_PROP_FRAME_WIDTH: width, cv2.CAP_PROP_FRAME_HEIGHT: height, cv2.CAP_PROP_FPS: RATE}.get(prop, 0)

    def set(self, prop: int, value: float) -> bool:
        return True

    def release(self) -> None:
        return


def replug_again_and_again(scene: Scene, rounds: int) -> Tally:
    """Disconnects and reconnects the camera of one daemon in this process, with one reader that stays."""
    plug = Plug(scene.folder / "camera")

    def open_camera(settings: Settings) -> CameraSource:
        options = SourceOptions(*SIZE, RATE)
        return Camera(settings.source, options, open_capture=plug.open, cameras=plug.cameras)

    parts = Parts(open_camera=open_camera, find_camera=lambda _: "enduring camera")
    settings = Settings().but(sinks=("pipewire",), width=SIZE[0], height=SIZE[1], rate=RATE, backend="fake")
    daemon = Daemon(settings, parts)
    here = psutil.Process()

    def count() -> dict[str, int]:
        return {**scene.count(), "daemon descriptors": here.num_fds(), "daemon threads": here.num_threads()}

    tally = Tally()
    with _in_session(scene.environment), _running(daemon):
        session.wait_for(lambda: daemon.state == "idle", "the daemon")
        with scene.reader() as reader:
            read_in_order(reader, numbered.MANY)
            for number in range(rounds + len(Plug.WAYS)):
                if number == len(Plug.WAYS):  # each kind of failure occurred once
                    tally = Tally(before=count())
                with tally.round():
                    plug.pull(Plug.WAYS[number % len(Plug.WAYS)])
                    tally.note(said=wait_for_placeholder(reader))
                    plug.put_back()
                    tally.note(back=read_in_order(reader, numbered.MANY))
            session.wait_for(lambda: not daemon.status()["trouble"], "the end of all trouble")
            scene.settle(tally, count)
    return tally


@contextmanager
def _in_session(environment: Mapping[str, str]) -> Iterator[None]:
    """Adds this process to the session during the block."""
    names = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "OCCLUFIX_FACES_DIR")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: environment[name] for name in names})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({name: value} if value is not None else {})


@contextmanager
def _running(daemon: Daemon) -> Iterator[None]:
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        yield
    finally:
        daemon.stop()
        thread.join()


# ---- suspension and new sessions ----


def sleep_again_and_again(scene: Scene, rounds: int, asleep_s: float) -> Tally:
    """Suspends the daemon alone, then the whole session, while a program reads; then resumes them."""
    tally = Tally()
    scene.start()
    pid = scene.status()["pid"]
    daemon = psutil.Process(pid)

    def count() -> dict[str, int]:
        return {**scene.count(), "daemon descriptors": daemon.num_fds(), "daemon threads": daemon.num_threads()}

    try:
        with scene.reader() as reader:
            read_in_order(reader, scene.pictures)
            tally.before = count()
            for number in range(rounds):
                others = [scene.session.pid(name) for name in WATCHED] if number % 2 else []
                with tally.round():
                    _halt([pid, *others], asleep_s)
                    _forget(reader)
                    tally.note(back=read_in_order(reader, scene.pictures))
                    session.wait_for(lambda: not scene.status()["trouble"], "the end of all trouble")
            scene.settle(tally, count)
    finally:
        scene.stop()
    return tally


def _halt(pids: list[int], seconds: float) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)


def _forget(reader: film.Film) -> None:
    """Discards what arrived before now."""
    while True:
        try:
            reader.next(within=0)
        except TimeoutError:
            return


def begin_session_again_and_again(scene: Scene, rounds: int) -> Tally:
    """Restarts WirePlumber, or PipeWire and WirePlumber, under a running daemon."""
    tally = Tally()
    scene.start()
    daemon = psutil.Process(scene.status()["pid"])

    def count() -> dict[str, int]:
        return {"daemon descriptors": daemon.num_fds(), "daemon threads": daemon.num_threads()}

    try:
        with scene.reader() as reader:
            read_in_order(reader, scene.pictures)
        for number in range(rounds + 2):
            if number == 2:
                tally = Tally(before=count())
            parts = ("wireplumber",) if number % 2 else ("wireplumber", "pipewire")
            with tally.round():
                for name in parts:
                    scene.session.end(name)
                for name in reversed(parts):
                    scene.session.start(name)
                tally.note(listed=session.wait_for(scene.is_listed, "the camera in the list"))
                with scene.reader() as reader:
                    tally.note(read=read_in_order(reader, scene.pictures))
                session.wait_for(lambda: not scene.status()["trouble"], "the end of all trouble")
        session.wait_for(lambda: scene.status()["state"] == "idle", "the idle state")
        scene.settle(tally, count)
    finally:
        scene.stop()
    return tally


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="endurance of the whole daemon")
    parser.add_argument("--restarts", type=int, default=3, help="rounds ended by `stop`")
    parser.add_argument("--kills", type=int, default=3, help="rounds ended by kill -9")
    parser.add_argument(
        "--replugs", type=int, default=6, help="disconnections of the camera, with one reader that stays"
    )
    parser.add_argument(
        "--sleeps", type=int, default=2, help="suspensions of the daemon, every other one of the session too"
    )
    parser.add_argument("--asleep", type=float, default=5.0, metavar="S", help="seconds of each suspension")
    parser.add_argument(
        "--sessions", type=int, default=2, help="restarts of WirePlumber, every other one of PipeWire too"
    )
    options = parser.parse_args(arguments)
    if absent := session.missing() or film.missing():
        print(f"NOT PROVED HERE: this needs {absent}", file=sys.stderr)
        return 2
    kinds: dict[str, tuple[int, Callable[[Scene], Tally]]] = {
        "restarts": (options.restarts, lambda scene: end_again_and_again(scene, options.restarts, kill=False)),
        "kills": (options.kills, lambda scene: end_again_and_again(scene, options.kills, kill=True)),
        "replugs": (options.replugs, lambda scene: replug_again_and_again(scene, options.replugs)),
        "sleeps": (options.sleeps, lambda scene: sleep_again_and_again(scene, options.sleeps, options.asleep)),
        "sessions": (options.sessions, lambda scene: begin_session_again_and_again(scene, options.sessions)),
    }
    told, good = {}, True
    with tempfile.TemporaryDirectory() as folder, session.programs(Path(folder)) as running:
        # During a suspension the clip must not repeat, or the order could not be checked.
        scene = Scene(running, Path(folder), max(60, round(2.5 * RATE * options.asleep) if options.sleeps else 0))
        for kind, (rounds, run) in kinds.items():
            if rounds > 0:
                print(f"- {rounds} {kind}", file=sys.stderr, flush=True)
                tally = run(scene)
                told[kind], good = tally.told(), good and tally.is_good
    print(json.dumps(told, indent=2))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
