"""How the control page is opened: no command line names its link, and where that fails the user is given it."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import pytest

from occlufix_vcam.client import open_page as opening
from occlufix_vcam.client.client import ControlClient
from occlufix_vcam.client.open_page import open_page
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.runtime.daemon import Daemon
from tests.conftest import ROOT
from tests.harness.control import Served, serving


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(Daemon(Settings()), tmp_path / "state") as served:
        yield served


def read(address: str) -> str:
    """The link to which a file leads that a browser was given."""
    assert address.startswith("file://")
    found = re.search(r'content="0; url=([^"]+)"', Path(unquote(urlsplit(address).path)).read_text())
    assert found is not None
    return found[1]


def test_the_browser_is_given_a_file_that_leads_to_the_page_and_then_is_gone(served: Served) -> None:
    given: list[str] = []

    def browser(address: str) -> bool:
        given.append(address)
        if sys.platform != "win32":
            assert stat.S_IMODE(Path(unquote(urlsplit(address).path)).stat().st_mode) == 0o600
        return httpx.get(read(address), trust_env=False).status_code == 200

    with ControlClient(served.state) as client:
        assert open_page(client, browser) == ""
    assert "key=" not in given[0] and list(served.state.path.glob("open-*")) == []


@pytest.mark.parametrize("opens", [False, True], ids=["no browser", "a browser that can't read the file"])
def test_the_user_is_given_a_link_where_no_page_opened(
    served: Served, monkeypatch: pytest.MonkeyPatch, opens: bool
) -> None:
    monkeypatch.setattr(opening, "OPENED_WITHIN_S", 0.0)
    with ControlClient(served.state) as client:
        link = open_page(client, lambda address: opens)
    assert httpx.get(link, trust_env=False).status_code == 200


@pytest.mark.skipif(sys.platform == "win32", reason="the browser here is a shell script")
def test_no_command_line_names_the_link(served: Served, tmp_path: Path) -> None:
    """As in `occlufix-vcam preview`: this browser writes down how it was called, then opens what it was given."""
    browser, called = tmp_path / "browser", tmp_path / "called"
    open_it = (
        "import pathlib, re, sys, urllib.parse as u, urllib.request as r\n"
        "told = pathlib.Path(u.unquote(u.urlsplit(sys.argv[1]).path)).read_text()\n"
        "r.build_opener(r.ProxyHandler({})).open(re.search('url=([^\"]+)', told)[1])\n"
    )
    (tmp_path / "open.py").write_text(open_it)
    browser.write_text(f'#!/bin/sh\necho "$@" > {called}\nexec {sys.executable} {tmp_path}/open.py "$@"\n')
    browser.chmod(0o755)
    environment = {**os.environ, "BROWSER": str(browser), "OCCLUFIX_STATE_DIR": str(served.state.path)}
    command = [sys.executable, "-m", "occlufix_vcam", "preview"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert called.read_text().startswith("file://") and "key=" not in called.read_text()
