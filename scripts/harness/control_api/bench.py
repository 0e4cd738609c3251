"""The product's own daemon in this process, on a frame of the demo with a hidden face, with its control API."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2

from occlufix_vcam.control.api import serve
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.state import ControlAddress, StateFolder
from occlufix_vcam.runtime.daemon import Daemon, Parts
from occlufix_vcam.sinks.fan_out import Sinks
from occlufix_vcam.sources import SourceOptions
from occlufix_vcam.sources.demo.source import Demo

#: Moment at which the demo wears its mask.
MASKED_AT_S = 3.0
TURN_S = 3.0


class Watch:
    """Sink that notes the time of the first restored or untouched frame after a moment."""

    name = "watch"

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._last: tuple[float, bool] = (0.0, False)

    def send(self, frame: Frame) -> None:
        with self._changed:
            self._last = (time.time(), frame.restored_from is not None)
            self._changed.notify_all()

    def close(self) -> None:
        """Does nothing: there is nothing to release."""

    def first(self, restored: bool) -> float:
        """Time of the first such frame from now on, as time.time()."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._last[1] is restored, 30), "no frame changed within 30 s"
            return self._last[0]


class Bench:
    """Compares the daemon's rate with and without a load, in turns."""

    def __init__(self, daemon: Daemon, watch: Watch, address: ControlAddress) -> None:
        self.daemon, self.watch, self.address = daemon, watch, address
        self.headers = {"Authorization": f"Bearer {address.token}"}

    def turn(self, seconds: float = TURN_S) -> tuple[float, float]:
        """Frames per second, and milliseconds of processor time per frame."""
        frames, cpu, began = self.daemon.status()["frames"], time.process_time(), time.monotonic()
        time.sleep(seconds)
        made = self.daemon.status()["frames"] - frames
        return made / (time.monotonic() - began), 1e3 * (time.process_time() - cpu) / max(1, made)

    def compare(self, load: Callable[[], contextlib.AbstractContextManager[None]], turns: int) -> dict[str, float]:
        """Medians over pairs of turns without and with the load."""
        rates, costs, plain = [], [], []
        for _ in range(turns):
            rate, cost = self.turn()
            with load():
                time.sleep(0.5)
                loaded_rate, loaded_cost = self.turn()
            again, _ = self.turn()
            base = (rate + again) / 2
            plain.append(base)
            rates.append(loaded_rate / base)
            costs.append(loaded_cost / cost)
        return {
            "pictures_a_second_without": round(statistics.median(plain), 1),
            "rate_with_against_without": round(statistics.median(rates), 3),
            "lowest": round(min(rates), 3),
            "highest": round(max(rates), 3),
            "processor_time_with_against_without": round(statistics.median(costs), 3),
        }


@contextlib.contextmanager
def running(folder: Path, rate: float) -> Iterator[Bench]:
    """The daemon during the block, once it restores at `rate`; `folder` is its state folder."""
    hidden = folder / "hidden.png"
    cv2.imwrite(str(hidden), Demo("demo", SourceOptions(rate=rate)).render(round(MASKED_AT_S * rate)))
    settings, watch = Settings(source=str(hidden), sinks=("null",), rate=rate), Watch()
    daemon = Daemon(settings, Parts(open_sinks=lambda settings, size, rate, kept: Sinks([watch])))
    runs = threading.Thread(target=daemon.run)
    runs.start()
    state = StateFolder(folder)
    try:
        with state.hold(), serve(daemon, state) as address:
            bench = Bench(daemon, watch, address)
            watch.first(restored=True)
            bench.turn(5.0)
            yield bench
    finally:
        daemon.stop()
        runs.join()
