"""The control page as a person uses it: headless Chromium, the real daemon, the demo.

Skipped where there is no Chromium (Debian: `apt install chromium`) or no playwright.
OCCLUFIX_SCREENSHOTS names a folder in which pictures of the page are left.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from occlufix_vcam.control.page_routes import PAGE
from scripts.harness.readers.browsers import program
from tests.harness.control import Product

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install -e .[dev]")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing: pip install -e .[dev]")

expect = playwright.expect
WAIT_MS = 60_000
expect.set_options(timeout=WAIT_MS)
#: Share of the canvases' pixels that differ between before and after.
DIFFERENCE = """() => {
  const [a, b] = ["before", "after"].map((id) => {
    const canvas = document.getElementById(id);
    return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  });
  let different = 0;
  for (let at = 0; at < a.length; at += 4) different += Math.abs(a[at] - b[at]) > 24;
  return different / (a.length / 4);
}"""
OUTLINED = """() => {
  const canvas = document.getElementById("outline");
  return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((level) => level > 0);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = program("chromium")
    if chromium is None:
        pytest.skip("NO CHROMIUM: the control page is NOT tested; on Debian: apt install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium)
        yield browser
        browser.close()


class Visit:
    """A page that was opened with a fresh link, and what the browser complained of meanwhile."""

    def __init__(self, browser: Any, product: Product, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.context.set_default_timeout(WAIT_MS)
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

    def wait_for_another(self) -> None:
        """Until the next picture shows."""
        shown = self.picture.get_attribute("data-number")
        expect(self.picture).not_to_have_attribute("data-number", shown)

    def wait_for_restored(self) -> None:
        """Until a picture shows in which a face was restored: the demo has one every few seconds."""
        self.page.locator("#picture[data-halves='2']").wait_for()


@pytest.fixture
def visit(browser: Any, product: Product) -> Iterator[Visit]:
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


def test_it_shows_before_and_after_without_a_complaint_or_a_stranger(visit: Visit, product: Product) -> None:
    while visit.page.evaluate(DIFFERENCE) < 0.002:  # the demo hides the face for some seconds, then shows it again
        visit.wait_for_another()
    expect(visit.page.locator("#mood")).to_contain_text("On")
    with product.client() as client:
        stages = len(client.status()["stages"])
    expect(visit.page.locator("#stages tr")).to_have_count(stages)
    assert visit.complaints == []
    assert {url for url in visit.asked if not url.startswith((visit.address, "blob:"))} == set()


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in PAGE.iterdir()) < 150 * 1024


def test_a_click_switches_off_and_the_picture_is_the_untouched_one(visit: Visit, product: Product) -> None:
    visit.wait_for_restored()
    visit.page.click("#toggle")
    expect(visit.page.locator("#toggle")).to_have_attribute("aria-checked", "false")
    expect(visit.picture).to_have_attribute("data-halves", "1")
    assert visit.page.evaluate(DIFFERENCE) == 0
    expect(visit.page.locator("#mood")).to_contain_text("Off")
    with product.client() as client:
        assert not client.status()["enabled"]
    visit.page.locator("body").press("t")
    expect(visit.page.locator("#toggle")).to_have_attribute("aria-checked", "true")
    visit.wait_for_restored()
    assert visit.complaints == []


def test_a_switch_elsewhere_shows_here(visit: Visit, product: Product) -> None:
    with product.client() as client:
        client.toggle(False)
    expect(visit.page.locator("#toggle")).to_have_attribute("aria-checked", "false")


def test_the_divider_follows_mouse_and_keys(visit: Visit) -> None:
    divider, box = visit.page.locator("#divider"), visit.picture.bounding_box()
    visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 3, steps=4)
    visit.page.mouse.up()
    expect(divider).to_have_attribute("aria-valuenow", "25")
    for key, share in (("ArrowRight", "27"), ("End", "100"), ("ArrowRight", "100"), ("Home", "0"), ("PageUp", "10")):
        divider.press(key)
        expect(divider).to_have_attribute("aria-valuenow", share)


def test_the_outline_is_drawn_on_wish(visit: Visit) -> None:
    assert not visit.page.evaluate(OUTLINED)
    visit.page.check("#outlined")
    while not visit.page.evaluate(OUTLINED):
        visit.wait_for_another()
    visit.page.uncheck("#outlined")
    assert not visit.page.evaluate(OUTLINED)


def test_a_setting_is_changed_kept_and_refused_with_its_bound(visit: Visit, product: Product) -> None:
    field = visit.page.locator(".field", has=visit.page.locator("#setting-min_coverage"))
    visit.page.fill("#setting-min_coverage", "0.05")
    visit.page.locator("#setting-min_coverage").press("Tab")
    expect(field).to_contain_text("Changed and saved")
    assert "min_coverage = 0.05" in Path(product.environment["OCCLUFIX_CONFIG"]).read_text()
    visit.page.fill("#setting-min_coverage", "7")
    visit.page.locator("#setting-min_coverage").press("Tab")
    expect(field).to_contain_text("less than or equal to 1")
    expect(visit.page.locator("#setting-min_coverage")).to_have_value("0.05")


def test_a_camera_that_is_not_there_is_told_and_the_old_one_goes_on(visit: Visit, product: Product) -> None:
    field = visit.page.locator(".field", has=visit.page.locator("#setting-source"))
    visit.page.select_option("#setting-source", label="Other …")
    field.get_by_label("Other, by name or path").fill("nowhere")
    field.get_by_label("Other, by name or path").press("Enter")
    expect(field).to_contain_text("no camera")
    expect(visit.page.locator("#setting-source")).to_have_value("demo")
    with product.client() as client:
        assert client.status()["camera"].startswith("demo") and client.status()["trouble"] == {}


def test_a_camera_that_vanishes_while_it_is_picked_is_told_and_leaves_the_list(visit: Visit, product: Product) -> None:
    listed = [{"index": 99, "name": "Gone Cam", "path": "/dev/video99"}]

    def plugged_in(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "cameras": listed})

    visit.page.locator("#setting-source").wait_for()
    visit.page.route("**/v1/devices", plugged_in)
    source = visit.page.locator("#setting-source")
    with visit.page.expect_response("**/v1/devices"):
        source.focus()
    expect(source.locator("option", has_text="Gone Cam")).to_have_count(1)
    listed.clear()
    visit.page.select_option("#setting-source", label="Gone Cam")
    field = visit.page.locator(".field", has=source)
    expect(field).to_contain_text("/dev/video99")
    expect(source).to_have_value("demo")
    visit.page.locator("#outlined").focus()
    with visit.page.expect_response("**/v1/devices"):
        source.focus()
    expect(source.locator("option", has_text="Gone Cam")).to_have_count(0)
    visit.wait_for_another()
    with product.client() as client:
        assert client.status()["camera"].startswith("demo") and client.status()["trouble"] == {}


