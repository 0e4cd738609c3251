"""The control page as a person uses it: headless Chromium, the real daemon, the demo.

A test module that imports this is skipped where playwright is missing.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.control import Product

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install -e .[dev]")

expect = playwright.expect
WAIT_MS = 60_000
expect.set_options(timeout=WAIT_MS)


class Visit:
    """A page that was opened with a fresh link, and what the browser complained of meanwhile."""

    def __init__(self, browser: Any, product: Product, guided: bool = True, **context: Any) -> None:
        """`guided`: the guide of the first run was seen before."""
        self.context = browser.new_context(**context)
        self.context.set_default_timeout(WAIT_MS)
        if guided:
            self.context.add_init_script("localStorage.setItem('guided', '1')")
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda told: told.type == "error" and self.complaints.append(told.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        with product.client() as client:
            self.address = client.address.url
            self.page.goto(client.link())
        self.picture = self.page.locator("#picture")
        self.page.locator("#picture[data-number]").wait_for()

    def open_advanced(self) -> None:
        self.page.click("#advanced summary")

    def field_of(self, setting: str) -> Any:
        return self.page.locator(".field", has=self.page.locator(f"#setting-{setting}"))

    def wait_for_another(self) -> None:
        """Until the next picture shows."""
        shown = self.picture.get_attribute("data-number")
        expect(self.picture).not_to_have_attribute("data-number", shown)

    def wait_for_restored(self) -> None:
        """Until a picture shows in which a face was restored: the demo has one every few seconds."""
        self.page.locator("#picture[data-halves='2']").wait_for()
