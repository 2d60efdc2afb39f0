"""Looks, undo, what survives a reload and a lost photo, and many files at once."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.service.api.studio.conftest import serving
from tests.service.api.studio.page import Page, change, is_looks, is_preview, is_upload

pytestmark = pytest.mark.slow  # a browser, and a service in a process of its own


def test_a_look_is_put_on_with_one_tap_undone_and_redone(page: Page, small: Path):
    page.open(small)
    before = page.seen()
    looks = page["#looks button"]
    assert page["#looks canvas"].count() == looks.count() > 8
    with page.edited():
        page["#looks button:has-text('Black hair')"].click()
    worn = page.seen()
    assert change(before, worn).max() > 15
    page["#looks button[aria-pressed=true]:has-text('Black')"].wait_for()
    assert page["#history button"].count() == 2
    page.page.keyboard.press("Control+z")
    page["#timing:empty"].wait_for(state="attached")
    page.await_idle()
    assert np.array_equal(page.seen(), before)
    with page.edited():
        page.page.keyboard.press("Control+Shift+z")
    assert np.array_equal(page.seen(), worn)


def test_looks_that_could_not_be_drawn_are_tried_again_by_and_by_and_when_an_edit_works(page: Page, small: Path):
    thumbnails = "(all) => new Set(all.map((canvas) => canvas.toDataURL())).size"
    down = True
    body = {"status": 503, "title": "Service Unavailable", "detail": "no runtime answers"}
    page.page.clock.install()
    page.page.route(
        "**/v1/edit",
        lambda route: route.fulfill(status=503, json=body) if down and is_looks(route.request) else route.fallback(),
    )

    def fail_on() -> None:
        """Until a minute passes between two attempts."""
        for _ in range(5):
            page["#looks-note:visible:has-text('No runtime answers. Trying again in')"].wait_for()
            with page.page.expect_request(is_looks):
                page.page.clock.fast_forward(60_000)

    page.open(small)
    assert page["#looks canvas"].evaluate_all(thumbnails) == 1
    page["#looks-note:visible"].wait_for()
    down = False
    with page.answered(is_looks):
        page.page.clock.fast_forward(60_000)
    page["#looks-note"].wait_for(state="hidden")
    page.await_idle()
    assert page["#looks canvas"].evaluate_all(thumbnails) > 8
    down = True
    page["#sensitive"].check()
    fail_on()
    page["#looks-note:visible:has-text('again in 60 s')"].wait_for()
    down = False
    with page.answered(is_looks):
        page.slide("Smiling", -1)
    page["#looks-note"].wait_for(state="hidden")
    page.complaints.clear()  # the browser's notes of the 503


def test_a_photo_is_sent_once_and_again_when_the_service_lost_it(page: Page, small: Path):
    sent = []
    page.page.on("request", lambda request: is_upload(request) and sent.append(request))
    page.open(small)
    page.slide("Smiling", -1)
    wanted = page.seen()
    page.slide("Smiling", -0.5)
    page.await_sharp()
    assert len(sent) == 1
    gone = {"status": 410, "title": "Gone", "detail": "photo: is not kept"}
    lost = []

    def lose_it_once(route) -> None:
        if lost or not is_preview(route.request):
            route.fallback()
        else:
            lost.append(route.request)
            route.fulfill(status=410, json=gone)

    page.page.route("**/v1/edit", lose_it_once)
    page.slide("Smiling", -1)
    assert (len(lost), len(sent)) == (1, 2)
    assert np.array_equal(page.seen(), wanted)
    page.complaints.clear()  # the browser's note of the 410


def test_a_service_that_is_restarted_is_found_again_and_nothing_is_lost(context, small: Path):
    with serving() as service:
        page = Page(context.new_page(), service.url)
        sent = []
        page.page.on("request", lambda request: is_upload(request) and sent.append(request))
        page.open(small)
        page.slide("Smiling", -1)
        sad = page.seen()
        page.await_sharp()
        service.stop()
        page["#looks button:has-text('Black hair')"].click()
        page.status("The service does not answer; trying again")
        assert page["#problem"].is_hidden()
        service.start()
        if page["#problem"].is_visible():  # it took longer than the page tries by itself
            page["#problem-action"].click()
        page["#history button"].nth(2).locator("canvas").wait_for()  # what the step looks like
        page.await_idle()
        page.await_sharp()
        assert (page.value("Smiling"), page.value("Black_Hair")) == (-1, 1)
        assert change(sad, page.seen()).max() > 15
        assert page["#status:has-text('does not answer')"].count() == 0
        assert len(sent) == 2  # the new process did not have the photo
        with page.edited():
            page["#undo"].click()
        assert np.array_equal(page.seen(), sad)
        page.page.close()
    assert [text for text in page.complaints if "Failed to load resource" not in text] == []


def test_edits_survive_a_reload_and_the_photo_is_kept_only_on_request(page: Page, small: Path):
    page.open(small)
    page.slide("Smiling", -1)
    page.page.reload()
    page["#again:visible"].wait_for()
    assert page["#again-name"].inner_text() == "small.jpg"
    assert page.page.evaluate("sessionStorage.getItem('facet-photo')") is None
    with page.edited():
        page["#file"].set_input_files(small)
    assert page.value("Smiling") == -1
    page["#keep-photo"].check()
    page.status("keeps the photo")
    with page.edited():
        page.page.reload()
    assert page.value("Smiling") == -1
    page["#keep-photo"].uncheck()
    assert page.page.evaluate("sessionStorage.getItem('facet-photo')") is None


def test_many_files_are_edited_and_come_as_one_archive(page: Page, small: Path, photo: Path, tmp_path: Path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0nothing")
    page["#file"].set_input_files([small, photo, broken])
    page["#batch-look"].select_option(label="Black hair")
    page["#batch-start"].click()
    page["#batch-note:has-text('2 edited, 1 could not')"].wait_for()
    with page.page.expect_download() as download:
        page["#batch-save"].click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["it's me-edited.jpg", "small-edited.jpg"]
    page.complaints.clear()  # the browser's note of the 400


def test_a_batch_edits_whom_its_user_chooses_and_experiments_only_where_they_are_switched_on(
    context, cautious_server: str, couple: Path, small: Path
):
    page = Page(context.new_page(), cautious_server)
    page.open(small)
    page.page.evaluate(
        """() => {
            window.asked = [];
            const { fetch } = window;
            window.fetch = (path, request) => {
                const isFile = request?.body instanceof FormData && request.body.has("image");
                if (isFile) window.asked.push(Object.fromEntries(request.body));
                return fetch(path, request);
            };
        }"""
    )

    def run(faces: str) -> list[dict]:
        page.page.evaluate("window.asked = []")
        page["#file"].set_input_files([couple, small])
        page["#batch-faces"].select_option(label=faces)
        looks = page["#batch-look option"].all_inner_texts()
        page["#batch-look"].select_option(label="Glasses")
        page["#batch-start"].click()
        page["#batch-note:has-text('All 2 are edited')"].wait_for()
        page["#batch-close"].click()
        assert ("Fringe" in looks) == page["#experimental"].is_checked()
        return page.page.evaluate("window.asked")

    everybody = run("all faces")
    assert [fields.get("face") for fields in everybody] == ["all", "all"]
    assert not any("experimental" in fields for fields in everybody)
    page["#experimental"].check()
    largest = run("the largest face")
    assert not any("face" in fields for fields in largest)
    assert [fields["experimental"] for fields in largest] == ["true", "true"]
    assert page.complaints == []


def test_a_kept_photo_and_its_edits_can_be_forgotten(page: Page, small: Path):
    page.open(small)
    page.slide("Smiling", -1)
    page["#keep-photo"].check()
    page.status("keeps the photo")
    with page.page.expect_navigation():
        page["#forget"].click()
    page["#welcome:visible"].wait_for()
    page["body[data-ready]"].wait_for()
    assert page.page.evaluate("Object.keys(sessionStorage)") == []
    assert page["#again"].is_hidden()
    page.open(small)
    page.slide("Smiling", -1)
    page.page.reload()
    with page.page.expect_navigation():
        page["#again-forget"].click()
    page["body[data-ready]"].wait_for()
    assert page["#again"].is_hidden()
    assert page.page.evaluate("Object.keys(sessionStorage)") == []


def test_what_is_cancelled_does_not_open_later(page: Page):
    page.page.route("**/v1/generate", lambda route: None)  # is never answered
    with page.page.expect_request("**/v1/generate"):
        page["#welcome [data-source=random]"].click()
    page["#opening-cancel:focus"].wait_for()
    with page.page.expect_event("requestfailed", lambda request: request.url.endswith("/v1/generate")):
        page["#opening-cancel"].click()
    page["body:not([data-opening])"].wait_for()
    assert page["#welcome [data-source=random]:focus"].count() == 1
    assert page["#workplace"].is_hidden()
