"""A browser on the control page of a running daemon.

Skipped where there is no Chromium (Debian: `apt install chromium`).
OCCLUFIX_SCREENSHOTS names a folder in which pictures of the page are left.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scripts.harness.readers.browsers import program
from tests.harness.control import Product

if TYPE_CHECKING:
    from tests.harness.page import Visit


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from tests.harness.page import playwright

    chromium = program("chromium")
    if chromium is None:
        pytest.skip("NO CHROMIUM: the control page is NOT tested; on Debian: apt install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any, product: Product) -> Iterator[Visit]:
    from tests.harness.page import Visit

    if not product.state.held():
        product.run("start")
    with product.client() as client:
        client.toggle(True)
    visit = Visit(browser, product, viewport={"width": 1366, "height": 900})
    yield visit
    if folder := os.environ.get("OCCLUFIX_SCREENSHOTS"):
        name = re.sub(r"\W+", "-", os.environ["PYTEST_CURRENT_TEST"].split("::")[1].split()[0])
        visit.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
    visit.context.close()
