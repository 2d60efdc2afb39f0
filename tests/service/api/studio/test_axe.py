"""What axe finds in the page, in every state that its user meets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.api.studio.page import Page

pytestmark = pytest.mark.slow  # a browser, and a service in a process of its own

# Its own rules for WCAG 2.2 are off unless they are asked for.
OPTIONS = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
SCREENS = {
    "laptop": {"width": 1280, "height": 720},
    "phone": {"width": 390, "height": 844},
}


class Auditor:
    """Runs axe in one state of a page after the other."""

    def __init__(self, page: Page) -> None:
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python")
        self.page, self._axe = page, axe.Axe()
        self.found: list[str] = []

    def look(self, state: str) -> None:
        """Note what is wrong in this state."""
        for violation in self._axe.run(self.page.page, options=OPTIONS).response["violations"]:
            for node in violation["nodes"]:
                self.found.append(f"{state}: {violation['id']}: {node['target']} {node['failureSummary']}")


@pytest.mark.parametrize(("screen", "scheme"), [("laptop", "light"), ("laptop", "dark"), ("phone", "light")])
def test_axe_finds_nothing_while_a_photo_is_edited(page: Page, couple: Path, small: Path, screen: str, scheme: str):
    audit = Auditor(page)
    page.page.set_viewport_size(SCREENS[screen])
    page.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    audit.look("first screen")
    page.open(couple)
    audit.look("two faces")
    page["#sensitive"].check()
    page.slide("Smiling", -1)
    with page.edited():
        page["#looks button:has-text('Black hair')"].click()
    page["#numbers"].check()
    audit.look("edited")
    page["#more"].evaluate("(menu) => menu.open = true")
    audit.look("menu")
    page.more("#make-strip")
    page.status("The strip is ready")
    audit.look("strip")
    page.more("#make-animation")
    page.status("The animation is ready")
    audit.look("animation")
    page.more("#copy-curl")
    page["#code:not(:empty)"].wait_for()
    audit.look("code")
    page["#file"].set_input_files([small, couple])
    page["#batch[open]"].wait_for()
    audit.look("many files")
    page["#batch-close"].click()
    with page.page.expect_request("**/v1/encode"):
        page.page.route("**/v1/encode", lambda route: None)  # is never answered
        page["#file"].set_input_files(small)
    audit.look("opening")
    page["#opening-cancel"].click()
    page.page.unroute("**/v1/encode")
    page["#sources [data-source=camera]"].dispatch_event("click")
    page["#camera[open]"].wait_for()
    audit.look("camera")
    page["#camera-cancel"].click()
    assert audit.found == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_where_something_goes_wrong(page: Page, tmp_path: Path, scheme: str):
    audit = Auditor(page)
    page.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0nothing")
    page["#file"].set_input_files(broken)
    page.problem("This file is broken")
    audit.look("problem")
    assert audit.found == []


def test_axe_finds_nothing_where_a_key_is_asked_for(context, strict_server: tuple[str, str]):
    page = Page(context.new_page(), strict_server[0], ready=False)
    audit = Auditor(page)
    page["#key-value"].fill("facet_wrong")
    page["#key-value"].press("Enter")
    page["#key-note:visible"].wait_for()
    audit.look("key")
    page.page.close()
    assert audit.found == []
