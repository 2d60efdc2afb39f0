"""What sliders, switches and outlines do to the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.service.api.studio.conftest import serving
from tests.service.api.studio.page import Page, change, has, is_part, is_preview, is_whole, metric, saved

pytestmark = pytest.mark.slow  # a browser, and a service in a process of its own


def test_the_picture_follows_the_sliders_and_the_face_is_encoded_once(page: Page, small: Path):
    page.open(small)
    page.status("One face")
    start, before = page.value("Smiling"), page.seen()
    batches = 'facet_batches_total{graph="encoder"}'
    encoded = metric(page.server, batches)
    page.slide("Smiling", -1)
    sad = page.seen()
    assert change(before, sad).max() > 15
    page.slide("Smiling", -0.5)
    assert 0 < np.abs(page.seen() - before).mean() < np.abs(sad - before).mean()
    page.slide("Eyeglasses", 1)
    with page.edited():
        page["#strength-value"].fill("1.5")
    assert metric(page.server, batches) == encoded
    page["#reset"].click()
    page.await_idle()
    assert page.value("Smiling") == start
    page["#timing:empty"].wait_for(state="attached")
    assert np.array_equal(page.seen(), before)


def test_one_slider_is_reset_on_its_own_and_the_focus_stays(page: Page, photo: Path):
    page.open(photo)
    start = page.value("Eyeglasses")
    page.slide("Smiling", -1)
    page.slide("Eyeglasses", 1)
    with page.edited():
        page["button[aria-label='Reset glasses']"].click()
    assert (page.value("Eyeglasses"), page.value("Smiling")) == (start, -1)
    assert page["#attribute-Eyeglasses:focus"].count() == 1
    assert page["button[aria-label='Reset glasses']"].is_hidden()


def test_setting_one_of_a_group_clears_the_others(page: Page, photo: Path):
    page.open(photo)
    own = page.value("Brown_Hair")
    page.slide("Black_Hair", 1)
    assert page.value("Brown_Hair") == page.value("Blond_Hair") == -1
    assert "cleared" in page.slider("Brown_Hair").get_attribute("aria-valuetext")
    page.slide("Blond_Hair", 0.5)
    assert (page.value("Blond_Hair"), page.value("Black_Hair")) == (0.5, -1)
    page["button[aria-label='Reset blond hair']"].click()
    assert page.value("Brown_Hair") == own


def test_sensitive_attributes_wait_behind_a_switch(page: Page, photo: Path):
    page.open(photo)
    before = page.seen()
    assert not page["#sensitive"].is_checked()
    assert page.slider("Young").is_hidden()
    page["#sensitive"].check()
    page.slide("Young", -1)
    assert change(before, page.seen()).max() > 5
    page["#sensitive"].uncheck()
    page["#timing:empty"].wait_for(state="attached")
    assert np.array_equal(page.seen(), before)


def test_experimental_edits_wait_behind_a_switch(context, cautious_server: str, photo: Path):
    page = Page(context.new_page(), cautious_server)
    page.open(photo)
    before = page.seen()
    assert page.slider("Bangs").is_hidden()
    assert float(page.slider("Smiling").get_attribute("max")) == pytest.approx(page.value("Smiling"), abs=1e-6)
    assert float(page.slider("Smiling").get_attribute("min")) == -1.5
    assert float(page.slider("Eyeglasses").get_attribute("max")) == 1.5
    page.slide("Smiling", -1)
    assert change(before, page.seen()).max() > 5
    page.more("#copy-curl")
    page["#code:not(:empty)"].wait_for()
    assert "experimental" not in page["#code"].inner_text()
    page["#experimental"].check()
    assert page.slider("Bangs").is_visible()
    page.slide("Bangs", 1)
    page.more("#make-strip")
    page.status("The strip is ready")
    page.more("#copy-curl")
    page["#code:has-text('experimental=true')"].wait_for()
    seen = page.seen()
    with page.edited():
        page["#experimental"].uncheck()
    page.await_idle()
    assert page.slider("Bangs").is_hidden()
    assert change(seen, page.seen()).max() > 5
    assert page.complaints == []


def test_a_model_that_is_good_at_everything_has_no_such_switch(context, photo: Path):
    with serving(FACET_DEFAULT_MODEL="celeba64") as service:
        page = Page(context.new_page(), service.url)
        page.open(photo)
        assert page["#experimental"].count() == 0


def test_only_the_faces_in_view_are_drawn_sharper(page: Page, astronaut: Image.Image, tmp_path: Path):
    group, face = Image.new("RGB", (3000, 1400), "grey"), astronaut.resize((1000, 1000), Image.Resampling.BICUBIC)
    for x in (100, 1900):
        group.paste(face, (x, 200))
    page.open(saved(group, tmp_path / "group.jpg"))
    parts = []
    page.page.on("request", lambda request: is_part(request) and parts.append(request))
    for place in range(2):
        page["#faces button"].nth(place).click()
        page.slide("Smiling", -1)
    page["#sharp:visible"].wait_for()
    assert parts
    assert not any(has(part, "others") for part in parts)
    page["#zoom-all"].click()
    with page.page.expect_request(lambda request: is_part(request) and has(request, "others")):
        pass


def test_the_sign_of_work_is_there_as_soon_as_a_slider_moves(page: Page, small: Path):
    page.open(small)
    with page.edited():
        busy = page.slider("Smiling").evaluate(
            """(slider) => {
                slider.value = -1;
                slider.dispatchEvent(new Event("input"));
                return document.querySelector("#stage").matches("[data-busy][aria-busy=true]");
            }"""
        )
    assert busy


def test_of_wishes_that_overlap_the_latest_wins(page: Page, small: Path):
    page.open(small)
    page.slide("Smiling", -1)
    wanted = page.seen()
    page.slide("Smiling", 1.2)
    page.await_sharp()
    held = []

    def hold_first_preview(route) -> None:
        if not held and is_preview(route.request):
            held.append(route)
        else:
            route.fallback()

    page.page.route("**/v1/edit", hold_first_preview)
    with page.page.expect_request(is_preview):
        page.slider("Smiling").fill("0.3")
    with page.page.expect_event("requestfailed", is_preview):
        page.slide("Smiling", -1)
    assert np.array_equal(page.seen(), wanted)


def test_a_picture_that_is_decoded_late_does_not_cover_a_newer_one(page: Page, photo: Path):
    page.page.evaluate(
        """() => {
            const { decode } = HTMLImageElement.prototype;
            const gate = new Promise((resolve) => (window.release = resolve));
            let large = 0;
            HTMLImageElement.prototype.decode = async function () {
                await decode.call(this);
                if (this.naturalWidth !== 1300) return;
                document.body.dataset.large = ++large;
                // The first is the photo under the divider, the second lies over the preview.
                if (large > 1) await gate;
            };
        }"""
    )
    page.page.route("**/v1/edit", lambda route: None if is_whole(route.request) else route.fallback())
    page.open(photo)
    # An attribute, since wait_for_function polls with eval, which the policy of the page forbids.
    page['body[data-large="2"]'].wait_for()
    page.slide("Smiling", -1)
    page.page.evaluate("async () => { release(); await new Promise((resolve) => setTimeout(resolve, 0)); }")
    assert page["#sharp"].is_hidden()


def test_a_full_queue_is_waited_for_as_long_as_it_says(page: Page, small: Path):
    page.page.clock.install()
    page.open(small)
    before, asked = page.seen(), []
    body = {"status": 429, "title": "Too Many Requests", "detail": "the queue is full"}

    def refuse_first_preview(route) -> None:
        if not is_preview(route.request):
            asked.append("whole" if is_whole(route.request) else "other")
            route.fallback()
        elif "preview" not in asked:
            asked.append("preview")
            route.fulfill(status=429, json=body, headers={"Retry-After": "40"})
        else:
            asked.append("preview")
            route.fallback()

    page.page.route("**/v1/edit", refuse_first_preview)
    page.slider("Smiling").fill("-1")
    page.status("trying again in 40 s")
    page["#zoom-in"].click()  # another view would be drawn sharper, if its preview were there
    page.page.clock.fast_forward(30_000)
    assert asked == ["preview"]
    with page.edited():
        page.page.clock.fast_forward(30_000)
    assert change(before, page.seen()).max() > 15
    page.await_sharp()
    assert asked == ["preview", "preview", "whole"]
    assert page["#problem"].is_hidden()
    page.complaints.clear()  # the browser's note of the 429


def test_the_divider_does_not_hide_the_edit_of_a_face_on_the_left(page: Page, couple: Path, tmp_path: Path):
    page.open(couple)
    assert page["#divider"].input_value() == "50"
    with Image.open(couple) as image:
        page.open(saved(ImageOps.mirror(image), tmp_path / "mirrored.jpg"))
    face, stage = page["#outlines [data-chosen]"].bounding_box(), page["#stage"].bounding_box()
    divider = stage["x"] + stage["width"] * float(page["#divider"].input_value()) / 100
    assert divider == pytest.approx(face["x"] + face["width"] / 2, abs=0.02 * stage["width"])


def test_faces_are_outlined_and_edited_each_on_its_own(page: Page, couple: Path):
    page.open(couple)
    page.status("2 faces")
    outlines = page["#faces button"]
    assert [outlines.nth(i).get_attribute("aria-pressed") for i in range(2)] == [
        "false",
        "true",
    ]  # left to right; the larger
    assert outlines.nth(0).bounding_box()["x"] < outlines.nth(1).bounding_box()["x"]
    before = page.seen()
    outlines.nth(0).focus()
    page.page.keyboard.press("Enter")
    page["#faces button:focus[aria-pressed=true]"].wait_for()
    assert outlines.nth(0).get_attribute("aria-pressed") == "true"
    page.slide("Smiling", -1)
    small = change(before, page.seen())
    middle = len(small) * 640 // 1200
    assert small[:middle].max() > 15 > 8 > small[middle:].max()
    assert "edited" in outlines.nth(0).get_attribute("aria-label")
    outlines.nth(1).click()
    assert page.value("Smiling") > 0.5
    page.slide("Smiling", -1)
    both = change(before, page.seen())
    assert both[:middle].max() > 15
    assert both[middle:].max() > 15
