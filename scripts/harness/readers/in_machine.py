"""Checks inside the virtual machine: the daemon on v4l2loopback and vivid, read by third-party programs.

    python -m scripts.harness.readers.in_machine CLIP      (results: $SHARED/found.json)

The checks run in sequence with as few starts of the daemon as possible, because the emulated processor is slow.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from occlufix_vcam.system import v4l2
from occlufix_vcam.system.v4l2 import OWN_LABEL

SIZE, RATE, CLIP_PICTURES = (640, 360), 5.0, 60
LOOPBACK, VIVID = "/dev/video10", "/dev/video0"
STATE = Path("/run/occlufix")
LOG = Path("/run/daemon.log")
VIVID_DRIVER = Path("/sys/bus/platform/drivers/vivid")
PATIENCE_S = 240.0
PICTURES = 12
RESTARTS, KILLS = 100, 50
ROUNDS = int(os.environ.get("ROUNDS", "3"))  # of disconnecting: seconds each
#: Ends of the whole daemon, by the signal of `stop` and by kill -9: seconds each.
DAEMON_RESTARTS, DAEMON_KILLS = int(os.environ.get("RESTARTS", "2")), int(os.environ.get("KILLS", "2"))

Check = Callable[["Scene"], dict[str, Any]]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


class Scene:
    """The one daemon, restarted if a check needs another source."""

    def __init__(self, clip: str) -> None:
        self.clip = clip
        self.source = ""
        self.daemon: subprocess.Popen[bytes] | Forked | None = None
        self.environment = {
            **os.environ,
            "OCCLUFIX_STATE_DIR": str(STATE),
            "OCCLUFIX_CONFIG": "/run/settings.toml",
            "OCCLUFIX_BACKEND": "fake",
            "OCCLUFIX_ENABLED": "false",
            "OCCLUFIX_WIDTH": str(SIZE[0]),
            "OCCLUFIX_HEIGHT": str(SIZE[1]),
            "OCCLUFIX_RATE": str(RATE),
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def start(self, source: str) -> float:
        """Seconds until programs can list it; the same daemon continues if it already has that source."""
        if self.daemon is not None and self.daemon.poll() is None and self.source == source:
            return 0.0
        self.end(signal.SIGTERM)
        command = [sys.executable, "-m", "occlufix_vcam", "start", "--foreground", f"--source={source}"]
        with LOG.open("ab") as log:
            self.daemon = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        self.source = source
        return self._until_listed()

    def fork(self, source: str) -> float:
        """Starts it in a process that has imported every module already, because imports are slow here."""
        self.daemon = Forked(["occlufix-vcam", "start", "--foreground", f"--source={source}"], self.environment)
        self.source = source
        return self._until_listed()

    def _until_listed(self) -> float:
        return until(lambda: captures(LOOPBACK), "the node to become a camera", self._alive)

    def end(self, how: signal.Signals) -> int | None:
        if self.daemon is None:
            return None
        self.daemon.send_signal(how)
        return self.daemon.wait(PATIENCE_S)

    def status(self) -> dict[str, Any]:
        """Raises OSError until the daemon listens."""
        address = json.loads((STATE / "control.json").read_text())
        request = urllib.request.Request(
            f"http://127.0.0.1:{address['port']}/v1/status", headers={"Authorization": f"Bearer {address['token']}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told: dict[str, Any] = json.loads(answer.read())
            return told

    def until(self, is_so: Callable[[dict[str, Any]], bool], what: str) -> float:
        """Seconds until the status meets a condition."""

        def look() -> bool:
            with contextlib.suppress(OSError, KeyError, ValueError):
                return is_so(self.status())
            return False

        return until(look, what, self._alive)

    def _alive(self) -> None:
        if self.daemon is None or self.daemon.poll() is not None:
            raise AssertionError(f"the daemon has ended: {LOG.read_text(errors='replace')[-1500:]}")


class Forked:
    """The command line in a forked process; provides the part of `Popen` that `Scene` uses."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        for name in MODULES:
            importlib.import_module(name)
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                with LOG.open("ab") as log:
                    for descriptor in (1, 2):
                        os.dup2(log.fileno(), descriptor)
                os.environ.update(environment)
                sys.argv = command
                importlib.import_module("occlufix_vcam.cli.app").main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException:  # noqa: BLE001  no code of the checks may run on in this process
                traceback.print_exc()
            finally:
                os._exit(code)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float) -> int | None:
        until(lambda: self.poll() is not None, "the daemon's end")
        return self.returncode


