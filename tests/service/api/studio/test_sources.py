"""Where pictures come from: files, the camera, the clipboard and seeds; and files without a face."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.service.api.studio.page import Page, change, saved

pytestmark = pytest.mark.slow  # a browser, and a service in a process of its own


def test_a_random_face_is_edited_like_a_photo(page: Page):
    page["#welcome [data-source=random]"].click()
    page.status("seed")
    seed = re.search(r"seed (\d+)", page["#status"].inner_text())[1]
    before = page.seen()
    assert before.shape == (128, 128, 3)
    page.slide("Eyeglasses", 1 if page.value("Eyeglasses") < 0 else -1)
    assert change(before, page.seen()).max() > 5
    with page.page.expect_download() as download:
        page["#download"].click()
    assert download.value.suggested_filename == f"face-{seed}-edited.png"


def test_a_broken_file_is_explained_and_nothing_is_lost(page: Page, photo: Path, tmp_path: Path):
    page.open(photo)
    page.slide("Smiling", -1)
    edited = page.seen()
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0" + b"nothing" * 50)
    page["#file"].set_input_files(broken)
    assert page.problem("This file is broken")
    assert page.value("Smiling") == -1
    assert np.array_equal(page.seen(), edited)
    page["#problem-close"].focus()
    page.page.keyboard.press("Enter")
    assert page["#problem"].is_hidden()
    assert page["#attribute-Smiling:focus"].count() == 1  # where it was


def test_a_photo_without_a_face_can_be_said_to_be_framed(page: Page, photo: Path, tmp_path: Path):
    gradient = Image.linear_gradient("L").resize((300, 300)).convert("RGB")
    page["#file"].set_input_files(saved(gradient, tmp_path / "nobody.png"))
    assert "no face was found" in page.problem("No face was found").lower()
    page["#problem-action"].click()
    page.status("One face")
    page.slide("Smiling", 1)
    page.more("#copy-curl")
    page.status("Copied")
    assert "framed=true" in page["#code"].text_content()


def test_a_picture_comes_from_the_camera(page: Page, photo: Path):
    page["#welcome [data-source=camera]"].click()
    with page.page.expect_response("**/v1/encode"):
        page["#camera-take"].click()
    assert page["#camera"].is_hidden()
    page.problem("No face was found")  # only the browser's test picture


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(page: Page, photo: Path, way: str):
    page.page.evaluate(
        """([way, data]) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "photo.jpg", { type: "image/jpeg" }));
            const event = way === "drop"
                ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true });
            document.body.dispatchEvent(event);
        }""",
        [way, base64.b64encode(photo.read_bytes()).decode()],
    )
    page.status("One face")
