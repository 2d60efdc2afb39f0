"""The page and the documentation of a service that asks for a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.api.studio.page import Page, change

pytestmark = pytest.mark.slow  # a browser, and a service in a process of its own


def test_a_service_that_asks_for_a_key_gets_it_from_the_user(context, strict_server: tuple[str, str], photo: Path):
    server, token = strict_server
    page = Page(context.new_page(), server, ready=False)
    page["#key-value"].fill("facet_wrong")
    page["#key-value"].press("Enter")
    page["#key-note:visible"].wait_for()
    page["#key-value"].fill(token)
    page["#key button[type=submit]"].click()
    page["body[data-ready]"].wait_for()
    page.complaints.clear()  # the browser's own notes of 401
    page.open(photo)
    before = page.seen()
    page.slide("Smiling", -1)
    assert change(before, page.seen()).max() > 5
    # What the operator has not enabled is not there at all.
    assert page["#sensitive"].count() == page.slider("Young").count() == 0
    for language, word in (("curl", "curl -fsS"), ("python", "import httpx")):
        page.more(f"#copy-{language}")
        page[f"#code:has-text('{word}')"].wait_for()
        page.status("Copied")
        text = page["#code"].inner_text()
        assert "FACET_KEY" in text
        assert "Bearer" in text
        assert token not in text
    assert token not in page.page.content()
    assert page.page.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0
    page.page.reload()  # the tab keeps it
    page["body[data-ready]"].wait_for()
    assert (page.complaints, page.foreign) == ([], [])
    page.page.close()


def test_whoever_has_no_key_is_told_so(context, strict_server: tuple[str, str]):
    page = Page(context.new_page(), strict_server[0], ready=False)
    page["#key-value"].wait_for()
    page["#key-cancel"].click()
    assert "Bearer" in page.problem("This service asks for a key")
    page["#problem-action"].click()
    page["#key-value"].wait_for()  # it may be tried again
    page.page.close()


def test_the_page_of_documentation_works_and_breaks_no_policy(context, strict_server: tuple[str, str]):
    server, token = strict_server
    page = Page(context.new_page(), server, ready=False)
    page.complaints.clear()
    page.page.goto(f"{server}/docs")
    page["button.authorize"].first.click()
    page["#auth-bearer-value, .auth-container input"].first.fill(token)
    page[".auth-btn-wrapper button.authorize"].first.click()
    page[".auth-btn-wrapper .btn-done"].first.click()
    page["[id$=list_models_v1_models_get] .opblock-summary-control"].click()
    page["[id$=list_models_v1_models_get] button.execute"].click()
    page["[id$=list_models_v1_models_get] .live-responses-table .response-col_status:text('200')"].wait_for()
    assert [text for text in page.complaints if "401" not in text] == []
    assert page.foreign == []
    page.page.close()
