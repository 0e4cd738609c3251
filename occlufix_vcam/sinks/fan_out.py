"""Sends each frame to several sinks: `Sinks`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from occlufix_vcam.core.background_open import BackgroundOpen
from occlufix_vcam.core.errors import OccluFixError, SinkUnavailable, Trouble, trouble_of
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.sinks import Flawed, FrameSink, Watchable

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0  # between attempts to reopen a sink
LEFT_OUT_PAUSE_S = 30.0  # for a sink that failed to open at first: its program or module may be loaded later


@dataclass(frozen=True, slots=True)
class Audience:
    """Whether any sink wants frames; `viewers` are the programs that read, None if no sink can tell."""

    wanted: bool
    viewers: tuple[str, ...] | None


class Sinks:
    """Several sinks as one. A failed sink is closed and logged once; while another works, it is retried.

    `openers` reopens each sink, one for each of `sinks`; None for one that must not reopen (a recording with a gap):
    its failure is raised again at the end. `left_out` are requested sinks that did not open: they are retried now and
    then. `keys` names those that stay open when a change of settings concerns only others: see `release`.
    """

    def __init__(
        self,
        sinks: Sequence[FrameSink],
        openers: Sequence[Callable[[], FrameSink] | None] = (),
        clock: Callable[[], float] = time.monotonic,
        left_out: Sequence[LeftOut] = (),
        keys: Sequence[str] = (),
    ) -> None:
        self._open = list(sinks)
        self._ended: list[Exception] = []
        self._openers = {id(sink): opener for sink, opener in zip(sinks, openers, strict=False)}
        self._keys = {id(sink): key for sink, key in zip(sinks, keys, strict=False)}
        self._clock = clock
        #: Trouble of sinks that stopped working, and of sinks that never opened.
        self.failures: dict[str, Trouble] = {}
        self.left_out = {one.name: trouble_of(one.error) for one in left_out}
        due = clock() + LEFT_OUT_PAUSE_S
        self._lost = [_Lost(one.name, one.opener, due, LEFT_OUT_PAUSE_S, key=one.name) for one in left_out]

    @property
    def open(self) -> tuple[FrameSink, ...]:
        """Sinks that accept frames now."""
        return tuple(self._open)

    @property
    def flaws(self) -> dict[str, Trouble]:
        """Flaws of sinks that still work."""
        return {sink.name: sink.flaw for sink in tuple(self._open) if isinstance(sink, Flawed) and sink.flaw.what}

    @property
    def name(self) -> str:
        return ", ".join(sink.name for sink in self._open) or "none"

    def send(self, frame: Frame) -> None:
        """Sends a frame to every sink. Raises SinkUnavailable with every reason if none is left."""
        for lost in tuple(self._lost):
            self._open_again(lost)
        for sink in tuple(self._open):
            try:
                sink.send(frame)
            except Exception as error:  # noqa: BLE001 - a broken sink must not stop the others
                self._leave_out(sink, error)
        if not self._open:
            reasons = "; ".join(f"{name}: {trouble.what}" for name, trouble in self.failures.items())
            hint = next((trouble.hint for trouble in self.failures.values() if trouble.hint), "open another")
            what = f"no sink works any more ({reasons})" if reasons else "there is no sink"
            raise SinkUnavailable(what, hint, code="virtual_camera_lost")

    def audience(self) -> Audience:
        """Current readers. Cheap enough for every frame."""
        viewers: list[str] = []
        wanted = told = False
        for sink in tuple(self._open):
            if not isinstance(sink, Watchable):
                wanted = True
                continue
            told = True
            try:
                viewers += sink.viewers()
            except Exception as error:  # noqa: BLE001 - as above
                self._leave_out(sink, error)
        return Audience(wanted or bool(viewers), tuple(viewers) if told else None)

    def release(self) -> dict[str, KeptSink]:
        """The open sinks that have a key, which belong to the caller from now on; the others are closed."""
        kept = {
            self._keys[id(sink)]: KeptSink(sink, self._openers.get(id(sink)))
            for sink in self._open
            if id(sink) in self._keys
        }
        self._open = [sink for sink in self._open if id(sink) not in self._keys]
        self._ended.clear()
        self.close()
        return kept

    def close(self) -> None:
        """Closes all, last first; then raises the first trouble."""
        for lost in self._lost:
            if lost.opening is not None:
                lost.opening.give_up()
        self._lost.clear()
        with ExitStack() as closing_all:
            while self._open:
                closing_all.callback(self._open.pop(0).close)
        if self._ended:
            raise self._ended.pop()

    def _leave_out(self, sink: FrameSink, error: Exception) -> None:
        self._open.remove(sink)
        self.failures[sink.name] = trouble_of(error)
        log.warning("sink %s failed: %s", sink.name, error)
        must_not_reopen = self._openers.get(id(sink), sink) is None
        opener, key = self._openers.pop(id(sink), None), self._keys.pop(id(sink), None)
        try:
            sink.close()
        except Exception as trouble:  # noqa: BLE001 - as above; the first error counts
            log.warning("sink %s did not close well: %s", sink.name, trouble)
        if must_not_reopen:
            self._ended.append(error)
        if opener is not None:
            self._lost.append(_Lost(sink.name, opener, self._clock() + FIRST_PAUSE_S, key=key))

    def _open_again(self, lost: _Lost) -> None:
        """Reopens in a background thread, so that the other sinks do not wait."""
        if lost.opening is None:
            if self._clock() >= lost.due:
                lost.opening = BackgroundOpen(lost.opener)
            return
        if not lost.opening.is_over():
            return
        opening, lost.opening = lost.opening, None
        try:
            sink = opening.result()
        except Exception as error:  # noqa: BLE001 - as above
            (self.left_out if lost.name in self.left_out else self.failures)[lost.name] = trouble_of(error)
            lost.pause = min(2 * lost.pause, max(lost.pause, LONGEST_PAUSE_S))
            lost.due = self._clock() + lost.pause
            return
        log.info("sink %s is open", sink.name)
        self._lost.remove(lost)
        for told in (self.failures, self.left_out):
            told.pop(lost.name, None)
        self._openers[id(sink)] = lost.opener
        self._keys |= {id(sink): lost.key} if lost.key is not None else {}
        self._open.append(sink)


@dataclass(frozen=True, slots=True)
class KeptSink:
    """A sink that stays open while others beside it change, and what opens it again."""

    sink: FrameSink
    opener: Callable[[], FrameSink] | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Sink that did not open though others did: its name, the reason, and a function that opens it."""

    name: str
    error: OccluFixError
    opener: Callable[[], FrameSink]


@dataclass(slots=True)
class _Lost:
    """Sink that is not open, and when to retry it."""

    name: str
    opener: Callable[[], FrameSink]
    due: float
    pause: float = FIRST_PAUSE_S
    opening: BackgroundOpen[FrameSink] | None = None
    key: str | None = None
