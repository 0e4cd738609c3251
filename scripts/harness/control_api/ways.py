"""Ways to toggle the daemon: each switches, and returns when it was asked to, as time.time()."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import httpx
import numpy as np

from scripts.harness.control_api.bench import Bench

Switch = Callable[[bool], float]


@contextlib.contextmanager
def api_of(bench: Bench) -> Iterator[Switch]:
    """Toggle by a request over a kept connection."""
    with httpx.Client(base_url=bench.address.url, headers=bench.headers, trust_env=False) as http:

        def ask(wanted: bool) -> float:
            began = time.time()
            http.post("/v1/toggle", json={"enabled": wanted}).raise_for_status()
            return began

        yield ask


@contextlib.contextmanager
def page_of(bench: Bench, chromium: str) -> Iterator[tuple[Switch, dict[str, float]]]:
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


def command_of(folder: str) -> Switch:
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
def tray_of(bench: Bench, folder: str) -> Iterator[dict[str, Switch]]:
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
