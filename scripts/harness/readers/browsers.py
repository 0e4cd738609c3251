"""Headless Chromium and Firefox on a page that opens the camera as a call does, and reports what it saw."""

from __future__ import annotations

import contextlib
import http.server
import json
import mimetypes
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from scripts.harness.readers import numbered
from scripts.harness.readers.session import background

DEBIAN_PACKAGES = {"chromium": "chromium-headless-shell", "firefox": "firefox-esr"}
PROGRAMS = {"chromium": ("chromium-headless-shell", "chromium"), "firefox": ("firefox-esr", "firefox")}
WITHIN_S = 90.0
#: Firefox without a display crashes now and then while it starts (its GFX1 compositor): it then gets another chance.
STARTS = 2
CRASHED = "ExceptionHandler::GenerateDump"

_CHROMIUM = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",  # grants without asking the user
    "--enable-features=WebRtcPipeWireCamera",
)
#: Allows cameras through PipeWire without asking, and disables everything that uses the network.
_FIREFOX = {
    "media.webrtc.camera.allow-pipewire": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "app.normandy.enabled": False,
    "app.update.auto": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "http://127.0.0.1:1/",
    "toolkit.telemetry.enabled": False,
}


#: For calls over loopback alone: real addresses in the offers, and loopback among them.
_CHROMIUM_CALLS = ("--disable-features=WebRtcHideLocalIpsWithMdns", "--allow-loopback-in-peer-connection")
_CHROMIUM_CALLS += ("--autoplay-policy=no-user-gesture-required",)
_FIREFOX_CALLS = {
    "media.peerconnection.ice.loopback": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "media.gmp-manager.url": "http://127.0.0.1:1/",
}


def program(browser: str) -> str | None:
    return next((found for name in PROGRAMS[browser] if (found := shutil.which(name))), None)


def watch(
    browser: str,
    environment: Mapping[str, str],
    folder: Path,
    *,
    label: str,
    pictures: int = 12,
    pause_s: float = 0,
    bars: bool = False,
    flags: tuple[str, ...] = (),
    prefix: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Report of the page. The camera is opened twice, as calls do: `pause_s` later for the frames.

    `flags` follow the browser's command, `prefix` runs it, for example as another user.

    The page waits for numbered frames, or for a camera's test image of eight `bars`.
    """
    with _served() as (port, answers):
        asked = {"label": label, "pictures": pictures, "bits": numbered.BITS, "pause": round(1000 * pause_s)}
        asked |= {"seconds": round(WITHIN_S / 3), **({"bars": 1} if bars else {})}
        url = f"http://127.0.0.1:{port}/?{urlencode(asked)}"
        for _ in range(STARTS):
            told = _report(browser, url, prefix, flags, environment, folder / f"{browser}.log", answers)
            if told is not None:
                return told
        log = (folder / f"{browser}.log").read_text(errors="replace")
        raise TimeoutError(f"{browser} reported nothing within {WITHIN_S:.0f} s: {log[-1500:]}")


def _report(
    browser: str,
    url: str,
    prefix: tuple[str, ...],
    flags: tuple[str, ...],
    environment: Mapping[str, str],
    log: Path,
    answers: queue.Queue[dict[str, Any]],
) -> dict[str, Any] | None:
    """Report of the page in a new browser; None if the browser crashed, or reported nothing in time."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [*prefix, *command_of(browser, profile, url), *flags]
        with background(command, {**environment, "HOME": profile}, log):
            ends_at = time.monotonic() + WITHIN_S
            while time.monotonic() < ends_at and CRASHED not in log.read_text(errors="replace"):
                with contextlib.suppress(queue.Empty):
                    return answers.get(timeout=0.5)
    return None


def command_of(browser: str, profile: str, url: str, *, calls: bool = False) -> list[str]:
    """Command that opens `url` with a new profile; `calls` lets it take part in calls over loopback."""
    return _COMMANDS[browser](program(browser) or browser, profile, url, calls)


def _chromium(path: str, profile: str, url: str, calls: bool) -> list[str]:
    flags = (*_CHROMIUM, *(_CHROMIUM_CALLS if calls else ()))
    return [path, *flags, f"--user-data-dir={profile}", "--remote-debugging-port=0", url]


def _firefox(path: str, profile: str, url: str, calls: bool) -> list[str]:
    wanted = {**_FIREFOX, **(_FIREFOX_CALLS if calls else {})}
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in wanted.items()]
    (Path(profile) / "user.js").write_text("\n".join(lines))
    return [path, "--headless", "--no-remote", "--profile", profile, url]


_COMMANDS: dict[str, Callable[[str, str, str, bool], list[str]]] = {"chromium": _chromium, "firefox": _firefox}


@contextmanager
def _served() -> Iterator[tuple[int, queue.Queue[dict[str, Any]]]]:
    """The page on loopback, where browsers allow cameras without TLS; its POST requests arrive in the queue."""
    answers: queue.Queue[dict[str, Any]] = queue.Queue()

    def take(path: str, body: bytes) -> None:
        answers.put(json.loads(body))

    with served(Path(__file__).with_name("page.html"), lambda path: b"", take) as port:
        yield port, answers


@contextmanager
def served(page: Path, get: Callable[[str], bytes | None], post: Callable[[str, bytes], None]) -> Iterator[int]:
    """Serves `page` at "/?..." on a port of 127.0.0.1, and the scripts beside it; other paths are read by `get` (None:
    not found) and written by `post`.
    """
    content = page.read_bytes()
    scripts = {f"/{script.name}": script.read_bytes() for script in page.parent.glob("*.js")}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = content if self.path.startswith("/?") else scripts.get(self.path) or get(self.path)
            self._answer(200 if body is not None else 404, body or b"")

        def do_POST(self) -> None:
            post(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(200, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", mimetypes.guess_type(urlsplit(self.path).path)[0] or "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keeps the tests' output clear."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
