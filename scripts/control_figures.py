"""Measures the cost of the control API and its page, and the speed of toggling: python -m scripts.control_figures.

The product's own daemon runs in this process, on a frame of the demo with a hidden face. Rates are compared between
alternating turns with and without the load, so that other work on the machine affects both; the processor time per
frame is reported as well, because it hardly depends on other work.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import psutil

from occlufix_vcam.client.client import ControlClient
from occlufix_vcam.control.api import serve
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.state import ControlAddress, StateFolder
from occlufix_vcam.runtime.daemon import Daemon, Parts
from occlufix_vcam.sinks.fan_out import Sinks
from occlufix_vcam.sources import SourceOptions
from occlufix_vcam.sources.demo.source import Demo
from scripts.harness.crowd import crowd

#: Moment at which the demo wears its mask.
MASKED_AT_S = 3.0
TURN_S = 3.0
SEEN_S = 60.0


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

    def viewers(self, how_many: int) -> contextlib.AbstractContextManager[None]:
        """Processes that read the preview, as browsers do."""
        return self._readers("/v1/preview", how_many)

    def listeners(self, how_many: int) -> contextlib.AbstractContextManager[None]:
        """Processes that listen to the events as often as the page does."""
        return self._readers("/v1/events?every=0.5", how_many)

    @contextlib.contextmanager
    def _readers(self, path: str, how_many: int) -> Iterator[None]:
        stop = threading.Event()

        def look() -> None:
            url = f"{self.address.url}{path}"
            with httpx.stream("GET", url, headers=self.headers, trust_env=False, timeout=30) as response:
                for _ in response.iter_raw():
                    pass

        yield from _in_processes(look, how_many, stop)

    @contextlib.contextmanager
    def nuisances(self, how_many: int) -> Iterator[None]:
        """A fifth of each: silent, stalled while reading, flooding with and without the token, sending garbage."""
        stop = threading.Event()
        kinds = [self._silent, self._stalled, self._flood_known, self._flood_unknown, self._rubbish]

        def annoy(number: int) -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError, httpx.HTTPError):
                    kinds[number % len(kinds)](stop)

        yield from _in_processes(annoy, how_many, stop, numbered=True)

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.address.port), timeout=5)

    def _silent(self, stop: threading.Event) -> None:
        with self._connect() as connection:
            connection.sendall(b"GET /v1/status HTTP/1.1\r\nHost:")
            stop.wait(30)

    def _stalled(self, stop: threading.Event) -> None:
        with self._connect() as connection:
            head = f"GET /v1/preview HTTP/1.1\r\nHost: 127.0.0.1:{self.address.port}\r\n"
            connection.sendall(f"{head}Authorization: {self.headers['Authorization']}\r\n\r\n".encode())
            stop.wait(30)

    def _flood_known(self, stop: threading.Event) -> None:
        with httpx.Client(base_url=self.address.url, headers=self.headers, trust_env=False, timeout=30) as http:
            while not stop.is_set():
                http.get("/v1/status")

    def _flood_unknown(self, stop: threading.Event) -> None:
        with httpx.Client(base_url=self.address.url, trust_env=False, timeout=30) as http:
            while not stop.is_set():
                http.get("/v1/status")

    def _rubbish(self, stop: threading.Event) -> None:
        while not stop.is_set():
            with self._connect() as connection:
                connection.sendall(b"\x16\x03\x01rubbish\r\n\r\n" * 20)
                connection.recv(1024)


def _in_processes(
    work: Callable[..., None], how_many: int, stop: threading.Event, numbered: bool = False
) -> Iterator[None]:
    """Runs `work` in child processes with this many threads, which yield to the daemon."""
    child = os.fork()
    if child == 0:
        os.nice(19)
        workers = [
            threading.Thread(target=work, args=(number,) if numbered else (), daemon=True) for number in range(how_many)
        ]
        for worker in workers:
            worker.start()
        while os.getppid() != 1:
            time.sleep(0.2)
        os._exit(0)
    try:
        yield
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


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


def toggles(bench: Bench, how_many: int, switch: Callable[[bool], float]) -> dict[str, float]:
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


@contextlib.contextmanager
def page_of(bench: Bench, chromium: str) -> Iterator[tuple[Callable[[bool], float], dict[str, float]]]:
    """Toggle that clicks on the page, and the time until the page showed its first frame."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium)
        page = browser.new_page()
        link = httpx.post(f"{bench.address.url}/v1/links", headers=bench.headers, trust_env=False).json()["path"]
        began = time.monotonic()
        page.goto(bench.address.url + link)
        page.locator("#picture[data-number]").wait_for()
        first = {"first_picture_s": round(time.monotonic() - began, 2)}
        listen = "addEventListener('click', () => { window.at = performance.timeOrigin + performance.now(); }, true)"
        page.evaluate(listen)

        def click(wanted: bool) -> float:
            page.locator(f"#toggle[aria-checked='{str(not wanted).lower()}']").click()
            return float(page.evaluate("window.at")) / 1e3

        yield click, first
        browser.close()


