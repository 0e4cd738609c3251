"""Measures the cost of the control API and its page, and the speed of toggling: python -m scripts.control_figures.

Rates are compared between
alternating turns with and without the load, so that other work on the machine affects both; the processor time per
frame is reported as well, because it hardly depends on other work.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from occlufix_vcam.client.client import ControlClient
from occlufix_vcam.core.state import StateFolder
from scripts.harness.control_api.bench import Bench, running
from scripts.harness.control_api.loads import listeners, nuisances, viewers
from scripts.harness.control_api.ways import Switch, api_of, command_of, page_of, starting, tray_of
from scripts.harness.crowd import crowd

SEEN_S = 60.0
LOADS: dict[str, Callable[[Bench], contextlib.AbstractContextManager[None]]] = {
    "one preview": partial(viewers, how_many=1),
    "five previews": partial(viewers, how_many=5),
    "50 clients that stall, flood or send rubbish": partial(nuisances, how_many=50),
}


def main() -> None:
    asked = arguments()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), asked.rate) as bench:
        measure_toggles(bench, asked, folder)
        with listeners(bench, 1):
            time.sleep(1)
            say(f"a listener to events for {SEEN_S:.0f} s", shares(SEEN_S))
        if asked.chromium:
            with page_of(bench, asked.chromium) as (click, first):
                say("page", first)
                say(f"page in sight for {SEEN_S:.0f} s", shares(SEEN_S))
                say("toggle, click on the page", toggles(bench, asked.toggles, click))
        if asked.crowd:
            told = crowded(bench, asked.crowd, asked.hostile, folder)
            say(f"{asked.crowd} idle connections and {asked.hostile} hostile requests", told)
        for what, load in LOADS.items():
            if asked.turns and asked.only in what:
                say(what, bench.compare(partial(load, bench), asked.turns))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=6, help="pairs of turns for each load; 0 leaves the loads out")
    parser.add_argument("--toggles", type=int, default=40)
    parser.add_argument("--chromium", default="", help="also measure the page, with this browser")
    parser.add_argument("--tray", action="store_true", help="also measure the tray icon and its hotkey, under Xvfb")
    parser.add_argument("--crowd", type=int, default=0, help="also measure beside so many idle connections, e.g. 2000")
    parser.add_argument("--hostile", type=int, default=10_000, help="requests without the token beside that crowd")
    parser.add_argument("--only", default="", help="only loads with this in their name")
    parser.add_argument("--rate", type=float, default=30.0, help="frame rate of the source")
    asked = parser.parse_args()
    if asked.toggles < 2:
        parser.error("--toggles: at least 2, one each way")
    return asked


def measure_toggles(bench: Bench, asked: argparse.Namespace, folder: str) -> None:
    with api_of(bench) as ask:
        say("toggle, API", toggles(bench, asked.toggles, ask))
    say("toggle, command", toggles(bench, asked.toggles, command_of(folder)))
    say("the command's start", starting())
    if asked.tray:
        with tray_of(bench, folder) as ways:
            for way, switch in ways.items():
                say(f"toggle, {way}", toggles(bench, asked.toggles, switch))


def toggles(bench: Bench, how_many: int, switch: Switch) -> dict[str, float]:
    """Milliseconds from a toggle to the first frame of the other kind."""
    took: dict[bool, list[float]] = {True: [], False: []}
    for number in range(how_many):
        restored = number % 2 == 1
        asked = switch(restored)
        took[restored].append(1e3 * (bench.watch.first(restored) - asked))
        time.sleep(0.3 + 0.05 * (number % 7))
    both = took[True] + took[False]
    return {
        "p50_ms": round(float(np.percentile(both, 50)), 1),
        "p95_ms": round(float(np.percentile(both, 95)), 1),
        "off_p95_ms": round(float(np.percentile(took[False], 95)), 1),
        "on_p95_ms": round(float(np.percentile(took[True], 95)), 1),
        "pipeline_p50_ms": round(bench.daemon.status()["stages"]["total"]["p50_ms"], 1),
    }


def shares(seconds: float) -> dict[str, float]:
    """Percent of a core that the control API takes: the thread that answers, and the one that encodes previews."""
    names = {thread.native_id: thread.name for thread in threading.enumerate() if thread.name in ("control", "preview")}
    before = _thread_times(names)
    time.sleep(seconds)
    after = _thread_times(names)
    return {f"{names[one]}_percent": round(100 * (after[one] - before.get(one, 0.0)) / seconds, 1) for one in after}


def _thread_times(wanted: Collection[int | None]) -> dict[int, float]:
    return {one.id: one.user_time + one.system_time for one in psutil.Process().threads() if one.id in wanted}


def crowded(bench: Bench, idle: int, hostile: int, folder: str) -> dict[str, float]:
    """The rate beside a crowd against the turns before and after it, and how long an honest client waits meanwhile."""
    before = [bench.turn()[0] for _ in range(4)]
    waits_before = answers(folder)
    beside, waits = [], {}
    with crowd(bench.address.port, idle, hostile) as (is_done, told):
        while not is_done():
            beside.append(bench.turn()[0])
            waits = waits or answers(folder)
    again = [bench.turn()[0] for _ in range(4)]
    return {
        "rate_with_against_without": round(statistics.mean(beside) / statistics.mean(before + again), 3),
        **{f"{name}_without": value for name, value in waits_before.items()},
        **waits,
        **told,
    }


def answers(folder: str, how_many: int = 60) -> dict[str, float]:
    """How long `toggle` takes until it is answered: the client over a new connection each, and the whole command."""
    state, command = StateFolder(Path(folder)), command_of(folder)
    took: dict[str, list[float]] = {"client": [], "command": []}
    for number in range(how_many):
        wanted = number % 2 == 1
        for way, switch in (("client", lambda on: ControlClient(state).toggle(on)), ("command", command)):
            began = time.monotonic()
            switch(wanted)
            took[way].append(1e3 * (time.monotonic() - began))
    return {
        f"toggle_{way}_{name}_ms": round(float(np.percentile(times, share)), 1)
        for way, times in took.items()
        for name, share in (("p50", 50), ("p95", 95))
    }


def say(what: str, figures: dict[str, float]) -> None:
    print(json.dumps({what: figures}), flush=True)


if __name__ == "__main__":
    main()
