"""A control API over a real loopback socket, and the whole product as a process of its own."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from occlufix_vcam.client.client import ControlClient
from occlufix_vcam.control.api import serve
from occlufix_vcam.core.state import ControlAddress, StateFolder
from occlufix_vcam.runtime.daemon import Daemon
from tests.conftest import ROOT


@dataclass(frozen=True)
class Page:
    """What a page has once it is let in."""

    secret: str
    id: str
    key: str
    cookie: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"}


def session_in(page: str) -> dict[str, str]:
    """The session that came with a page."""
    found = re.search('<meta name="session" content="([^"]*)">', page)
    assert found is not None
    given: dict[str, str] = json.loads(html.unescape(found[1]))
    return given


@dataclass
class Served:
    daemon: Daemon
    state: StateFolder
    address: ControlAddress
    http: httpx.Client

    def ask(self, method: str = "GET", path: str = "/v1/status", **more: object) -> httpx.Response:
        """A request with the token; `headers` are added, None takes one away."""
        headers = {"Authorization": f"Bearer {self.address.token}", **more.pop("headers", {})}  # type: ignore[dict-item]
        kept = {name: value for name, value in headers.items() if value is not None}
        return self.http.request(method, path, headers=kept, **more)  # type: ignore[arg-type]

    def let_in(self) -> Page:
        """A page that opened a link."""
        opened = self.http.get(self.ask("POST", "/v1/links").json()["path"])
        assert opened.status_code == 200
        self.http.cookies.clear()
        given = session_in(opened.text)
        return Page(given["session"], given["id"], given["key"], opened.headers["set-cookie"].split(";")[0])


@contextmanager
def serving(daemon: Daemon, folder: Path) -> Iterator[Served]:
    state = StateFolder(folder)
    with (
        state.hold(),
        serve(daemon, state) as address,
        httpx.Client(base_url=address.url, trust_env=False, timeout=20) as http,
    ):
        yield Served(daemon, state, address, http)


class Product:
    """The occlufix-vcam command with folders of its own; the daemon shows the demo and sends nowhere."""

    def __init__(self, folder: Path) -> None:
        self.state = StateFolder(folder / "state")
        self.environment = {
            **os.environ,
            "OCCLUFIX_STATE_DIR": str(folder / "state"),
            "OCCLUFIX_CONFIG": str(folder / "settings.toml"),
            "OCCLUFIX_SOURCE": "demo",
            "OCCLUFIX_SINKS": "null",
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_CONFIG_HOME": str(folder / "config"),  # where a desktop names its folders
            "XDG_VIDEOS_DIR": str(folder / "videos"),
        }

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "occlufix_vcam", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=150)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def client(self) -> ControlClient:
        return ControlClient(self.state)


@contextmanager
def started(folder: Path) -> Iterator[Product]:
    """The product with its daemon, until the block ends."""
    product = Product(folder)
    product.run("start")
    yield product
    if product.state.held():
        product.run("stop")
