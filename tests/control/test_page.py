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

from scripts.harness.readers.browsers import program
from tests.conftest import ROOT
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
    expect(visit.page.locator("#well")).to_contain_text(re.compile(r"\d+ ms delay, \d+ frames a second"))
    expect(visit.page.locator("#who")).to_contain_text("face")
    visit.page.click("#details summary >> nth=0")
    with product.client() as client:
        stages = len(client.status()["stages"])
    expect(visit.page.locator("#stages tr")).to_have_count(stages)
    assert visit.complaints == []
    assert {url for url in visit.asked if not url.startswith((visit.address, "blob:"))} == set()


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


def test_a_setting_is_changed_kept_and_a_wrong_one_told_in_its_field(visit: Visit, product: Product) -> None:
    visit.open_advanced()
    field, box = visit.field_of("min_coverage"), visit.page.locator("#setting-min_coverage")
    expect(field).to_contain_text("percent")
    box.fill("5")
    box.press("Tab")
    expect(field).to_contain_text("Changed and saved")
    assert "min_coverage = 0.05" in Path(product.environment["OCCLUFIX_CONFIG"]).read_text()
    box.fill("700")
    box.press("Tab")
    expect(field).to_contain_text("Choose a value from 0 to 100")
    expect(box).to_have_attribute("aria-invalid", "true")
    box.fill("5")
    expect(field).not_to_contain_text("Choose a value")
    assert box.get_attribute("aria-invalid") is None
    field.get_by_role("button", name="Reset Leave alone below").click()
    expect(box).to_have_value("2")


def test_settings_are_searched_and_reset(visit: Visit, product: Product) -> None:
    with product.client() as client:
        client.change_settings({"mirror": True, "strength": 40})
    visit.open_advanced()
    expect(visit.field_of("strength").locator("output")).to_have_text("40")
    visit.page.fill("#search", "mirror")
    expect(visit.page.locator("#settings .field:visible")).to_have_count(1)
    visit.page.fill("#search", "no such setting")
    expect(visit.page.locator("#nothing")).to_have_text("No setting found")
    visit.page.fill("#search", "")
    visit.page.uncheck("#keep")
    visit.page.click("#reset-all")
    visit.page.get_by_role("button", name="Really reset all?").click()
    expect(visit.field_of("strength").locator("output")).to_have_text("100")
    with product.client() as client:
        settings = client.settings()
    assert (settings["mirror"], settings["strength"], settings["source"]) == (False, 100, "demo")


def test_a_preset_is_set_and_said(visit: Visit, product: Product) -> None:
    visit.page.click("[data-preset=mask]")
    expect(visit.page.locator("#preset-told")).to_contain_text("Mask all day is set", timeout=WAIT_MS)
    with product.client() as client:
        assert client.settings()["when_unsure"] == "restore"
    visit.page.click("[data-preset=meeting]")
    expect(visit.page.locator("#preset-told")).to_contain_text("Meeting is set", timeout=WAIT_MS)


def test_a_recording_runs_until_it_is_stopped(visit: Visit, product: Product) -> None:
    visit.page.click("#record")
    expect(visit.page.locator("#record-told")).to_contain_text("Recording for 0:")
    visit.wait_for_another()
    visit.page.click("#record")
    expect(visit.page.locator("#record-told")).to_contain_text("Saved as")
    (film,) = Path(product.environment["XDG_VIDEOS_DIR"]).iterdir()
    assert film.suffix == ".mp4" and film.stat().st_size > 0
    film.unlink()


def test_another_language_is_spoken_at_once(visit: Visit) -> None:
    visit.page.select_option("#language", "de")
    expect(visit.page.locator("#see-title")).to_have_text("Was sehen die anderen?")
    expect(visit.page.locator("#mood")).to_contain_text("Ein, ")
    assert visit.page.evaluate("document.documentElement.lang") == "de"
    visit.page.select_option("#language", "en")
    expect(visit.page.locator("#see-title")).to_have_text("What do they see?")


def test_the_first_run_is_guided(browser: Any, product: Product) -> None:
    visit = Visit(browser, product, guided=False, locale="fr-FR")
    guide = visit.page.locator("#guide")
    expect(guide).to_contain_text("Étape 1 sur 4")
    for step in ("Caméra virtuelle", "Mon visage", "Choisissez-la dans votre appel"):
        visit.page.click("#guide-next")
        expect(guide.locator("h3")).to_have_text(step)
    visit.page.select_option("#guide-program", "firefox")
    expect(guide).to_contain_text("Firefox le demande")
    visit.page.click("#guide-next")
    expect(guide).to_be_hidden()
    visit.context.close()


def test_the_keyboard_alone_reaches_everything(visit: Visit) -> None:
    page = visit.page
    page.locator("#resolution").wait_for()
    page.locator("body").focus()
    reached: list[str] = []
    while "sign-out" not in reached and len(reached) < 60:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.dataset.preset || ''"))
    wanted = ["toggle", "divider", "bare", "mask", "setting-source", "resolution", "record", "enrol-name", "photos"]
    assert [name for name in reached if name in wanted] == wanted, reached
    page.locator("#toggle").focus()
    page.keyboard.press("Space")
    expect(page.locator("#toggle")).to_have_attribute("aria-checked", "false")
    page.locator("#advanced > summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#search")).to_be_visible()


