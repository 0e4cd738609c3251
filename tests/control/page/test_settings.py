"""Settings, presets, cameras and engines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.harness.control import Product
from tests.harness.page import WAIT_MS, Visit, expect


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


def test_what_changes_while_the_form_is_built_is_not_forgotten(visit: Visit) -> None:
    built = """async () => {
      const { buildForm, showSettings } = await import("/page/form.js");
      const { ask } = await import("/page/session.js");
      const before = await ask("GET", "/v1/settings");
      const building = buildForm(before);
      showSettings({ ...before, strength: 40 });
      await building;
      return document.getElementById("setting-strength").value;
    }"""
    visit.page.locator("#setting-strength").wait_for(state="attached")
    assert visit.page.evaluate(built) == "40"


def test_a_preset_is_set_and_said(visit: Visit, product: Product) -> None:
    visit.page.click("[data-preset=mask]")
    expect(visit.page.locator("#preset-told")).to_contain_text("Mask all day is set", timeout=WAIT_MS)
    with product.client() as client:
        assert client.settings()["when_unsure"] == "restore"
    visit.page.click("[data-preset=meeting]")
    expect(visit.page.locator("#preset-told")).to_contain_text("Meeting is set", timeout=WAIT_MS)


def test_a_camera_that_is_not_there_is_told_and_the_old_one_goes_on(visit: Visit, product: Product) -> None:
    field = visit.field_of("source")
    visit.page.select_option("#setting-source", label="Other …")
    field.get_by_label("Other, by name or path").fill("nowhere")
    field.get_by_label("Other, by name or path").press("Enter")
    expect(field).to_contain_text("no camera")
    expect(visit.page.locator("#setting-source")).to_have_value("demo")
    with product.client() as client:
        assert client.status()["camera"].startswith("demo") and client.status()["trouble"] == {}


def test_what_goes_wrong_is_told_in_the_readers_language(visit: Visit) -> None:
    visit.page.select_option("#language", "de")
    visit.page.select_option("#setting-source", label="Andere …")
    other = visit.field_of("source").get_by_label("Andere, als Name oder Pfad")
    other.fill("nowhere")
    other.press("Enter")
    told = "Es gibt keine Kamera nowhere. Wähle eine andere Kamera oder schließ sie an."
    expect(visit.field_of("source").locator(".told")).to_have_text(told)


def test_one_frame_a_second_is_no_plural_and_slowness_is_not_told_as_a_new_try(visit: Visit, product: Product) -> None:
    """With a status that no test can bring about at will."""
    stub = "export const listen = (tell, found) => { window.tell = tell; found(); };"
    visit.page.route("**/page/daemon.js", lambda route: route.fulfill(body=stub, content_type="text/javascript"))
    with product.client() as client:
        visit.page.goto(client.link())
        status, settings = client.status(), client.settings()
    status |= {"state": "running", "fps": 1.2, "latency": {"p50_ms": 900.0, "p95_ms": 950.0}, "hints": {}}
    status |= {"trouble": {"process": "slow"}, "codes": {"process": {"code": "restoring_slow", "values": {}}}}
    visit.page.wait_for_function("() => Boolean(window.tell)")
    visit.page.evaluate("settings => tell('settings', settings)", {**settings, "rate": 1})
    visit.page.evaluate("status => tell('status', status)", status)
    expect(visit.page.locator("#well")).to_have_text("Slow: 900 ms delay, 1 frame a second")
    expect(visit.page.locator("#notices")).to_contain_text("The full frame rate returns by itself")
    expect(visit.page.locator("#notices")).not_to_contain_text("retries")
    expect(visit.page.locator("#setting-rate-unit")).to_have_text("frame a second")


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