#: Everything that the daemon imports, sooner or later.
MODULES = (
    *("cv2", "uvicorn", "fastapi", "engines.backends.fake"),
    *(f"occlufix_vcam.{name}" for name in ("cli.app", "cli.daemon", "core.telemetry", "pipeline")),
    *(f"occlufix_vcam.runtime.{name}" for name in ("daemon", "idle_autotune")),
    *(f"occlufix_vcam.control.{name}" for name in ("api", "guard", "routes", "services")),
    *(f"occlufix_vcam.stages.{name}" for name in ("find", "hidden", "memory", "restore")),
    *(f"occlufix_vcam.sinks.{name}" for name in ("v4l2", "pipewire")),
)


def until(is_so: Callable[[], bool], what: str, look: Callable[[], None] = lambda: None) -> float:
    began = time.monotonic()
    while not is_so():
        look()
        assert time.monotonic() - began < PATIENCE_S, f"timed out waiting for {what}"
        time.sleep(0.1)
    return round(time.monotonic() - began, 1)


def run(*command: str, within: float = PATIENCE_S) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=within, check=False)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-500:]}"
    return done.stdout


def captures(device: str) -> bool:
    """Whether programs can list it as a camera now."""
    return bool(v4l2.query_capabilities(device)[1] & 0x1)


# ---- readers ----


def proved(pictures: list[Any]) -> dict[str, Any]:
    """Results that numbered BGR frames prove; raises if they do not."""
    from scripts.harness.readers import numbered

    read = [(number, picture) for picture in pictures if (number := numbered.read(picture[..., 1])) is not None]
    # A reader that starts as the clip is closed may see one of its last frames; then it starts again.
    again = [place for place, (number, _) in enumerate(read[:4]) if number == 0]
    read = read[again[-1] :] if again else read
    numbers = [number for number, _ in read]
    assert len(numbers) >= PICTURES, f"{len(numbers)} of {len(pictures)} frames have a number"
    steps = numbered.steps(numbers, CLIP_PICTURES)
    assert min(steps) >= 0 and max(steps) > 0, f"out of order: {numbers}"
    last = read[-1][1]
    height = last.shape[0]
    side = height // 6
    error = 0
    for place, rgb in enumerate(numbered.COLOURS_RGB.values()):
        seen = last[height - side // 2, int((place + 0.5) * side)][::-1]
        error = max(error, *(abs(int(a) - b) for a, b in zip(seen, rgb, strict=True)))
    assert error <= 12, f"a colour is off by {error}"
    return {"numbers": len(numbers), "colour error": error}


def by_v4l2_ctl(pictures: int) -> list[Any]:
    import cv2

    file = Path("/run/pictures")
    run("v4l2-ctl", "-d", LOOPBACK, "--stream-mmap=4", f"--stream-count={pictures}", f"--stream-to={file}")
    width, height = SIZE
    raw = np.fromfile(file, np.uint8).reshape(-1, height * 3 // 2, width)
    file.unlink()
    return [cv2.cvtColor(one, cv2.COLOR_YUV2BGR_I420) for one in raw]


def by_ffmpeg(pictures: int) -> list[Any]:
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "v4l2", "-i", LOOPBACK, "-vsync", "passthrough"]
    command += ["-frames:v", str(pictures), "-f", "rawvideo", "-pix_fmt", "bgr24", "-"]
    raw = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=True).stdout
    return list(np.frombuffer(raw, np.uint8).reshape(-1, SIZE[1], SIZE[0], 3))


@contextlib.contextmanager
def opencv(device: str = LOOPBACK) -> Iterator[Callable[[], Any]]:
    """Function that reads the next frame with OpenCV, as most Python programs do; None if there is none."""
    import cv2

    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "60")  # the emulated processor may stall for a long time
    capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
    assert capture.isOpened(), f"OpenCV cannot open {device}"
    try:
        yield lambda: capture.read()[1]
    finally:
        capture.release()


def first_with_number(read: Callable[[], Any]) -> float:
    from scripts.harness.readers import numbered

    return until(lambda: (seen := read()) is not None and numbered.read(seen[..., 1]) is not None, "a numbered frame")


# ---- a clip with numbers, and every reader ----


@check
def it_is_listed_by_its_whole_name(scene: Scene) -> dict[str, Any]:
    seconds = scene.start(scene.clip)
    assert Path("/sys/class/video4linux/video10/name").read_text().strip() == OWN_LABEL
    assert OWN_LABEL in run("v4l2-ctl", "--list-devices")
    scene.until(lambda status: status["state"] == "idle", "the idle state")
    return {"seconds until listed": seconds, "sinks": scene.status()["sinks"]}