def test_everything_that_is_used_has_a_name(visit: Visit) -> None:
    """As a screen reader hears the page."""
    visit.open_advanced()
    visit.page.click("#details summary >> nth=0")
    visit.page.locator("#resolution").wait_for()
    tree = visit.page.locator("body").aria_snapshot()
    kinds = "button|checkbox|combobox|slider|switch|textbox|searchbox|img|progressbar|heading|figure"
    nameless = [line for line in tree.splitlines() if re.match(rf"\s*- ({kinds})(:?$|:? \[)", line)]
    assert [line for line in nameless if "figure" not in line] == []
    for name in ('switch "Restoring: on"', 'slider "Divider', 'heading "What do they see?"', 'combobox "Resolution"'):
        assert name in tree, name


def test_a_camera_that_is_not_there_is_told_and_the_old_one_goes_on(visit: Visit, product: Product) -> None:
    field = visit.field_of("source")
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
    page.click("#details summary >> nth=0")
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


def test_the_demo_is_not_enrolled_and_nobody_without_consent(visit: Visit, product: Product) -> None:
    page = visit.page
    page.fill("#enrol-name", "Ada")
    page.click("#enrol-start")
    with product.client() as client:
        assert client.enrollment() is None  # not before consent is given
    page.check("#enrol-agreed")
    page.click("#enrol-start")
    expect(page.locator("#enrol-told")).to_contain_text("Choose your camera first")
    page.click("#people-shown summary")
    expect(page.locator("#people-told")).to_contain_text("No one yet")


def test_the_ring_fills_and_says_what_is_missing(visit: Visit) -> None:
    """As the daemon tells it of somebody at a camera."""
    told = {"name": "Ada", "state": "looking", "views": 5, "wanted": 8, "say": "", "hint": "", "need": "side"}
    told |= {"poses": {"front": 4, "left": 0, "right": 1}, "turn": 0.6}
    show = "async (told) => (await import('/page/faces.js')).showEnrolment({ enrolment: told })"
    visit.page.evaluate(show, told)
    expect(visit.page.locator("#ring path.full")).to_have_count(5)
    expect(visit.page.get_by_role("img", name="5 of 8 views")).to_be_in_viewport()
    expect(visit.page.locator("#ring-words")).to_have_text("Turn your head a little to one side")
    visit.page.evaluate(show, {**told, "state": "done"})
    expect(visit.page.locator("#enrol-told")).to_have_text("Ada is remembered")
    expect(visit.page.locator("#enrolling")).to_be_hidden()


def test_a_photograph_is_added_shown_and_deleted(visit: Visit, tmp_path: Path) -> None:
    page, picture = visit.page, tmp_path / "me.png"
    picture.write_bytes((ROOT / "occlufix_vcam/sources/demo/astronaut.jpg").read_bytes())
    page.set_input_files("#photo-files", picture)
    expect(page.locator("#enrol-told")).to_contain_text("Enter a name")
    page.fill("#enrol-name", "Ada")
    page.check("#enrol-agreed")
    page.set_input_files("#photo-files", picture)
    expect(page.locator("#enrol-told")).to_contain_text("me.png was added", timeout=WAIT_MS)
    page.click("#people-shown summary")
    expect(page.get_by_role("img", name="View 1 of Ada")).to_be_visible()
    page.get_by_role("button", name="Delete view 1 of Ada").click()
    page.get_by_role("button", name="Delete view 1 of Ada: Delete for good?").click()
    expect(page.locator("#people-told")).to_contain_text("No one yet")
    nothing = tmp_path / "nothing.png"
    nothing.write_bytes(b"no picture")
    page.set_input_files("#photo-files", nothing)
    expect(page.locator("#enrol-told")).to_contain_text("nothing.png: ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["desk", "phone"])
def test_everybody_can_use_it(browser: Any, product: Product, scheme: str, size: tuple[int, int]) -> None:
    visit = Visit(browser, product, viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    visit.open_advanced()
    visit.page.click("#details summary >> nth=0")
    visit.page.locator("#settings .field").first.wait_for()
    found = axe.Axe().run(visit.page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if folder := os.environ.get("OCCLUFIX_SCREENSHOTS"):
        visit.wait_for_restored()
        visit.page.screenshot(path=Path(folder) / f"page-{scheme}-{size[0]}.png", full_page=True)
    visit.context.close()


def test_the_daemon_goes_and_the_page_finds_the_next_one(visit: Visit, product: Product) -> None:
    product.run("stop")
    expect(visit.page.locator("#mood")).to_have_text("Not running")
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
        if not allowed:
            expect(page.get_by_role("heading")).to_have_text("This link was already used or has expired")
            assert page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") != "none"
            page.goto(link.partition("/open")[0])
            expect(page.get_by_role("heading")).to_have_text("The page's secret is missing")
        page.close()


def test_the_session_is_in_the_pages_memory_alone_and_a_reload_forgets_it(visit: Visit) -> None:
    assert visit.page.url == f"{visit.address}/"
    kept = "() => [localStorage, sessionStorage].map((store) => Object.keys(store)).flat()"
    assert set(visit.page.evaluate(kept)) <= {"theme", "language", "guided"}
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
