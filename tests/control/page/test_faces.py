"""Enrolling at the camera and from photographs."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import ROOT
from tests.harness.control import Product
from tests.harness.page import WAIT_MS, Visit, expect


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