def command_of(folder: str) -> Callable[[bool], float]:
    """Toggle with `occlufix-vcam toggle`, timed from before its process starts."""
    environment = {**os.environ, "OCCLUFIX_STATE_DIR": folder}

    def run(wanted: bool) -> float:
        began = time.time()
        command = [sys.executable, "-m", "occlufix_vcam", "toggle", "on" if wanted else "off"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return began

    return run


def starting(how_often: int = 20) -> dict[str, float]:
    """Parts of the command's time: Python's own start, and the start until the request."""
    took = {"python": "pass", "imports": "import occlufix_vcam.__main__"}
    return {
        f"{what}_{name}_ms": round(float(np.percentile(times, share)), 1)
        for what, code in took.items()
        for times in [[_timed([sys.executable, "-c", code]) for _ in range(how_often)]]
        for name, share in (("p50", 50), ("p95", 95))
    }


def _timed(command: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True)
    return 1e3 * (time.monotonic() - began)


@contextlib.contextmanager
def tray_of(bench: Bench, folder: str) -> Iterator[dict[str, Callable[[bool], float]]]:
    """Toggles by the tray icon and by its hotkey, under a display and a panel as in the tests."""
    from scripts.harness.desktop import Panel, display, session_bus

    with display() as shown, session_bus() as bus, contextlib.closing(Panel(bus)) as panel:
        environment = {**os.environ, **shown, "DBUS_SESSION_BUS_ADDRESS": bus, "OCCLUFIX_STATE_DIR": folder}
        from Xlib import XK, X
        from Xlib.display import Display
        from Xlib.ext import xtest

        keys = Display(shown["DISPLAY"])
        combination = [keys.keysym_to_keycode(XK.string_to_keysym(name)) for name in ("Control_L", "Alt_L", "o")]
        bench.daemon.update({"hotkey": "ctrl+alt+o"})
        icon = subprocess.Popen([sys.executable, "-m", "occlufix_vcam", "tray"], env=environment)

        def click(wanted: bool) -> float:
            panel.wait_for(lambda: panel.menu()["Restore hidden faces"]["toggle-state"] == int(not wanted))
            began = time.time()
            panel.click()
            return began

        def press(wanted: bool) -> float:
            began = time.time()
            for what, order in ((X.KeyPress, combination), (X.KeyRelease, combination[::-1])):
                for code in order:
                    xtest.fake_input(keys, what, code)
            keys.sync()
            return began

        try:
            panel.wait_for(lambda: panel.menu()["Restore hidden faces"]["enabled"])
            time.sleep(2)
            yield {"click on the tray icon": click, "hotkey": press}
        finally:
            icon.terminate()
            icon.wait()
            bench.daemon.update({"hotkey": ""})


def main() -> None:
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
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        options = SourceOptions(rate=asked.rate)
        cv2.imwrite(f"{folder}/hidden.png", Demo("demo", options).render(round(MASKED_AT_S * asked.rate)))
        settings = Settings(source=f"{folder}/hidden.png", sinks=("null",), rate=asked.rate)
        daemon = Daemon(settings, Parts(open_sinks=lambda settings, size, rate, kept: Sinks([watch])))
        runs = threading.Thread(target=daemon.run)
        runs.start()
        state = StateFolder(Path(folder))
        with state.hold(), serve(daemon, state) as address:
            bench = Bench(daemon, watch, address)
            watch.first(restored=True)
            bench.turn(5.0)

            http = httpx.Client(base_url=address.url, headers=bench.headers, trust_env=False)

            def ask(wanted: bool) -> float:
                began = time.time()
                http.post("/v1/toggle", json={"enabled": wanted}).raise_for_status()
                return began

            say("toggle, API", toggles(bench, asked.toggles, ask))
            say("toggle, command", toggles(bench, asked.toggles, command_of(folder)))
            say("the command's start", starting())
            with bench.listeners(1):
                time.sleep(1)
                say(f"a listener to events for {SEEN_S:.0f} s", shares(SEEN_S))
            if asked.tray:
                with tray_of(bench, folder) as ways:
                    for way, switch in ways.items():
                        say(f"toggle, {way}", toggles(bench, asked.toggles, switch))
            if asked.chromium:
                with page_of(bench, asked.chromium) as (click, first):
                    say("page", first)
                    say(f"page in sight for {SEEN_S:.0f} s", shares(SEEN_S))
                    say("toggle, click on the page", toggles(bench, asked.toggles, click))
            if asked.crowd:
                told = crowded(bench, asked.crowd, asked.hostile, folder)
                say(f"{asked.crowd} idle connections and {asked.hostile} hostile requests", told)
            loads = {
                "one preview": lambda: bench.viewers(1),
                "five previews": lambda: bench.viewers(5),
                "50 clients that stall, flood or send rubbish": lambda: bench.nuisances(50),
            }
            for what, load in loads.items():
                if asked.turns and asked.only in what:
                    say(what, bench.compare(load, asked.turns))
            http.close()
            daemon.stop()
            runs.join()


def say(what: str, figures: dict[str, float]) -> None:
    print(json.dumps({what: figures}), flush=True)


if __name__ == "__main__":
    main()