@pytest.mark.timeout(400)
def test_engines_are_built_and_checked_at_a_click(visit: Visit) -> None:
    page = visit.page
    # One network of them all: what is under test is the button, and checking each takes its time.
    page.route("**/v1/builds", lambda route: route.continue_(post_data='{"models": ["hidden"]}'))
    page.click("#build")
    expect(page.locator("#build")).to_be_disabled()
    expect(page.locator("#build-progress")).to_be_visible()
    expect(page.locator("#build")).to_be_enabled(timeout=360_000)
    expect(page.locator("#build-told")).to_contain_text("Built and checked")
    assert re.search(r"hidden \d+\.\d ms", page.locator("#build-told").text_content())
    expect(page.locator("#build-progress")).to_be_hidden()
    visit.wait_for_another()
    assert visit.complaints == []


def test_my_face_is_remembered_at_a_click_or_why_not_is_said(visit: Visit, product: Product) -> None:
    page = visit.page
    page.fill("#enrol-name", "Ada")
    page.click("#enrol-start")
    with product.client() as client:
        assert client.enrollment() is None  # not before consent is given
    page.check("#enrol-agreed")
    page.click("#enrol-start")
    told = page.locator("#enrol-told")
    expect(told).not_to_be_empty(timeout=WAIT_MS)
    expect(page.locator("#enrol-start")).to_be_enabled(timeout=WAIT_MS)
    with product.client() as client:
        ended = client.enrollment()
    assert ended is not None and ended["name"] == "Ada" and ended["state"] != "looking"
    expect(told).to_contain_text(ended["say"])
    page.click("#people-shown summary")
    if ended["state"] == "failed":
        expect(told).to_contain_text(ended["hint"])
        expect(page.locator("#people-told")).to_contain_text("No one yet")
        return
    expect(page.locator("#people")).to_contain_text("Ada")
    page.get_by_role("button", name="Forget Ada").click()
    page.get_by_role("button", name="Really forget Ada").click()
    expect(page.locator("#people-told")).to_contain_text("No one yet")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1366, 900), (390, 844)], ids=["desk", "phone"])
