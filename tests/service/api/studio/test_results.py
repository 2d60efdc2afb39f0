"""What leaves the page: downloads, strips, and code that gives the same."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.service.api.studio.page import PATIENCE, Page, change, is_whole, saved

pytestmark = pytest.mark.slow  # a browser, and a service in a process of its own


def test_the_download_is_the_whole_photo_in_its_own_format(page: Page, photo: Path):
    page.open(photo)
    page.slide("Smiling", -1)
    with page.page.expect_download() as download:
        page["#download"].click()
    assert download.value.suggested_filename == "it's me-edited.jpg"
    with Image.open(download.value.path()) as edited, Image.open(photo) as original:
        assert (edited.format, edited.size) == ("JPEG", (1300, 1300))
        assert change(np.asarray(original, np.float32), np.asarray(edited, np.float32)).max() > 15
    page.status("Downloaded at 1300")


def test_a_download_does_not_wait_for_what_is_drawn_sharper(page: Page, photo: Path):
    page.open(photo)
    asked, held, holds = [], [], True

    def hold_wholes(route) -> None:
        if holds and is_whole(route.request):
            held.append(route)
        else:
            route.fallback()

    page.page.route("**/v1/edit", hold_wholes)
    page.page.on("request", lambda request: is_whole(request) and asked.append(request))
    with page.page.expect_request(is_whole):
        page.slide("Smiling", -1)
    with page.page.expect_event("requestfailed", is_whole):
        page["#download"].click()
    with page.page.expect_download():
        holds = False
        for route in held[1:]:
            route.fallback()
    page.await_sharp()
    assert len(asked) == 2  # what was downloaded is what is shown


def test_what_the_browser_saves_or_drags_is_the_whole_picture(page: Page, photo: Path):
    page.open(photo)
    page.slide("Smiling", -1)
    page.await_sharp()
    page["#zoom-all"].click()
    names = page["#stage"].evaluate(
        """(stage) => {
            const box = document.querySelector("#sharp").getBoundingClientRect();
            const found = document.elementFromPoint(box.left + 0.6 * box.width, box.top + 0.4 * box.height);
            return [found.id, found.naturalWidth, found.draggable, document.querySelector("#result").naturalWidth];
        }"""
    )
    assert names == ["sharp", 1300, True, 1300]
    dragged = page["#result"].evaluate(
        """(image) => {
            const dataTransfer = new DataTransfer();
            image.dispatchEvent(new DragEvent("dragstart", { dataTransfer, bubbles: true, cancelable: true }));
            const [type, name, ...url] = dataTransfer.getData("DownloadURL").split(":");
            return [type, name, url.join(":") === image.src];
        }"""
    )
    assert dragged == ["image/jpeg", "it's me-edited.jpg", True]


def test_a_large_photo_has_a_menu_that_saves_the_whole_of_it(page: Page, astronaut: Image.Image, tmp_path: Path):
    large = astronaut.resize((2200, 2200), Image.Resampling.BICUBIC)
    page.open(saved(large, tmp_path / "large.jpg"))
    page.slide("Smiling", -1)
    page["#stage"].click(button="right", position={"x": 500, "y": 200})
    page["#saving-save:focus"].wait_for()
    with page.page.expect_download() as download:
        page.page.keyboard.press("Enter")
    with Image.open(download.value.path()) as edited:
        assert edited.size == (2200, 2200)
    assert page["#saving"].is_hidden()
    assert page["#stage:focus"].count() == 1


def test_the_strip_shows_the_attribute_that_was_moved_last(page: Page, photo: Path):
    page.open(photo)
    page.slide("Smiling", 0.2)
    page.slide("Bangs", 0.2)
    page.more("#make-strip:text('fringe')")
    page.status("The strip is ready")
    assert page["#strip-steps canvas"].count() == 7
    assert "Fringe" in page["#strip-steps button"].nth(6).get_attribute("aria-label")
    with page.edited():
        page["#strip-steps button"].nth(6).click()
    assert page.value("Bangs") == 1 or page.value("Bangs") == -1
    with page.page.expect_download() as download:
        page["#strip-download"].click()
    assert download.value.suggested_filename == "it's me-bangs.jpg"
    with Image.open(download.value.path()) as strip:
        assert strip.width > 5 * strip.height


@pytest.mark.parametrize(
    ("language", "kind"), [("curl", "couple"), ("curl", "random"), ("Python", "photo"), ("Python", "random")]
)
def test_copied_code_runs_and_gives_what_is_downloaded(page: Page, request, language: str, kind: str):
    if language == "curl" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    directory = request.getfixturevalue("tmp_path")
    if kind == "random":
        page["#welcome [data-source=random]"].click()
        page.status("seed")
    else:
        page.open(request.getfixturevalue(kind))
    page.slide("Smiling", -0.4)
    with page.edited():
        page["#strength-value"].fill("1.5")
    if kind == "couple":
        page["#faces button"].nth(0).click()
        page.slide("Eyeglasses", 1)
    page.more(f"button:text('Copy as {language}')")
    page.status("Copied")
    code = page.page.evaluate("navigator.clipboard.readText()")
    assert code == page["#code"].text_content()
    page.await_sharp()  # in a batch with the page's own call, the sums could be rounded in another way
    command = ["sh", "-c", code] if language == "curl" else [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    with page.page.expect_download() as download:
        page["#download"].click()
    result = directory / download.value.suggested_filename
    assert result.read_bytes() == Path(download.value.path()).read_bytes()