@check
def v4l2_ctl_reads_numbers_in_order_and_true_colours(scene: Scene) -> dict[str, Any]:
    scene.start(scene.clip)
    return proved(by_v4l2_ctl(60))


@check
def opencv_reads_numbers_in_order_and_true_colours(scene: Scene) -> dict[str, Any]:
    scene.start(scene.clip)
    with opencv() as read:
        waited = first_with_number(read)
        return {**proved([read() for _ in range(PICTURES + 8)]), "seconds to the first picture": waited}


@check
def ffmpeg_reads_numbers_in_order_and_true_colours(scene: Scene) -> dict[str, Any]:
    scene.start(scene.clip)
    return proved(by_ffmpeg(60))


@check
def two_readers_at_once_are_named_and_the_last_one_closes_the_camera(scene: Scene) -> dict[str, Any]:
    scene.start(scene.clip)
    command = ["v4l2-ctl", "-d", LOOPBACK, "--stream-mmap=4", "--stream-count=100000"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as other, opencv() as read:
        try:
            first_with_number(read)
            scene.until(lambda status: status["viewers"] == 2, "both readers")
            readers = scene.status()["readers"]
            assert any(name.startswith("v4l2-ctl") for name in readers), readers
            proved([read() for _ in range(PICTURES + 4)])
        finally:
            other.kill()
    seconds = scene.until(lambda status: not status["camera_open"], "the source to be closed")
    assert scene.status()["readers"] == []
    return {"readers": readers, "seconds until closed": seconds}


@check
def chromium_lists_it_and_reads_numbers_and_true_colours(scene: Scene) -> dict[str, Any]:
    from scripts.harness.readers import browsers, numbered

    if browsers.program("chromium") is None:
        return {"skipped": "NOT PROVED HERE: no chromium-headless-shell"}
    scene.start(scene.clip)
    browsers.WITHIN_S = PATIENCE_S
    kernels = ("--disable-features=WebRtcPipeWireCamera",)  # there is no session to ask here, and it would wait for one
    told = browsers.watch("chromium", dict(os.environ), Path("/run"), label=OWN_LABEL, flags=kernels)
    assert "error" not in told, told
    assert OWN_LABEL in told["label"] and told["size"] == list(SIZE), told
    assert len(told["numbers"]) == PICTURES and min(numbered.steps(told["numbers"], CLIP_PICTURES)) >= 0, told
    for seen, wanted in zip(told["colours"], numbered.COLOURS_RGB.values(), strict=True):
        assert max(abs(a - b) for a, b in zip(seen, wanted, strict=True)) <= 12, told["colours"]
    return {"cameras": told["cameras"], "milliseconds": told["milliseconds"]}


@check
def the_node_is_free_after_the_end(scene: Scene) -> dict[str, Any]:
    scene.start(scene.clip)
    code = scene.end(signal.SIGTERM)
    assert code == 0 and not captures(LOOPBACK)
    return {"exit code": code}


# ---- vivid as the physical camera ----


def colourful(picture: Any) -> bool:
    """Whether it shows vivid's colour bars; a placeholder frame has hardly any colour."""
    spread = picture.max(axis=2).astype(int) - picture.min(axis=2)
    return bool((spread > 100).mean() > 0.3)


@check
def the_camera_is_never_our_own_and_opens_only_when_watched(scene: Scene) -> dict[str, Any]:
    scene.start("auto")
    scene.until(lambda status: status["state"] == "idle", "the idle state")
    status = scene.status()
    assert VIVID in status["camera"] and not status["camera_open"], status["camera"]
    with opencv() as read:
        seconds = until(lambda: (seen := read()) is not None and colourful(seen), "the camera's picture")
        assert scene.status()["camera_open"]
    closed = scene.until(lambda status: not status["camera_open"], "the camera to be closed")
    return {"seconds to the picture": seconds, "seconds until closed": closed}


@check
def a_camera_unplugged_is_said_and_back_again_without_the_reader(scene: Scene) -> dict[str, Any]:
    scene.start("auto")
    gone, back = [], []
    with opencv() as read:

        def shows_camera() -> bool:
            picture = read()
            assert picture is not None, "the reader received no more frames"
            return colourful(picture)

        until(shows_camera, "the camera's picture")
        scene.until(lambda status: bool(status["engine"]), "all of the daemon")  # what it opens once is open then
        descriptors = open_files(scene)
        for _ in range(ROUNDS):
            (VIVID_DRIVER / "unbind").write_text("vivid.0")
            gone.append(until(lambda: not shows_camera(), "the placeholder frame"))
            (VIVID_DRIVER / "bind").write_text("vivid.0")
            back.append(until(shows_camera, "the camera's picture"))
        assert scene.status()["trouble"] == {}
        left = open_files(scene)
    assert left <= descriptors + 2, f"descriptors: {descriptors} before, {left} after {ROUNDS} rounds"
    files = [descriptors, left]
    return {"rounds": ROUNDS, "seconds until said": gone, "seconds until back": back, "descriptors": files}


def open_files(scene: Scene) -> int:
    assert scene.daemon is not None
    return len(list(Path(f"/proc/{scene.daemon.pid}/fd").iterdir()))


@check
def the_node_is_free_after_a_kill(scene: Scene) -> dict[str, Any]:
    scene.start("auto")
    scene.end(signal.SIGKILL)
    assert not captures(LOOPBACK)
    return {}


@check
def a_kept_format_is_said_before_it_is_tried(scene: Scene) -> dict[str, Any]:
    from occlufix_vcam.core.errors import SinkUnavailable
    from occlufix_vcam.sinks.opening import open_sink
    from occlufix_vcam.sinks.v4l2 import find_virtual_cameras

    scene.end(signal.SIGTERM)
    run("v4l2-ctl", "-d", LOOPBACK, "-c", "keep_format=1")
    other = ["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=5"]
    run(*other, "-frames:v", "2", "-pix_fmt", "rgb24", "-f", "v4l2", LOOPBACK)
    (place,) = find_virtual_cameras()
    assert "keeps the format" in place.problem, place
    try:
        open_sink("v4l2", size=SIZE, rate=RATE)
        raise AssertionError("it was opened")
    except SinkUnavailable as error:
        assert place.problem in error.message and place.hint == error.hint, error.message
    run("v4l2-ctl", "-d", LOOPBACK, "-c", "keep_format=0")
    (again,) = find_virtual_cameras()
    assert (again.problem, again.flaw) == ("", ""), again
    open_sink("v4l2", size=SIZE, rate=RATE).close()  # though ffmpeg, that ended, has left it neither camera nor output
    return {"said": place.problem}


# ---- repeated ends of the daemon and of the node's writer ----


@check
def the_node_is_usable_after_every_end_of_the_daemon(scene: Scene) -> dict[str, Any]:
    """From its command line on, except for imports. Every other end comes while a program still reads."""
    from scripts.harness.readers import numbered

    scene.end(signal.SIGTERM)
    seconds = []
    for round_ in range(DAEMON_RESTARTS + DAEMON_KILLS):
        how = signal.SIGKILL if round_ >= DAEMON_RESTARTS else signal.SIGTERM
        seconds.append(scene.fork(scene.clip))
        with contextlib.ExitStack() as reading:
            read = reading.enter_context(opencv())
            numbers: list[int] = []

            def look(read: Callable[[], Any] = read, numbers: list[int] = numbers) -> bool:
                picture = read()
                number = numbered.read(picture[..., 1]) if picture is not None else None
                numbers += [] if number is None else [number]
                # If the clip was closed a moment before, it starts again: earlier frames do not count.
                return len(numbers) >= 3 and numbered.are_in_order(numbers[-3:], CLIP_PICTURES)

            until(look, f"numbered pictures in order in round {round_}")
            if round_ % 2:
                reading.close()
            code = scene.end(how)
        assert code in (0, -signal.SIGKILL), f"round {round_}: it ended with {code}"
        assert not captures(LOOPBACK), f"round {round_}: it is not free"
    left = v4l2.holders(LOOPBACK)
    assert left == [], f"left behind: {left}"
    told = {"restarts": DAEMON_RESTARTS, "kills": DAEMON_KILLS}
    return {**told, "seconds until listed": [min(seconds), sorted(seconds)[len(seconds) // 2], max(seconds)]}


@check
def the_node_is_usable_after_every_end_of_its_writer(scene: Scene) -> dict[str, Any]:
    """Without the daemon around it, which takes half a minute to start here: 100 clean ends, 50 kills."""
    scene.end(signal.SIGTERM)
    for round_ in range(RESTARTS + KILLS):
        kill = round_ >= RESTARTS
        writer, told = fork_writer(number=round_)
        try:
            assert told == b"ok", f"round {round_}: {told.decode(errors='replace')}"
            assert captures(LOOPBACK), f"round {round_}: it is no camera"
        finally:
            os.kill(writer, signal.SIGKILL if kill else signal.SIGTERM)
            os.waitpid(writer, 0)
        assert not captures(LOOPBACK), f"round {round_}: it is not free"
    return {"clean ends": RESTARTS, "kills": KILLS}


@check
def a_reader_that_stays_sees_the_next_daemon(scene: Scene) -> dict[str, Any]:
    from scripts.harness.readers import numbered

    width, height = SIZE
    film = Path("/run/film")
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "v4l2", "-i", LOOPBACK, "-vsync", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", "gray", "-flush_packets", "1", str(film)]

    def numbers(skip: int = 0) -> list[int]:
        """Numbers in the frames that have arrived, from byte `skip` on."""
        raw = np.fromfile(film, np.uint8, offset=skip) if film.exists() else np.empty(0, np.uint8)
        whole = raw[: raw.size // (width * height) * width * height].reshape(-1, height, width)
        return [number for picture in whole if (number := numbered.read(picture)) is not None]

    scene.end(signal.SIGTERM)
    scene.fork(scene.clip)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as reader:
        try:
            until(lambda: len(numbers()) > 2, "the first daemon's pictures")
            scene.end(signal.SIGTERM)
            skip = film.stat().st_size // (width * height) * width * height
            scene.fork(scene.clip)

            def shows_it() -> bool:
                seen = numbers(skip)  # the clip may start again meanwhile
                return len(seen) > PICTURES and numbered.are_in_order(seen[-5:], CLIP_PICTURES)

            seconds = until(shows_it, "the next one's pictures in order")
            assert reader.poll() is None, "the reader has ended"
        finally:
            reader.kill()
    return {"seconds": seconds}


@check
def a_reader_that_stays_sees_the_next_writer(scene: Scene) -> dict[str, Any]:
    scene.end(signal.SIGTERM)
    from scripts.harness.readers import numbered

    writer, _ = fork_writer(number=1)
    with opencv() as read:
        try:
            until(lambda: numbered.read(read()[..., 1]) == 1, "the first writer's picture")
        finally:
            os.kill(writer, signal.SIGTERM)
            os.waitpid(writer, 0)
        writer, told = fork_writer(number=2)
        try:
            assert told == b"ok", told.decode(errors="replace")
            seconds = until(lambda: (seen := read()) is not None and numbered.read(seen[..., 1]) == 2, "the next one's")
        finally:
            os.kill(writer, signal.SIGTERM)
            os.waitpid(writer, 0)
    return {"seconds": seconds}


def fork_writer(number: int) -> tuple[int, bytes]:
    """Process that writes one numbered frame until it is ended, and its output afterwards."""
    from occlufix_vcam.core.frame import Frame
    from occlufix_vcam.sinks.opening import open_sink
    from scripts.harness.readers import numbered

    reading, writing = os.pipe()
    writer = os.fork()
    if writer == 0:
        said = b"ok"
        ended: list[int] = []
        signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
        try:
            sink = open_sink("v4l2", size=SIZE, rate=20.0)
            picture = numbered.stamp(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8), number)
            frame = Frame(picture, 0, 0.0)
            sink.send(frame)
            os.write(writing, said)
            while not ended:
                sink.send(frame)
                time.sleep(0.05)
            sink.close()
        except BaseException as error:  # noqa: BLE001  the parent reports it
            with contextlib.suppress(OSError):
                os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    told = os.read(reading, 4096)
    os.close(reading)
    return writer, told


# ---- the story ----


def load_modules() -> None:
    kernel = os.environ["KERNEL"]
    label = f"card_label={OWN_LABEL}"
    if other := os.environ.get("LOOPBACK"):  # another version of the module: the path of its file
        run("modprobe", "-d", kernel, "videodev")
        run("insmod", other, "video_nr=10", f'card_label="{OWN_LABEL}"', "exclusive_caps=1")
    else:
        run("modprobe", "-d", kernel, "v4l2loopback", "video_nr=10", label, "exclusive_caps=1")
    run("modprobe", "-d", kernel, "vivid", "node_types=0x1", "num_inputs=1", "input_types=0", "vid_cap_nr=0")


def main() -> None:
    load_modules()
    scene = Scene(sys.argv[1])
    wanted = sys.argv[2:] or list(CHECKS)
    found: dict[str, dict[str, Any]] = {}
    for name in wanted:
        began = time.monotonic()
        try:
            found[name] = CHECKS[name](scene)
        except BaseException as error:  # noqa: BLE001  the host's test reports it
            traceback.print_exc()
            found[name] = {"failed": f"{type(error).__name__}: {error}"}
        found[name]["took"] = round(time.monotonic() - began, 1)
        sys.stdout.write(f"{name} {json.dumps(found[name])}\n")
        sys.stdout.flush()
        Path(os.environ["SHARED"], "found.json").write_text(json.dumps(found))
    scene.end(signal.SIGTERM)
    Path(os.environ["SHARED"], "daemon.log").write_bytes(LOG.read_bytes() if LOG.exists() else b"")


if __name__ == "__main__":
    main()