def test_everybody_can_use_it(browser: Any, product: Product, scheme: str, size: tuple[int, int]) -> None:
    visit = Visit(browser, product, viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    visit.page.locator("#settings .field").first.wait_for()
    found = axe.Axe().run(visit.page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if folder := os.environ.get("OCCLUFIX_SCREENSHOTS"):
        visit.wait_for_restored()
        visit.page.screenshot(path=Path(folder) / f"page-{scheme}-{size[0]}.png", full_page=True)
    visit.context.close()


def test_the_daemon_goes_and_the_page_finds_the_next_one(visit: Visit, product: Product) -> None:
    product.run("stop")
    expect(visit.page.locator("#mood")).to_have_text("Not there")
    expect(visit.page.locator("#notices")).to_contain_text("occlufix-vcam start")
    expect(visit.page.locator("#toggle")).to_be_disabled()
    product.run("start")
    expect(visit.page.locator("#mood")).to_contain_text("On")
    shown = visit.picture.get_attribute("data-number")
    expect(visit.picture).not_to_have_attribute("data-number", shown)
    expect(visit.page.locator("#notices")).to_be_empty()
    visit.page.click("#toggle")
    expect(visit.page.locator("#toggle")).to_have_attribute("aria-checked", "false")


def test_a_link_works_once(browser: Any, product: Product) -> None:
    with product.client() as client:
        link = client.link()
    for allowed in (True, False):
        page = browser.new_page()
        page.goto(link)
        expect(page.locator("#toggle")).to_have_count(1 if allowed else 0)
        page.close()


def test_the_session_is_in_the_pages_memory_alone_and_a_reload_forgets_it(visit: Visit) -> None:
    assert visit.page.url == f"{visit.address}/"
    kept = "() => [localStorage, sessionStorage].map((store) => Object.keys(store)).flat()"
    assert set(visit.page.evaluate(kept)) <= {"theme"}
    assert visit.page.evaluate("document.cookie") == "" and visit.page.locator("meta[name=session]").count() == 0
    visit.page.reload()
    expect(visit.page.locator("#mood")).to_have_text("Not let in")
    expect(visit.page.locator("#notices")).to_contain_text("occlufix-vcam preview")


def test_other_pages_are_signed_out_at_a_click(browser: Any, visit: Visit, product: Product) -> None:
    other = Visit(browser, product)
    visit.page.click("#sign-out")
    expect(visit.page.locator("#signed-out")).to_contain_text("signed out")
    expect(other.page.locator("#mood")).to_have_text("Not let in")
    other.context.close()
    visit.wait_for_another()
    visit.page.click("#sign-out")
    expect(visit.page.locator("#signed-out")).to_contain_text("no other page")


def test_a_picture_is_saved_at_a_click(visit: Visit) -> None:
    with visit.page.expect_download() as saved:
        visit.page.click("[data-save=after]")
    assert saved.value.suggested_filename == "occlufix-after.png"
    assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")


def test_a_file_that_leads_there_opens_the_page(browser: Any, product: Product) -> None:
    """As `preview` hands it to the browser."""
    page = browser.new_page()
    with product.client() as client:
        file = client.link_file()
    assert file is not None
    page.goto(file.as_uri())
    page.locator("#picture[data-number]").wait_for()
    assert not file.exists()
    page.close()
