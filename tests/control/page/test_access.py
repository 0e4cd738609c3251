"""Who can use the page: languages, keyboard, screen readers, sizes and colours, the first run."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.harness.control import Product
from tests.harness.page import Visit, expect

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing: pip install -e .[dev]")


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


#: How a reader may want colours; with high contrast the system's few replace the page's own.
COLOURS: dict[str, dict[str, str]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "contrast": {"color_scheme": "dark", "forced_colors": "active"},
}


@pytest.mark.parametrize("colours", COLOURS)
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["desk", "phone"])
def test_everybody_can_use_it(browser: Any, product: Product, colours: str, size: tuple[int, int]) -> None:
    visit = Visit(browser, product, viewport={"width": size[0], "height": size[1]}, **COLOURS[colours])
    visit.open_advanced()
    visit.page.click("#details summary >> nth=0")
    visit.page.locator("#settings .field").first.wait_for()
    found = axe.Axe().run(visit.page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"], one["nodes"][0]["failureSummary"]) for one in found] == []
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if folder := os.environ.get("OCCLUFIX_SCREENSHOTS"):
        visit.wait_for_restored()
        visit.page.screenshot(path=Path(folder) / f"page-{colours}-{size[0]}.png", full_page=True)
    visit.context.close()


def test_high_contrast_shows_what_is_on_and_where_things_end(browser: Any, product: Product) -> None:
    visit = Visit(browser, product, **COLOURS["contrast"])
    assert visit.page.evaluate("matchMedia('(forced-colors: active)').matches")
    style = "(one, what) => getComputedStyle(one)[what]"
    knob, switch = visit.page.locator("#toggle .knob"), visit.page.locator("#toggle")
    on = knob.evaluate(style, "backgroundColor")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")
    expect(knob).not_to_have_css("background-color", on)
    switch.click()
    assert visit.page.locator('.preset[aria-pressed="true"]').evaluate(style, "outlineStyle") == "solid"
    for card in visit.page.locator(".card").all():
        assert card.evaluate(style, "borderTopStyle") == "solid"
        assert card.evaluate(style, "borderTopColor") != card.evaluate(style, "backgroundColor")
    visit.context.close()
