"""Links, sessions, and the daemon that goes and comes."""

from __future__ import annotations

from typing import Any

from tests.harness.control import Product
from tests.harness.page import Visit, expect


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
