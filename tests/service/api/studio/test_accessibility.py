"""The page by keyboard, by names of its controls, and on a phone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.service.api.studio.page import Page, change

pytestmark = pytest.mark.slow  # a browser, and a service in a process of its own


def test_everything_works_by_keyboard(page: Page):
    keyboard = page.page.keyboard

    def tab_to(selector: str) -> None:
        for _ in range(60):
            if page[f"{selector}:focus"].count():
                return
            keyboard.press("Tab")
        raise AssertionError(f"{selector} is never reached")

    tab_to("#welcome [data-source=random]")
    keyboard.press("Enter")
    page.status("seed")
    before = page.seen()
    tab_to("#stage")
    tab_to("#divider")
    keyboard.press("End")
    assert page["#stage[data-divided]"].count() == 1
    assert page["#divider"].get_attribute("aria-valuetext") == "100 % before"
    keyboard.press("Home")
    tab_to("#strength-value")
    tab_to("#attribute-Smiling")
    for key in ("Home", "End"):
        with page.edited():
            keyboard.press(key)
    assert change(before, page.seen()).max() > 5
    tab_to("#reset")
    keyboard.press("Enter")
    page["#timing:empty"].wait_for(state="attached")
    assert np.array_equal(page.seen(), before)
    tab_to("#download")
    with page.page.expect_download():
        keyboard.press("Enter")


def test_the_menu_closes_as_menus_do_and_keeps_the_focus(page: Page, small: Path):
    page.open(small)
    page["#more summary"].click()
    page.page.keyboard.press("Tab")
    assert page["#make-strip:focus"].count() == 1
    page.page.keyboard.press("Escape")
    assert page["#more[open]"].count() == 0
    assert page["#more summary:focus"].count() == 1
    page.page.keyboard.press("Enter")
    page.page.keyboard.press("Shift+Tab")
    assert page["#more[open]"].count() == 0
    page["#more summary"].click()
    page["#panel h2"].click()
    assert page["#more[open]"].count() == 0


def test_every_control_has_a_name(page: Page):
    page["#welcome [data-source=random]"].click()
    page.status("seed")
    page["#sensitive"].check()
    unnamed = page["button, input:not([type=file]), select, a"].evaluate_all(
        """(all) => all.filter((e) => e.checkVisibility())
            .filter((e) => !(e.ariaLabel || e.labels?.[0]?.textContent.trim() || e.textContent.trim()))
            .map((e) => e.outerHTML)"""
    )
    assert unnamed == []


def test_it_fits_a_phone_and_no_policy_is_broken(browser, server: str, couple: Path):
    context = browser.new_context(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    try:
        page = Page(context.new_page(), server)
        page.open(couple)
        page.slide("Smiling", -1)
        page.more("#make-strip")
        page.status("The strip is ready")
        page.more("#copy-python")
        page["#code:not(:empty)"].wait_for()
        assert page.page.evaluate("document.documentElement.scrollWidth") == 360
        assert (page.complaints, page.foreign) == ([], [])
    finally:
        context.close()
