"""What sliders, switches and outlines do to the picture."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tests.service.api.studio.conftest import serving
from tests.service.api.studio.page import Page, change, is_preview, metric

pytestmark = pytest.mark.slow  # a browser, and a service in a process of its own


def test_the_picture_follows_the_sliders_and_the_face_is_encoded_once(page: Page, photo: Path):
    page.open(photo)
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
    # Once in the preview; once more in the original, of which the part in view is drawn sharper at some time.
    assert metric(page.server, batches) <= encoded + 1
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


def test_of_wishes_that_overlap_the_latest_wins(page: Page, small: Path):
    page.open(small)
    page.slide("Smiling", -1)
    wanted = page.seen()
    page.slide("Smiling", 1.2)
    page.await_sharp()
    held, failed = [], []

    def hold_first_preview(route) -> None:
        if not held and is_preview(route.request):
            held.append(route)
        else:
            route.fallback()

    page.page.route("**/v1/edit", hold_first_preview)
    page.page.on("requestfailed", lambda request: is_preview(request) and failed.append(request.url))
    page.slider("Smiling").fill("0.3")
    page["#stage[data-busy]"].wait_for()
    page.slide("Smiling", -1)
    assert (len(held), len(failed)) == (1, 1)
    assert np.array_equal(page.seen(), wanted)


def test_a_full_queue_is_waited_for_as_long_as_it_says(page: Page, small: Path):
    page.open(small)
    before, calls = page.seen(), []
    body = {"status": 429, "title": "Too Many Requests", "detail": "the queue is full"}

    def of_the_preview(request) -> bool:
        """Not of the looks and of the whole picture, which are drawn meanwhile."""
        sent = request.post_data_buffer or b""
        return request.url.endswith("/v1/edit") and b"variants" not in sent and b"\r\n95\r\n" not in sent

    def refuse_once(route) -> None:
        if of_the_preview(route.request):
            calls.append(time.monotonic())
        if len(calls) == 1 and of_the_preview(route.request):
            route.fulfill(status=429, json=body, headers={"Retry-After": "1"})
        else:
            route.fallback()

    page.page.route("**/v1/edit", refuse_once)
    page.slider("Smiling").fill("-1")
    page.status("trying again in 1 s")
    with page.page.expect_response(lambda response: response.ok and of_the_preview(response.request)):
        pass
    assert calls[1] - calls[0] > 0.9
    page.await_idle()
    assert change(before, page.seen()).max() > 15
    assert page["#problem"].is_hidden()
    page.complaints.clear()  # the browser's note of the 429


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
