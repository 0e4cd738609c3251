"""Where frames go: the contract of a sink, the table of sinks, the one door to open them by, several at once."""

from __future__ import annotations

import logging
import pkgutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from occlufix_vcam.core.background_open import BackgroundOpen
from occlufix_vcam.core.errors import ConfigError, SinkUnavailable, Trouble, trouble_of
from occlufix_vcam.core.frame import Frame

log = logging.getLogger(__name__)

#: To add a sink: one file, and one line here. `--sink NAME` opens it by its name.
SINKS = {
    "v4l2": "occlufix_vcam.sinks.v4l2:V4l2Camera",
    "pyvirtualcam": "occlufix_vcam.sinks.virtual_camera:VirtualCamera",
    "pipewire": "occlufix_vcam.sinks.pipewire:PipeWireCamera",
    "recorder": "occlufix_vcam.sinks.recorder:Recorder",
    "null": "occlufix_vcam.sinks.null:Null",
}

#: The sinks that other programs list as a camera, by system, the best first: "auto" opens each that is there, as some
#: programs look here and some there. Their modules also have a `find_virtual_cameras`.
VIRTUAL_CAMERAS: dict[str, tuple[str, ...]] = {
    "linux": ("v4l2", "pipewire"),
    "win32": ("pyvirtualcam",),
    "darwin": ("pyvirtualcam",),
}
_ANY = ("auto", "virtual_camera")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0  # between the attempts to open a sink again
LEFT_OUT_PAUSE_S = 30.0  # for one that was not there from the start: it may start later, or its module be loaded


class FrameSink(Protocol):
    """Takes frames of any size, one after another, at the pace of its caller. Used by one thread."""

    @property
    def name(self) -> str:
        """What a person calls it: the device or the file."""
        ...

    def send(self, frame: Frame) -> None:
        """Raises SinkUnavailable when it can take no more."""
        ...

    def close(self) -> None:
        """Raises SinkUnavailable where what was sent could not be kept. A second call does nothing."""
        ...


@runtime_checkable
class Watchable(FrameSink, Protocol):
    """A sink that knows its readers. Without any it gets a placeholder frame a second, and the camera stays closed.

    A sink without `viewers` (a recording, say) wants every picture.
    """

    def viewers(self) -> Sequence[str]:
        """Who reads it now: "program (pid)", or as much of that as is known. Asked at every frame, so never blocks.

        Raises SinkUnavailable when the sink is gone.
        """
        ...


@runtime_checkable
class Flawed(FrameSink, Protocol):
    """A sink that may be wrong though it works."""

    @property
    def flaw(self) -> Trouble:
        """How; with an empty text where all is well. May be asked for by any thread."""
        ...


@dataclass(frozen=True, slots=True)
class Audience:
    """Whether any sink wants pictures; `viewers` are the programs that read, None where no sink can tell."""

    wanted: bool
    viewers: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class VirtualCameraInfo:
    """A virtual camera, or a kind of it that is missing; `problem` is "" where it is ready.

    `flaw` is what is wrong with one that works all the same; `hint` mends either.
    """

    backend: str
    name: str
    path: str
    problem: str = ""
    hint: str = ""
    flaw: str = ""


def open_sink(name: str, *, size: tuple[int, int], rate: float, path: Path | None = None) -> FrameSink:
    """Opens "auto" (the first virtual camera that opens), a name in SINKS, or a virtual camera by name or path.

    `size` is (width, height) of what goes out, `path` the recorder's file. Raises SinkUnavailable with every
    kind's reason, ConfigError for a recorder without a file.
    """
    if name == "recorder" and path is None:
        raise ConfigError("the recorder needs a file to write to", "name one: `--record FILE.mp4`")
    kinds = (name,) if name in SINKS else VIRTUAL_CAMERAS.get(sys.platform, ("pyvirtualcam",))
    target = str(path) if name == "recorder" else "auto" if name in _ANY or name in SINKS else name
    errors: list[SinkUnavailable] = []
    for kind in kinds:
        try:
            sink: FrameSink = pkgutil.resolve_name(SINKS[kind])(target, size=size, rate=rate)
            return sink
        except SinkUnavailable as error:
            errors.append(error)
    raise none_opened(errors)


def none_opened(errors: Sequence[SinkUnavailable]) -> SinkUnavailable:
    """Every reason in one error."""
    if len(errors) == 1:
        return errors[0]
    return SinkUnavailable("; ".join(error.message for error in errors), errors[0].hint)


def list_virtual_cameras() -> list[VirtualCameraInfo]:
    """Every virtual camera and every kind of it that this system knows, the best first."""
    found: list[VirtualCameraInfo] = []
    for kind in VIRTUAL_CAMERAS.get(sys.platform, ()):
        module = SINKS[kind].partition(":")[0]
        found += pkgutil.resolve_name(f"{module}:find_virtual_cameras")()
    return found


