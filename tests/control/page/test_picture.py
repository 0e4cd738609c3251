"""What others see: before and after, the divider, the outline, a saved picture, a recording."""

from __future__ import annotations

import re
from pathlib import Path

from tests.harness.control import Product
from tests.harness.page import Visit, expect

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


def test_a_picture_is_saved_at_a_click(visit: Visit) -> None:
    with visit.page.expect_download() as saved:
        visit.page.click("[data-save=after]")
    assert saved.value.suggested_filename == "occlufix-after.png"
    assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")


def test_a_recording_runs_until_it_is_stopped(visit: Visit, product: Product) -> None:
    visit.page.click("#record")
    expect(visit.page.locator("#record-told")).to_contain_text("Recording for 0:")
    visit.wait_for_another()
    visit.page.click("#record")
    expect(visit.page.locator("#record-told")).to_contain_text("Saved as")
    (film,) = Path(product.environment["XDG_VIDEOS_DIR"]).iterdir()
    assert film.suffix == ".mp4" and film.stat().st_size > 0
    film.unlink()
