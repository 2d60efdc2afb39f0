"""The page at /docs shows the interface, and loads nothing from anywhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.api import pages
from service.settings import Settings
from tests.service import fakes
from tests.service.api.studio.conftest import ARGUMENTS, CHROMIUM
from tests.service.api.test_openapi import CALLS
from tests.service.fakes import TestClient


def content(name: str) -> bytes:
    path, _ = pages.REFERENCE.lookup_path(name)
    return Path(path).read_bytes()


def test_everything_that_the_page_names_is_there(client: TestClient):
    page = client.get("/docs").text
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {"docs/swagger-ui-bundle.js", "docs/swagger-ui.css", "docs/start.js", "openapi.json"} <= set(named)
    for path in named:
        assert client.get(f"/{path}").status_code == 200


def test_nobody_else_is_mentioned_and_nothing_is_inline():
    page = content(pages.PAGE).decode()
    assert not re.findall(r"//[\w-]+\.|<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", page)
    start = content("start.js").decode()
    assert "validatorUrl: null" in start
    assert "http" not in start


def test_the_library_is_a_current_one():
    assert b"SwaggerUIBundle" in content("swagger-ui-bundle.js")


@pytest.mark.parametrize("path", ["/docs/index.html", "/docs/nothing.js", "/docs/__init__.py", "/redoc"])
def test_nothing_else_is_served(client: TestClient, path: str):
    fakes.problem(client.get(path), 404)


@pytest.mark.slow
def test_every_call_works_as_it_is_filled_in(settings: Settings):
    """In the browser: as JSON, and as a form once a picture is chosen."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there (apt-get install chromium)")
    app = fakes.application(settings.model_copy(update={"max_count": 8, "max_image_pixels": 10**6}))
    picture = {"name": "face.png", "mimeType": "image/png", "buffer": fakes.grey(60)}
    statuses = {}
    with fakes.listening(app) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        page.set_default_timeout(1000 * fakes.PATIENCE)
        page.goto(f"http://{address}/docs")
        for path in CALLS:
            call = page.locator(".opblock").filter(has=page.locator(f'[data-path="{path}"]'))
            call.locator(".opblock-summary").click()
            call.locator(".execute").wait_for()
            for kind in ["application/json", "multipart/form-data"][: 1 + (path != "/v1/generate")]:
                if kind == "multipart/form-data":
                    call.locator(".opblock-section-request-body select").first.select_option(kind)
                    call.locator("input[type=file]").set_input_files(picture)
                with page.expect_response(lambda answer, path=path: answer.url.endswith(path)) as answered:
                    call.locator(".execute").click()
                statuses[path, kind] = answered.value.status
            call.locator(".opblock-summary").click()
        browser.close()
    assert statuses == dict.fromkeys(statuses, 200)
    assert len(statuses) == 11