class Sinks:
    """Several sinks as one. One that fails is closed and said once; while another goes on, it is opened again.

    `openers` opens each sink again, one for each of `sinks`; None for one that must not be (it would write over a
    recording). `left_out` are sinks that were wanted, too, and did not open: they are tried again now and then.
    """

    def __init__(
        self,
        sinks: Sequence[FrameSink],
        openers: Sequence[Callable[[], FrameSink] | None] = (),
        clock: Callable[[], float] = time.monotonic,
        left_out: Sequence[LeftOut] = (),
    ) -> None:
        self._open = list(sinks)
        self._openers = {id(sink): opener for sink, opener in zip(sinks, openers, strict=False)}
        self._clock = clock
        #: What is wrong with those that worked and do not any more, and with those that never did.
        self.failures: dict[str, Trouble] = {}
        self.left_out = {one.name: trouble_of(one.error) for one in left_out}
        due = clock() + LEFT_OUT_PAUSE_S
        self._lost = [_Lost(one.name, one.opener, due, LEFT_OUT_PAUSE_S) for one in left_out]

    @property
    def open(self) -> tuple[FrameSink, ...]:
        """Those that take frames now."""
        return tuple(self._open)

    @property
    def flaws(self) -> dict[str, Trouble]:
        """What is wrong with sinks that work all the same."""
        return {sink.name: sink.flaw for sink in tuple(self._open) if isinstance(sink, Flawed) and sink.flaw.what}

    @property
    def name(self) -> str:
        return ", ".join(sink.name for sink in self._open) or "none"

    def send(self, frame: Frame) -> None:
        """Raises SinkUnavailable with every reason when none is left."""
        for lost in tuple(self._lost):
            self._open_again(lost)
        for sink in tuple(self._open):
            try:
                sink.send(frame)
            except Exception as error:  # noqa: BLE001 - whatever breaks one sink must not stop the others
                self._leave_out(sink, error)
        if not self._open:
            reasons = "; ".join(f"{name}: {trouble.what}" for name, trouble in self.failures.items())
            hint = next((trouble.hint for trouble in self.failures.values() if trouble.hint), "open another")
            raise SinkUnavailable(f"no sink is left ({reasons})" if reasons else "there is no sink", hint)

    def audience(self) -> Audience:
        """Who reads, now. Cheap enough for every frame."""
        viewers: list[str] = []
        wanted = told = False
        for sink in tuple(self._open):
            if not isinstance(sink, Watchable):
                wanted = True
                continue
            told = True
            try:
                viewers += sink.viewers()
            except Exception as error:  # noqa: BLE001 - the same
                self._leave_out(sink, error)
        return Audience(wanted or bool(viewers), tuple(viewers) if told else None)

    def close(self) -> None:
        """Closes all, the last first; then raises the trouble that came of it."""
        for lost in self._lost:
            if lost.opening is not None:
                lost.opening.give_up()
        self._lost.clear()
        with ExitStack() as closing_all:
            while self._open:
                closing_all.callback(self._open.pop(0).close)

    def _leave_out(self, sink: FrameSink, error: Exception) -> None:
        self._open.remove(sink)
        self.failures[sink.name] = trouble_of(error)
        log.warning("sink %s failed: %s", sink.name, error)
        opener = self._openers.pop(id(sink), None)
        try:
            sink.close()
        except Exception as trouble:  # noqa: BLE001 - the same; the first error is the one that counts
            log.warning("sink %s did not close well: %s", sink.name, trouble)
        if opener is not None:
            self._lost.append(_Lost(sink.name, opener, self._clock() + FIRST_PAUSE_S))

    def _open_again(self, lost: _Lost) -> None:
        """In a thread of its own, so that the other sinks do not wait for it."""
        if lost.opening is None:
            if self._clock() >= lost.due:
                lost.opening = BackgroundOpen(lost.opener)
            return
        if not lost.opening.is_over():
            return
        opening, lost.opening = lost.opening, None
        try:
            sink = opening.result()
        except Exception as error:  # noqa: BLE001 - the same
            (self.left_out if lost.name in self.left_out else self.failures)[lost.name] = trouble_of(error)
            lost.pause = min(2 * lost.pause, max(lost.pause, LONGEST_PAUSE_S))
            lost.due = self._clock() + lost.pause
            return
        log.info("sink %s is there", sink.name)
        self._lost.remove(lost)
        for told in (self.failures, self.left_out):
            told.pop(lost.name, None)
        self._openers[id(sink)] = lost.opener
        self._open.append(sink)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A sink that did not open beside others that did: what it is called, why, and what opens it."""

    name: str
    error: SinkUnavailable
    opener: Callable[[], FrameSink]


@dataclass(slots=True)
class _Lost:
    """A sink that is not there, and when to open it."""

    name: str
    opener: Callable[[], FrameSink]
    due: float
    pause: float = FIRST_PAUSE_S
    opening: BackgroundOpen[FrameSink] | None = None
